"""The inputs of an infer call in JSON: what each is, and where its data comes from. Pure.

The data of an input is in the JSON part, in the binary part behind it, or in a region of shared memory.
"""

from typing import Any

from tensorhub.errors import InvalidArgument
from tensorhub.protocol import json_tensors, json_values
from tensorhub.protocol.http_infer import ID_UNKNOWN, BodyRange, LargeInput, Limits
from tensorhub.protocol.json_parameters import NO_PARAMETERS, set_region
from tensorhub.protocol.json_text import Buffer
from tensorhub.protocol.json_values import MAX_INT64, read_field, read_member
from tensorhub.tensors import BY_NAME


class InputDecoder:
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
            name = read_member("name", tensor, json_values.as_string)
            datatype = read_member("datatype", tensor, json_values.as_string)
            shape = read_member("shape", tensor, _as_shape)
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
            set_region(message.parameters, parameters)
        else:
            self._add_inline(
                index, json_tensors.from_json(name, datatype, shape, tensor["data"], self._limits.max_input_size)
            )

    def _add_binary(self, index: int, name: str, datatype: str, size: Any) -> None:
        byte_size = read_field("binary_data_size", json_values.as_uint, size)
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


_SOURCES = "'data', 'binary_data_size' in 'parameters', 'shared_memory_region' in 'parameters'"


def _check_one_source(tensor: Any) -> dict[str, Any]:
    """Return the input's parameters, once it is clear that its data has exactly one source."""
    if type(tensor) is not dict:
        tensor = NO_PARAMETERS
    parameters: dict[str, Any] = tensor.get("parameters", NO_PARAMETERS)
    if type(parameters) is not dict:
        parameters = NO_PARAMETERS
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


_ONLY_INTS = frozenset((int,))


def _is_plain_shape(value: Any) -> bool:
    if type(value) is not list or not _ONLY_INTS.issuperset(map(type, value)):
        return False
    return not value or (min(value) >= 0 and max(value) <= MAX_INT64)


def _as_shape(value: Any) -> list[int]:
    """Dimensions, as int64: what is above it becomes negative, and is refused as such."""
    shape = json_values.as_array(value)
    for index, dimension in enumerate(shape):
        if json_values.as_uint(dimension) > MAX_INT64:
            shape[index] = dimension - 2**64
    return shape
