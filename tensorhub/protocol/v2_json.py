"""The infer call in KServe v2 JSON with the binary tensor data extension, to and from protocol buffers. Pure.

    HTTP body = JSON part [binary part]      Inference-Header-Content-Length says how long the JSON part is
    raw body  = the bytes of the only input  when that length is 0

Strategy: a request becomes one `inference.ModelInferRequest`, so that workers know one form only. Tensors of the binary
part are never copied if the body lies in an arena already: they become ranges of it. What the worker need not know (who
wants JSON, who wants binary) stays behind in a ResponsePlan, which turns the worker's answer into the HTTP body.

The order of the checks and their texts are those of Triton's HTTP server (EVRequestToTritonRequest and what it calls).
What concerns the model's config is the worker's to judge, but for raw requests, which only the config makes a request.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import orjson

from tensorhub.errors import InternalError, InvalidArgument, TensorhubError, Unsupported
from tensorhub.protocol import json_tensors, json_text, messages
from tensorhub.protocol.json_text import MAX_INT64, MAX_UINT64, MIN_INT64, Buffer
from tensorhub.tensors import BY_NAME, DataType, element_count

DEFAULT_MAX_INPUT_SIZE = 64 * 1024 * 1024
"""Bytes; Triton's default of --http-max-input-size."""

MAX_CORRELATION_ID_SIZE = 128
"""Bytes of a correlation id that is a string."""

ID_UNKNOWN = "<id_unknown>"


class Target(Protocol):
    """What must be known of the model that will run a request."""

    @property
    def model(self) -> str: ...

    @property
    def config(self) -> Any:
        """The complete `inference.ModelConfig`."""


class BodyRange(NamedTuple):
    """An input whose bytes are a piece of the HTTP body, which lies in an arena."""

    input_index: int
    offset: int
    byte_size: int


class LargeInput(NamedTuple):
    """An input that is too big for the message, and that lies nowhere yet."""

    input_index: int
    data: Buffer


@dataclass(frozen=True, slots=True)
class ResponsePlan:
    """How the client wants its outputs.

    Attributes:
        binary: for outputs that are not in `listed`.
        listed: output name to whether it is wanted in binary.
    """

    binary: bool = False
    listed: Mapping[str, bool] = field(default_factory=dict)

    def wants_binary(self, name: str) -> bool:
        """Whether the data of an output goes behind the JSON part and not into it."""
        return self.listed.get(name, self.binary)


JSON_PLAN = ResponsePlan()
BINARY_PLAN = ResponsePlan(binary=True)


class HttpInfer(NamedTuple):
    """A decoded infer call.

    Attributes:
        request: `inference.ModelInferRequest`; inputs of `ranges` and `large` have no contents in it.
        ranges: offsets count from the start of the body.
        large: byte order and encoding of the wire.
    """

    request: Any
    plan: ResponsePlan
    ranges: Sequence[BodyRange] = ()
    large: Sequence[LargeInput] = ()


class Limits(NamedTuple):
    """What a request may cost.

    Attributes:
        max_input_size: bytes of the JSON part, of each tensor in JSON, of a raw body.
        inline_size: bytes of a tensor that may travel inside the message.
    """

    max_input_size: int = DEFAULT_MAX_INPUT_SIZE
    inline_size: int = 64 * 1024


class EncodedReply(NamedTuple):
    """An HTTP body, in pieces that are to be sent in order.

    Attributes:
        json_size: length of the first chunk if tensors follow it, else None: the body is JSON alone.
        chunks: the JSON part, then the binary outputs; views of the reply's memory.
    """

    json_size: int | None
    chunks: list[bytes | memoryview]


def check_json_size(byte_size: int, limits: Limits) -> None:
    """Raises: InvalidArgument: the JSON part is too long; call it before reading that much."""
    if byte_size > limits.max_input_size:
        raise InvalidArgument(
            f"request JSON size of {byte_size} bytes exceeds the maximum allowed input size of "
            f"{limits.max_input_size} bytes. Use --http-max-input-size to increase the limit."
        )


