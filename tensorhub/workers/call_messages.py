"""A call of a model, as the messages that go to another worker and come back from it.

Tensors up to the inline limit are inside the message; larger ones are copied into this worker's arena, and copied out
of the other one's when they come back, so that they belong to the caller alone.
"""

from collections.abc import Callable

from tensorhub.backends.calling import ModelCall
from tensorhub.frontend.catalog import ServedVersion
from tensorhub.frontend.port import INLINE_LIMIT, InferReply, PlacedInput, Reservation
from tensorhub.protocol import messages
from tensorhub.protocol.parameters import write_parameter
from tensorhub.requests import FLAG_SEQUENCE_END, FLAG_SEQUENCE_START, InferResponse, Parameter, Tensor, flat_view
from tensorhub.tensors import BY_NAME


def write_request(
    call: ModelCall, target: ServedVersion, reserve: Callable[[int], Reservation]
) -> tuple[bytes, list[PlacedInput]]:
    """Write a call as the body of an INFER message.

    Returns:
        The serialised `inference.ModelInferRequest`, as our HTTP frontend would write it, and what lies in the arena.

    Raises:
        Unavailable: the arena is full; nothing is left in it.
    """
    message = messages.ModelInferRequest(model_name=target.model, model_version=str(target.version), id=call.request_id)
    placed: list[PlacedInput] = []
    try:
        for index, tensor in enumerate(call.inputs):
            message.inputs.add(name=tensor.name, datatype=tensor.datatype.value, shape=tensor.shape)
            data = flat_view(tensor.data)
            size = len(data)
            if size <= INLINE_LIMIT:
                message.raw_input_contents.append(bytes(data))
                continue
            block = reserve(size)
            placed.append(PlacedInput(index, block, 0, size))
            block.view[:size] = data
    except BaseException:
        for item in placed:
            item.reservation.free()
        raise
    for name in call.requested:
        message.outputs.add(name=name)
    for name, value in _parameters(call).items():
        write_parameter(message.parameters[name], value)
    return message.SerializeToString(), placed


def _parameters(call: ModelCall) -> dict[str, Parameter]:
    parameters = dict(call.parameters)
    if call.correlation_id:
        parameters["sequence_id"] = call.correlation_id
        parameters["sequence_start"] = bool(call.flags & FLAG_SEQUENCE_START)
        parameters["sequence_end"] = bool(call.flags & FLAG_SEQUENCE_END)
    if call.priority:
        parameters["priority"] = call.priority
    if call.timeout_us:
        parameters["timeout"] = call.timeout_us
    return parameters


def read_reply(reply: InferReply) -> InferResponse:
    """Read an answer without an error; it holds nothing of the other worker afterwards.

    Raises:
        DecodeError: it is no ModelInferResponse.
    """
    try:
        message = messages.ModelInferResponse.FromString(reply.response)
        contents = message.raw_output_contents if reply.outputs is None else reply.outputs
        outputs = [
            Tensor(item.name, BY_NAME[item.datatype], tuple(item.shape), bytearray(data))
            for item, data in zip(message.outputs, contents, strict=True)
        ]
        parameters = {
            name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in message.parameters.items()
        }
        return InferResponse(outputs, parameters)
    finally:
        reply.release()
