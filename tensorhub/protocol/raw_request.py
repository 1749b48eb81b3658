"""Raw requests: the body is the data of the only input, and all else follows from the model's config. Pure."""

from tensorhub.errors import InvalidArgument
from tensorhub.protocol import json_tensors, messages
from tensorhub.protocol.http_infer import (
    BINARY_PLAN,
    ID_UNKNOWN,
    BodyRange,
    HttpInfer,
    LargeInput,
    Limits,
    Target,
    check_raw_size,
)
from tensorhub.protocol.json_text import Buffer
from tensorhub.tensors import DataType, element_count


def decode_raw(body: Buffer, target: Target, limits: Limits, in_arena: bool) -> HttpInfer:
    """Decode a body that is all data; see `json_request.decode_infer`.

    Raises:
        InvalidArgument: Triton's error for what is wrong first.
    """
    check_raw_size(len(body), limits)
    config = target.config
    if len(config.input) != 1:
        raise _raw_error(
            f"Raw request must only have 1 input (found 1) to be deduced but got {len(config.input)} inputs in "
            f"'{target.model}' model configuration"
        )
    spec = config.input[0]
    datatype = DataType.from_config(spec.data_type)
    dims = list(spec.dims)
    request = messages.ModelInferRequest(model_name=target.model)
    ranges: list[BodyRange] = []
    large: list[LargeInput] = []
    data: Buffer = body
    if datatype is DataType.BYTES:
        if dims.count(-1) or element_count(dims) != 1:
            raise _raw_error(f"For BYTE datatype raw input '{spec.name}', the model must have input shape [1]")
        data = json_tensors.bytes_element(body)
    else:
        dims = _raw_shape(spec.name, dims, len(body), datatype.item_size)
        expected = element_count(dims) * datatype.item_size
        if expected != len(body):
            raise _raw_error(
                f"input byte size mismatch for input 'raw_input' for model '{target.model}'. Expected {expected}, "
                f"got {len(body)}"
            )
    if config.max_batch_size > 0:
        dims.insert(0, 1)
    request.inputs.add(name=spec.name, datatype=datatype.value, shape=dims)
    if in_arena and data is body and data:
        ranges.append(BodyRange(0, 0, len(data)))
    elif len(data) > limits.inline_size:
        large.append(LargeInput(0, data))
    else:
        request.raw_input_contents.append(bytes(data))
    return HttpInfer(request, BINARY_PLAN, ranges, large)


def _raw_error(text: str) -> InvalidArgument:
    return InvalidArgument(f"[request id: {ID_UNKNOWN}] {text}")


def _raw_shape(name: str, dims: list[int], byte_size: int, item_size: int) -> list[int]:
    """Solve the one variable dimension from the byte size, rounding down."""
    variable = dims.count(-1)
    if variable > 1:
        raise _raw_error(
            f"The shape of the raw input '{name}' can not be deduced because there are more than one variable-sized "
            "dimension"
        )
    if not variable:
        return dims
    row_size = element_count([dimension for dimension in dims if dimension != -1]) * item_size
    solved = byte_size // row_size if row_size else 0
    return [solved if dimension == -1 else dimension for dimension in dims]
