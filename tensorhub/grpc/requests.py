"""From a client's ModelInferRequest to what a worker gets, for the unary call and the stream alike.

Of a small request only the model's name and version are of interest here. The large tensors of a large one are copied
once, from the message into this process's arena, and taken out of the message.
"""

from typing import Any, NamedTuple

from tensorhub.errors import InternalError, InvalidArgument
from tensorhub.frontend.port import ALIGNMENT, INLINE_LIMIT, GatewayPort, PlacedInput
from tensorhub.grpc.answering import UNPARSABLE, parse
from tensorhub.ipc.wire import MAX_BODY_SIZE
from tensorhub.protocol import messages
from tensorhub.protocol.grpc_frames import FrameError, join_request, split_request

_ModelInferRequest = messages.ModelInferRequest
_REGION = "shared_memory_region"


class Incoming(NamedTuple):
    """A request that has been looked at.

    Attributes:
        head: the `inference.ModelInferRequest`; of a large message without its raw contents.
        message: the client's bytes, unless `others` holds them.
        others, raw_inputs: the parts of a message with large raw contents: views on the client's bytes.
    """

    head: Any
    message: bytes
    others: list[memoryview] | None = None
    raw_inputs: list[memoryview] | None = None


def read_request(message: bytes) -> Incoming:
    """Look at a request.

    Raises:
        InternalError: the bytes are none.
    """
    if len(message) <= INLINE_LIMIT:
        return Incoming(parse(_ModelInferRequest, message), message)
    try:
        others, raw_inputs = split_request(message)
    except FrameError as exc:
        raise InternalError(UNPARSABLE) from exc
    head = parse(_ModelInferRequest, b"".join(others))
    if all(len(data) <= INLINE_LIMIT for data in raw_inputs):
        return Incoming(head, message)
    return Incoming(head, b"", others, raw_inputs)


def place(incoming: Incoming, gateway: GatewayPort) -> tuple[bytes, list[PlacedInput] | tuple[()]]:
    """Copy the large raw contents of a request into the arena.

    Returns:
        The body for the worker and the inputs that it does not contain, which the caller owns.

    Raises:
        InvalidArgument: what is left is still too large.
        Unavailable: the arena is full.
    """
    if incoming.raw_inputs is None or incoming.others is None:
        return _checked(incoming.message), ()
    large = {index: data for index, data in enumerate(incoming.raw_inputs) if len(data) > INLINE_LIMIT}
    small = [data for data in incoming.raw_inputs if len(data) <= INLINE_LIMIT]
    body = _checked(join_request(incoming.others, small))
    return body, _place(incoming.head, large, gateway)


def _place(request: Any, large: dict[int, memoryview], gateway: GatewayPort) -> list[PlacedInput]:
    """Args: large: by their position in raw_input_contents, which has an entry for each input that is in no region."""
    without_region = (index for index, tensor in enumerate(request.inputs) if _REGION not in tensor.parameters)
    # Entries beyond the inputs are ignored, as in Triton.
    places = [(index, large[raw]) for raw, index in enumerate(without_region) if raw in large]
    offsets = []
    total = 0
    for _, data in places:
        offsets.append(total)
        total += -(-len(data) // ALIGNMENT) * ALIGNMENT
    if not places:
        return []
    reservation = gateway.reserve(total)
    for (_, data), offset in zip(places, offsets, strict=True):
        reservation.view[offset : offset + len(data)] = data
    return [
        PlacedInput(index, reservation, offset, len(data))
        for (index, data), offset in zip(places, offsets, strict=True)
    ]


def _checked(body: bytes) -> bytes:
    if len(body) > MAX_BODY_SIZE:
        raise InvalidArgument(
            f"the request has {len(body)} bytes beside large entries of raw_input_contents; allowed are "
            f"{MAX_BODY_SIZE}. Send large tensors in raw_input_contents or through shared memory"
        )
    return body