def check_raw_size(byte_size: int, limits: Limits) -> None:
    """Raises: InvalidArgument: the body of a raw request is too long; call it before reading that much."""
    if byte_size > limits.max_input_size:
        raise InvalidArgument(
            f"Raw input has a byte_size ({byte_size} bytes) that exceeds the maximum allowed value of "
            f"{limits.max_input_size} bytes. Use --http-max-input-size to increase the limit."
        )


def parse_header_length(text: str, body_size: int) -> int:
    """Read Inference-Header-Content-Length as C's `stoi` does: leading blanks, a sign, and as many digits as there are.

    Raises:
        InvalidArgument: no number, or one that does not fit the body.
    """
    name = "Inference-Header-Content-Length"
    number = int(text) if len(text) < 20 and text.isdecimal() and text.isascii() else _stoi(text)
    if number is None:
        raise InvalidArgument(f"Unable to parse {name}, got: {text}")
    if not -(2**31) <= number < 2**31:
        raise InvalidArgument(f"Unable to parse {name}, value is out of range [ -2147483648, 2147483647 ], got: {text}")
    if not 0 <= number <= body_size:
        raise InvalidArgument(f"inference header size should be in range (0, {body_size}), got: {text}")
    return number


def _stoi(text: str) -> int | None:
    rest = text.lstrip(" \t\n\v\f\r")
    sign = -1 if rest.startswith("-") else 1
    digits = rest[1:] if rest[:1] in ("+", "-") else rest
    end = 0
    while end < len(digits) and "0" <= digits[end] <= "9":
        end += 1
    # A number of more digits is out of range anyhow, and int() has a limit of its own.
    return sign * int(digits[: min(end, 20)]) if end else None


def decode_infer(
    body: Buffer, header_length: int, target: Target, limits: Limits, *, in_arena: bool = False
) -> HttpInfer:
    """Decode the body of an infer call.

    Args:
        body: the whole body, decompressed.
        header_length: of the JSON part; the body's length if the client sent no header; 0 for a raw request.
        target: the model that will run it.
        in_arena: the body lies in an arena, with its binary part aligned for every datatype: make ranges of the
            tensors, except of those that other tensors before them have put at an address of no use. Otherwise all are
            copied out of it.

    Raises:
        TensorhubError: Triton's error for what is wrong first.
    """
    if header_length == 0:
        return _decode_raw(body, target, limits, in_arena)
    check_json_size(header_length, limits)
    document = json_text.parse(body if header_length == len(body) else memoryview(body)[:header_length])
    if type(document) is not dict:
        raise _missing_inputs()
    request = messages.ModelInferRequest(model_name=target.model)
    if "id" in document:
        request.id = c_string(_field("id", json_text.as_string, document["id"]))
    binary_by_default = "parameters" in document and _decode_parameters(document["parameters"], request.parameters)
    inputs = _InputDecoder(body, header_length, target.model, request, limits, in_arena)
    try:
        tensors = document["inputs"]
    except KeyError:
        raise _missing_inputs() from None
    for tensor in _field("inputs", json_text.as_array, tensors):
        inputs.add(tensor)
    inputs.finish()
    if "outputs" in document:
        plan = _decode_outputs(_field("outputs", json_text.as_array, document["outputs"]), request, binary_by_default)
    else:
        plan = BINARY_PLAN if binary_by_default else JSON_PLAN
    return HttpInfer(request, plan, inputs.ranges, inputs.large)


def _missing_inputs() -> InternalError:
    return InternalError("Unable to parse 'inputs': attempt to access non-existing object member 'inputs'")


def _field(name: str, read: Any, value: Any) -> Any:
    try:
        return read(value)
    except TensorhubError as exc:
        raise json_text.in_field(name, exc) from None


def c_string(text: str) -> str:
    """Ids and parameters are C strings in Triton: they end at a NUL."""
    return text.partition("\0")[0] if "\0" in text else text


# --- parameters of the request


