"""Tensors as JSON arrays, to and from the wire encoding of the binary extension. Pure.

From JSON: flat or nested arrays, in row-major order; the nesting need not match the shape. What each datatype accepts,
and the texts for what it does not, are those of Triton's ReadDataFromJson. To JSON: always flat.

PERF: whole arrays at a time. The types of all elements are found in one pass over them (`set(map(type, ...))`), and the
packing is `array`'s; only what is wrong or unusual is looked at element by element.

NumPy is imported for big tensors only: the process that serves HTTP does without it otherwise.
"""

import sys
from array import array
from collections.abc import Iterable, Sequence
from itertools import chain
from struct import Struct
from typing import Any, cast

import orjson

from tensorhub.errors import InternalError, InvalidArgument, TensorhubError
from tensorhub.protocol import json_text, json_values
from tensorhub.protocol.json_text import MAX_DEPTH, Buffer
from tensorhub.protocol.json_values import MAX_INT64, MAX_UINT64, MIN_INT64
from tensorhub.tensors import BY_NAME, MAX_BYTE_SIZE, DataType, element_count, shape_text

_NUMPY_ABOVE = 64 * 1024
"""Bytes. Larger integer tensors are worth NumPy: orjson writes its arrays without making an object of each number."""

_INTS = {"INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q"}
_UINTS = {"UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q"}
_FLOATS = {"FP32": "f", "FP64": "d"}
_CODES = {**_INTS, **_UINTS, **_FLOATS, "BOOL": "?"}
_LENGTH = Struct("<I")

assert sys.byteorder == "little", "tensors are little-endian on the wire, and are handed on as they are"


def bytes_element(data: Buffer) -> bytes:
    """Encode one element of a BYTES tensor."""
    return _LENGTH.pack(len(data)) + bytes(data)


def from_json(name: str, datatype: str, shape: Sequence[int], data: Any, max_byte_size: int) -> bytes:
    """Convert the `data` of input `name` to the wire encoding.

    Args:
        shape: dimensions as int64; those that are negative are refused.
        data: as parsed.
        max_byte_size: of the tensor.

    Raises:
        TensorhubError: Triton's error for what is wrong first.
    """
    count = _element_count(name, shape)
    if count == 0 or not shape:
        return b""  # of a shape without dimensions, which no input has, Triton does not look at the data either
    try:
        elements = json_values.as_array(data)
    except InternalError as exc:
        raise json_values.in_field("data", exc) from None
    if datatype == "BYTES":
        return _json_bytes(name, elements, max_byte_size)
    known = BY_NAME.get(datatype)
    item_size = known.item_size if known is not None else 0
    if count * item_size > MAX_BYTE_SIZE:
        raise InvalidArgument(
            f"byte size overflow for input '{name}': element count ({count}) * data type size ({item_size}) exceeds "
            f"maximum allowed size ({MAX_BYTE_SIZE})"
        )
    _check_tensor_size(name, count * item_size, max_byte_size)
    check_readable(name, datatype)
    if known is None:
        raise InvalidArgument(f"invalid datatype for input {name}")
    try:
        return _pack(datatype, _flat(elements), count)
    except TensorhubError as exc:
        raise json_values.in_field("data", exc) from None


def check_readable(name: str, datatype: str) -> None:
    """Check that an input of the datatype may come as JSON.

    Raises:
        InvalidArgument: it may not.
    """
    if datatype == "FP16" or datatype == "BF16":
        raise InvalidArgument(
            f"receiving {datatype} data via JSON is not supported. Please use the binary data format for input {name}"
        )


def _element_count(name: str, shape: Sequence[int]) -> int:
    if any(dimension < 0 for dimension in shape):
        raise InvalidArgument(
            f"invalid shape for input '{name}': shape {shape_text(shape)} contains one or more invalid dimensions"
        )
    count = element_count(shape)
    if count > MAX_BYTE_SIZE:
        raise InvalidArgument(
            f"invalid shape for input '{name}': shape {shape_text(shape)} causes total element count to exceed "
            f"maximum size of {MAX_BYTE_SIZE}"
        )
    return count


def _check_tensor_size(name: str, byte_size: int, max_byte_size: int) -> None:
    if byte_size > max_byte_size:
        raise InvalidArgument(
            f"JSON input '{name}' has a byte_size ({byte_size} bytes) that exceeds the maximum allowed value of "
            f"{max_byte_size} bytes. Use --http-max-input-size to increase the limit."
        )


def _flat(elements: list[Any]) -> list[Any]:
    """Return the leaves of nested arrays, in order.

    Raises:
        InvalidArgument: nested too deep.
    """
    if list not in set(map(type, elements)):
        return elements
    return list(_leaves(elements, 1))


