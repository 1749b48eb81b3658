"""The generate extension: a flat JSON object to an inference request, and a response to a flat JSON object. Pure.

A field whose name is an input's becomes that tensor: a scalar, or an array of one dimension. `parameters` may hold more
fields of the same kinds. Everything else is a parameter of the request, also what elsewhere has a meaning of its own
(`sequence_id`, `priority`, ...). Source of the rules, the order of the checks and the texts: Triton's http_server.cc
and its document on the extension.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from tensorhub.errors import InternalError, InvalidArgument, TensorhubError
from tensorhub.protocol import json_tensors, json_text, json_values, messages
from tensorhub.protocol.http_infer import ID_UNKNOWN, LargeInput, Limits, Target
from tensorhub.protocol.json_parameters import c_string, parameter_value, set_custom
from tensorhub.protocol.json_text import Buffer
from tensorhub.tensors import DataType, element_count

NOT_ONE_RESPONSE = (
    "generate expects model to produce exactly 1 response, use generate stream for model that generates various number "
    "of responses"
)

_PARAMETERS = "parameters"
_RESERVED = ("id", "model_name", "model_version")


class GenerateRequest(NamedTuple):
    """A decoded generate call.

    Attributes:
        request: `inference.ModelInferRequest`; inputs of `large` have no contents in it.
        large: those that are too big for the message.
    """

    request: Any
    large: Sequence[LargeInput]


def decode_generate(body: Buffer, target: Target, limits: Limits) -> GenerateRequest:
    """Decode the body of a generate call for the model `target`.

    Raises:
        TensorhubError: Triton's error for what is wrong first.
    """
    document = json_text.parse(body)
    fields = json_values.members(document)
    decoder = _Decoder(target, limits)
    if "id" in fields:
        decoder.request.id = c_string(json_values.read_field("id", json_values.as_string, fields["id"]))
    for name, value in fields.items():
        if name == _PARAMETERS:
            decoder.add_nested(value)
        else:
            decoder.add(name, value)
    return GenerateRequest(decoder.request, decoder.large)


class _Decoder:
    """Fills the request field by field."""

    def __init__(self, target: Target, limits: Limits) -> None:
        self.request = messages.ModelInferRequest(model_name=target.model)
        self.large: list[LargeInput] = []
        self._limits = limits
        self._specs = {item.name: item for item in target.config.input}
        self._batched = target.config.max_batch_size > 0
        self._names: set[str] = set()
        self._total = 0

    def add(self, name: str, value: Any) -> None:
        """Take a field."""
        spec = self._specs.get(name)
        if spec is None:
            set_custom(self.request.parameters, name, value)
            return
        if name in self._names:
            raise InvalidArgument(
                f"[request id: {self.request.id or ID_UNKNOWN}] input '{name}' already exists in request"
            )
        self._names.add(name)
        elements = value if type(value) is list else [value]
        dims = ([-1] if self._batched else []) + list(spec.dims)
        datatype = DataType.from_config(spec.data_type).value
        try:
            shape = shape_of(name, dims, len(elements))
        except InvalidArgument:
            if datatype == "BYTES":  # Triton measures the strings first
                json_tensors.from_json(name, datatype, [len(elements)], elements, self._limits.max_input_size)
            raise
        json_tensors.check_readable(name, datatype)
        data = json_tensors.from_json(name, datatype, shape, elements, self._limits.max_input_size)
        self._check_total(name, len(data))
        index = len(self.request.inputs)
        self.request.inputs.add(name=name, datatype=datatype, shape=shape)
        if len(data) > self._limits.inline_size:
            self.large.append(LargeInput(index, data))
        else:
            self.request.raw_input_contents.append(data)

    def add_nested(self, value: Any) -> None:
        """Take the fields of `parameters`."""
        if _PARAMETERS in self._specs:
            raise InvalidArgument("Keyword 'parameters' for nested schema also given as input tensor name")
        if type(value) is not dict:
            error = json_values.wrong_type("object", "object")
            raise InternalError(f"Expected JSON object for keyword: 'parameters': {error.message}")
        for name, item in value.items():
            try:
                self.add(name, item)
            except TensorhubError as exc:
                raise type(exc)(f"Converting keyword: 'parameters': {exc.message}") from None

    def _check_total(self, name: str, byte_size: int) -> None:
        """All tensors together may be as large as one."""
        limit = self._limits.max_input_size
        if self._total + byte_size > limit:
            raise InvalidArgument(
                f"request size of {self._total} bytes with input '{name}' of size {byte_size} bytes exceeds the "
                f"maximum allowed input size of {limit}. Use --http-max-input-size to increase the limit."
            )
        self._total += byte_size


def shape_of(name: str, dims: Sequence[int], count: int) -> list[int]:
    """Return the shape of a tensor of `count` elements: the innermost variable dimension takes what the others leave.

    Args:
        name: of the input, for the error.
        dims: of the model's metadata, with the batch dimension as -1.

    Raises:
        InvalidArgument: no shape fits.
    """
    shape = [1 if dimension < 0 else dimension for dimension in dims]
    fixed = element_count(shape)
    variable = max((index for index, dimension in enumerate(dims) if dimension < 0), default=-1)
    left = count // fixed if fixed and count % fixed == 0 else -1
    if left < 0 or (variable < 0 and left != 1):
        raise InvalidArgument(f"The schema can not convert input '{name}' to tensor with proper shape")
    if variable >= 0:
        shape[variable] = left
    return shape


def encode_generate(response_bytes: bytes, outputs: Sequence[bytes | memoryview] | None) -> bytes:
    """Encode a worker's answer as one flat object, with its members in the order of their names.

    Args:
        response_bytes: a serialised `inference.ModelInferResponse`.
        outputs: the raw contents, if they are not inside.

    Raises:
        InvalidArgument: an output is of a type that JSON cannot carry.
        InternalError: an output's size contradicts its shape.
    """
    response = messages.ModelInferResponse.FromString(response_bytes)
    contents = response.raw_output_contents if outputs is None else outputs
    document: dict[str, Any] = {}
    for tensor, data in zip(response.outputs, contents, strict=True):
        document[tensor.name] = _tensor(tensor, data)
    for name, value in response.parameters.items():
        document[name] = parameter_value(value)
    for name in _RESERVED:
        text = getattr(response, name)
        if text or name != "id":
            document[name] = text
    return _dump(document)


def _tensor(tensor: Any, data: bytes | memoryview) -> Any:
    """Return an array; of a tensor with one element, the element."""
    shape = list(tensor.shape)
    value = json_tensors.to_json(tensor.name, tensor.datatype, shape, data)
    if element_count(shape) != 1:
        return value
    return value[0] if type(value) is list else orjson.Fragment(orjson.dumps(value)[1:-1])


def _dump(document: Mapping[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_SORT_KEYS)


def event(data: bytes) -> bytes:
    """Return a server-sent event; JSON text has no line breaks that would need more than one line."""
    return b"data: %b\n\n" % data