def _decode_parameters(parameters: Any, into: Any) -> bool:
    """Copy the request's parameters; return whether outputs are binary by default."""
    binary = False
    try:
        items = json_text.members(parameters)
    except InternalError as exc:
        raise InternalError(f"failed to get request params.: {exc.message}") from None
    for name, value in items.items():
        if name == "binary_data_output":
            binary = _field(name, json_text.as_bool, value)
        elif name == "sequence_id":
            _set_correlation_id(into[name], value)
        elif name in ("sequence_start", "sequence_end"):
            if _field(name, json_text.as_bool, value):
                into[name].bool_param = True
        elif name in ("priority", "timeout"):
            _set_uint(into[name], _field(name, json_text.as_uint, value))
        elif name.startswith("triton_"):
            raise InvalidArgument(
                "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified."
            )
        else:
            set_custom(into, name, value)
    return binary


def _set_correlation_id(parameter: Any, value: Any) -> None:
    if type(value) is int and 0 <= value <= MAX_UINT64:
        _set_uint(parameter, value)
        return
    text = c_string(_field("sequence_id", json_text.as_string, value))
    if len(text.encode()) > MAX_CORRELATION_ID_SIZE:
        raise Unsupported(f"string correlation ID cannot be longer than {MAX_CORRELATION_ID_SIZE} characters")
    parameter.string_param = text


def _set_uint(parameter: Any, value: int) -> None:
    if value <= MAX_INT64:
        parameter.int64_param = value
    else:
        parameter.uint64_param = value


def set_custom(into: Any, name: str, value: Any) -> None:
    kind = type(value)
    name = c_string(name)
    if kind is str:
        into[name].string_param = c_string(value)
    elif kind is int and MIN_INT64 <= value <= MAX_INT64:
        into[name].int64_param = value
    elif kind is bool:
        into[name].bool_param = value
    elif kind is int or kind is float:
        into[name].double_param = value
    else:
        raise InvalidArgument(f"parameter '{name}' has invalid type. It should be either 'int', 'bool', or 'string'.")


# --- inputs


class _InputDecoder:
    """Reads the inputs in their order, and the binary part along with them."""

    __slots__ = (
        "_body",
        "_cursor",
        "_header_length",
        "_in_arena",
        "_limits",
        "_model",
        "_names",
        "_request",
        "large",
        "ranges",
    )

    def __init__(
        self, body: Buffer, header_length: int, model: str, request: Any, limits: Limits, in_arena: bool
    ) -> None:
        self._body = body
        self._header_length = header_length
        self._cursor = header_length
        self._model = model
        self._request = request
        self._limits = limits
        self._in_arena = in_arena
        self._names: set[str] = set()
        self.ranges: list[BodyRange] = []
        self.large: list[LargeInput] = []

    def add(self, tensor: Any) -> None:
        """Read one input."""
        parameters = _check_one_source(tensor)
        name, datatype, shape = tensor.get("name"), tensor.get("datatype"), tensor.get("shape")
        # PERF: one look at what is nearly always right; the checks below find out in their order what is wrong.
        if type(name) is not str or type(datatype) is not str or not _is_plain_shape(shape):
            name = _member("name", tensor, json_text.as_string)
            datatype = _member("datatype", tensor, json_text.as_string)
            shape = _member("shape", tensor, _as_shape)
        if name in self._names:
            raise InvalidArgument(
                f"[request id: {self._request.id or ID_UNKNOWN}] input '{name}' already exists in request"
            )
        index = len(self._names)
        self._names.add(name)
        message = self._request.inputs.add(name=name, datatype=datatype, shape=shape)
        if "binary_data_size" in parameters:
            self._add_binary(index, name, datatype, parameters["binary_data_size"])
        elif "shared_memory_region" in parameters:
            _set_region(message.parameters, parameters)
        else:
            self._add_inline(
                index, json_tensors.from_json(name, datatype, shape, tensor["data"], self._limits.max_input_size)
            )

    def _add_binary(self, index: int, name: str, datatype: str, size: Any) -> None:
        byte_size = _field("binary_data_size", json_text.as_uint, size)
        start = self._cursor
        missing = start + byte_size - len(self._body)
        if missing > 0:
            raise InvalidArgument(
                f"unexpected size for input '{name}', expecting {missing} additional bytes for model '{self._model}'"
            )
        self._cursor = start + byte_size
        if not self._in_arena:
            self._add_inline(index, self._body[start : self._cursor])
        elif byte_size == 0:
            self._request.raw_input_contents.append(b"")
        elif (start - self._header_length) % _alignment(datatype):
            self._add_inline(index, self._body[start : self._cursor])
        else:
            self.ranges.append(BodyRange(index, start, byte_size))

    def _add_inline(self, index: int, data: Buffer) -> None:
        if len(data) > self._limits.inline_size:
            self.large.append(LargeInput(index, data))
        else:
            self._request.raw_input_contents.append(data if type(data) is bytes else bytes(data))

    def finish(self) -> None:
        """Check that nothing is left of the binary part."""
        if self._cursor != len(self._body):
            raise InvalidArgument(f"unexpected additional input data for model '{self._model}'")