def _leaves(elements: list[Any], depth: int) -> Iterable[Any]:
    """Yield the leaves of an array whose members lie at `depth`."""
    while set(map(type, elements)) == {list}:
        # PERF: whole levels at a time for regular nesting.
        if depth >= MAX_DEPTH:
            raise InvalidArgument(json_text.DEPTH_TEXT)
        elements = list(chain.from_iterable(elements))
        depth += 1
    if elements and depth >= MAX_DEPTH:
        raise InvalidArgument(json_text.DEPTH_TEXT)
    for element in elements:
        if type(element) is list:
            yield from _leaves(element, depth + 1)
        else:
            yield element


_COUNT_MISMATCH = "Shape does not match true shape of 'data' field"


def _pack(datatype: str, elements: list[Any], count: int) -> bytes:
    """Convert numbers and booleans; the first wrong element decides about the error."""
    kinds = set(map(type, elements if len(elements) <= count else elements[:count]))
    code = _CODES[datatype]
    if datatype in _FLOATS:
        if not kinds <= {int, float}:
            raise json_values.wrong_type("number", "double")
    elif datatype == "BOOL":
        if not kinds <= {bool}:
            raise json_values.wrong_type("boolean", "boolean")
    elif not kinds <= {int}:
        raise _wrong_integer(datatype)
    if len(elements) > count:
        # Only after the types: Triton looks at each element in turn until there is no room.
        _check_integers(datatype, elements[:count])
        raise InternalError(_COUNT_MISMATCH)
    if datatype == "BOOL":
        packed = bytes(elements)
    else:
        try:
            packed = array(code, elements).tobytes()
        except OverflowError:
            packed = _pack_truncated(datatype, elements)
    if len(elements) != count:
        raise InternalError(_COUNT_MISMATCH)
    return packed


def _wrong_integer(datatype: str) -> InternalError:
    kind = "unsigned-integer" if datatype in _UINTS else "signed-integer"
    return json_values.wrong_type(kind, kind)


def _check_integers(datatype: str, elements: list[int]) -> None:
    if datatype in _INTS:
        low, high = MIN_INT64, MAX_INT64
    elif datatype in _UINTS:
        low, high = 0, MAX_UINT64
    else:
        return
    if not all(low <= element <= high for element in elements):
        raise _wrong_integer(datatype)


def _pack_truncated(datatype: str, elements: list[int]) -> bytes:
    """Integers of 64 bits lose their upper bits silently when the type is narrower, as in Triton."""
    _check_integers(datatype, elements)
    item_size = DataType(datatype).item_size
    mask = (1 << 8 * item_size) - 1
    return array(_CODES["U" + datatype.removeprefix("U")], [element & mask for element in elements]).tobytes()


def _json_bytes(name: str, elements: list[Any], max_byte_size: int) -> bytes:
    leaves = _flat(elements)
    if not set(map(type, leaves)) <= {str}:
        error = json_values.wrong_type("string", "string")
        raise InternalError(f"Unable to parse JSON bytes array: {error.message}")
    encoded = list(map(str.encode, leaves))
    sizes = list(map(len, encoded))
    _check_tensor_size(name, sum(sizes) + 4 * len(sizes), max_byte_size)
    return b"".join(chain.from_iterable(zip(map(_LENGTH.pack, sizes), encoded, strict=True)))


def to_json(name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview) -> Any:
    """Return something that orjson (with OPT_SERIALIZE_NUMPY) writes as the flat array of a tensor's elements.

    Args:
        name: of the output.
        data: its wire encoding; the result may be a view of it.

    Raises:
        InvalidArgument: JSON cannot carry the datatype.
        InternalError: the size contradicts the shape.
    """
    if datatype == "FP16" or datatype == "BF16":
        raise InvalidArgument(
            f"sending {datatype} data via JSON is not supported. Please use the binary data format for output"
        )
    count = element_count(shape)
    if datatype == "BYTES":
        return orjson.Fragment(json_text.strings(_split_bytes(name, data, count)))
    if count * DataType(datatype).item_size != len(data):
        raise InternalError(
            f"Failed to write 'data' field: output tensor shape does not match size of output for '{name}'"
        )
    if datatype in _FLOATS:
        return orjson.Fragment(json_text.floats(_numbers(datatype, data)))
    if datatype == "BOOL":
        return list(map(bool, data))
    if len(data) > _NUMPY_ABOVE:
        import numpy as np

        return np.frombuffer(data, DataType(datatype).numpy_name)
    return _numbers(datatype, data)


def _numbers(datatype: str, data: bytes | memoryview) -> list[Any]:
    return memoryview(data).cast(cast(Any, _CODES[datatype])).tolist()


def _split_bytes(name: str, data: bytes | memoryview, count: int) -> list[Buffer]:
    """Split the wire encoding of BYTES into its elements."""
    # PERF: slices of bytes are cheaper than slices of a view, and each becomes a string next.
    whole = bytes(data)
    size = len(whole)
    unpack = _LENGTH.unpack_from
    elements: list[Buffer] = []
    cursor = 0
    for _ in range(count):
        start = cursor + 4
        if start <= size:
            cursor = start + unpack(whole, cursor)[0]
        if start > size or cursor > size:
            raise InternalError(f"output tensor shape does not match size of output for '{name}'")
        elements.append(whole[start:cursor])
    return elements