def _alignment(datatype: str) -> int:
    """Bytes that a tensor's address must be a multiple of, for the model that gets a view of it."""
    known = BY_NAME.get(datatype)
    return known.item_size or 1 if known is not None else 1


_NO_PARAMETERS: dict[str, Any] = {}
_SOURCES = "'data', 'binary_data_size' in 'parameters', 'shared_memory_region' in 'parameters'"


def _check_one_source(tensor: Any) -> dict[str, Any]:
    """Return the input's parameters, once it is clear that its data has exactly one source."""
    if type(tensor) is not dict:
        tensor = _NO_PARAMETERS
    parameters: dict[str, Any] = tensor.get("parameters", _NO_PARAMETERS)
    if type(parameters) is not dict:
        parameters = _NO_PARAMETERS
    inline, binary, region = (
        "data" in tensor,
        "binary_data_size" in parameters,
        "shared_memory_region" in parameters,
    )
    if inline + binary + region != 1:
        named = zip(("'data'", "'binary_data_size'", "'shared_memory_region'"), (inline, binary, region), strict=True)
        found = [name for name, is_set in named if is_set]
        state = " ".join(("set", *found)) if found else "no field is set"
        raise InvalidArgument(f"Input must set only one of the following fields: {_SOURCES}. But {state}")
    return parameters


def _member(name: str, tensor: Any, read: Any) -> Any:
    try:
        return read(json_text.member(tensor, name))
    except TensorhubError as exc:
        raise json_text.in_field(name, exc) from None


_ONLY_INTS = frozenset((int,))


def _is_plain_shape(value: Any) -> bool:
    if type(value) is not list or not _ONLY_INTS.issuperset(map(type, value)):
        return False
    return not value or (min(value) >= 0 and max(value) <= MAX_INT64)


def _as_shape(value: Any) -> list[int]:
    """Dimensions, as int64: what is above it becomes negative, and is refused as such."""
    shape = json_text.as_array(value)
    for index, dimension in enumerate(shape):
        if json_text.as_uint(dimension) > MAX_INT64:
            shape[index] = dimension - 2**64
    return shape


def _set_region(into: Any, parameters: dict[str, Any]) -> None:
    into["shared_memory_region"].string_param = _field(
        "shared_memory_region", json_text.as_string, parameters["shared_memory_region"]
    )
    if "shared_memory_offset" in parameters:
        offset = _field("shared_memory_offset", json_text.as_uint, parameters["shared_memory_offset"])
        if offset:
            _set_uint(into["shared_memory_offset"], offset)
    _set_uint(
        into["shared_memory_byte_size"],
        _field("shared_memory_byte_size", json_text.as_uint, parameters.get("shared_memory_byte_size", 0)),
    )


# --- outputs


def _decode_outputs(outputs: list[Any], request: Any, binary_by_default: bool) -> ResponsePlan:
    listed: dict[str, bool] = {}
    for output in outputs:
        parameters = output.get("parameters", _NO_PARAMETERS) if type(output) is dict else _NO_PARAMETERS
        if type(parameters) is not dict:
            parameters = _NO_PARAMETERS
        if "shared_memory_region" in parameters:
            _check_region_output(parameters)
        name = _member("name", output, json_text.as_string)
        repeated = name in listed
        # An output that is listed twice counts once, the first time; but it is read, so that its errors show.
        message = request.outputs.add(name=name) if not repeated else messages.ModelInferRequest().outputs.add()
        binary = _decode_output(parameters, message.parameters) if parameters else False
        if not repeated:
            listed[name] = binary
    return ResponsePlan(binary_by_default, listed)


def _check_region_output(parameters: dict[str, Any]) -> None:
    if "classification" in parameters:
        raise InvalidArgument("Output can't set both 'shared_memory_region' and 'classification'")
    if "binary_data" in parameters:
        try:
            binary = json_text.as_bool(parameters["binary_data"])
        except InternalError as exc:
            raise InternalError(f"Unable to set 'binary_data': {exc.message}") from None
        if binary:
            raise InvalidArgument("Output can't set both 'shared_memory_region' and 'binary_data'")


def _decode_output(parameters: dict[str, Any], into: Any) -> bool:
    """Copy what the worker must know; return whether the output is wanted in binary."""
    if "classification" in parameters:
        try:
            classes = json_text.as_uint(parameters["classification"])
        except InternalError as exc:
            raise InternalError(f"Unable to set 'classification': {exc.message}") from None
        if classes:
            _set_uint(into["classification"], classes)
    if "shared_memory_region" in parameters:
        _set_region(into, parameters)
        if "shared_memory_grow" in parameters:
            grow = _field("shared_memory_grow", json_text.as_bool, parameters["shared_memory_grow"])
            into["shared_memory_grow"].bool_param = grow
        return False
    return "binary_data" in parameters and bool(_field("binary_data", json_text.as_bool, parameters["binary_data"]))


# --- raw requests


def _decode_raw(body: Buffer, target: Target, limits: Limits, in_arena: bool) -> HttpInfer:
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


# --- responses


def encode_infer(
    plan: ResponsePlan, response_bytes: bytes, outputs: Sequence[bytes | memoryview] | None
) -> EncodedReply:
    """Encode a worker's answer.

    Args:
        response_bytes: a serialised `inference.ModelInferResponse`. An output with the parameter
            `shared_memory_region` has been written there: it is shown without data.
        outputs: the raw contents, if they are not inside; views of them are in the result.

    Raises:
        InvalidArgument: an output of a type that JSON cannot carry is wanted in JSON.
        InternalError: an output's size contradicts its shape.
    """
    response = messages.ModelInferResponse.FromString(response_bytes)
    contents = response.raw_output_contents if outputs is None else outputs
    document = describe(response)
    chunks: list[bytes | memoryview] = [b""]
    for entry, tensor, data in zip(document["outputs"], response.outputs, contents, strict=True):
        if "shared_memory_region" in tensor.parameters:
            pass
        elif plan.wants_binary(entry["name"]):
            entry["parameters"] = {"binary_data_size": len(data)}
            if len(data):
                chunks.append(data)
        else:
            entry["data"] = json_tensors.to_json(entry["name"], entry["datatype"], entry["shape"], data)
    chunks[0] = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return EncodedReply(len(chunks[0]) if len(chunks) > 1 else None, chunks)


def describe(response: Any) -> dict[str, Any]:
    """Return the JSON document of an `inference.ModelInferResponse`, without the data of its outputs."""
    document: dict[str, Any] = {}
    if response.id:
        document["id"] = response.id
    document["model_name"] = response.model_name
    document["model_version"] = response.model_version
    if response.parameters:
        document["parameters"] = {name: parameter_value(value) for name, value in response.parameters.items()}
    document["outputs"] = [
        {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)} for tensor in response.outputs
    ]
    for entry, tensor in zip(document["outputs"], response.outputs, strict=True):
        if "shared_memory_byte_size" in tensor.parameters:
            # The region was made as large as the output needed: the client learns how much that is.
            entry["parameters"] = {"shared_memory_byte_size": tensor.parameters["shared_memory_byte_size"].int64_param}
    return document


def parameter_value(parameter: Any) -> Any:
    choice = parameter.WhichOneof("parameter_choice")
    if choice == "double_param":
        return orjson.Fragment(json_text.double(parameter.double_param).encode())
    return getattr(parameter, choice) if choice else None
