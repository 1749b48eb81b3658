"""Arrays to the bytes of v2 requests with the binary extension, and the bytes of responses to arrays. Pure.

    request, response:  JSON header | tensor | tensor | ...      each tensor's length is its binary_data_size

BYTES tensors are arrays of dtype object with one `bytes` an element; on the wire each has its length before it, 4
bytes, little-endian. BF16 has no type in NumPy: it is carried as the upper half of a float32.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tensorhub.tensors import BY_NAME, DataType, element_count

Array = npt.NDArray[Any]


class TensorError(ValueError):
    """A value does not fit a tensor, or bytes are not one; the text is for the person who asked."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor as a model's metadata tells it; -1 in the shape is any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @staticmethod
    def from_json(item: Mapping[str, Any]) -> "TensorSpec":
        """Read an entry of `inputs` or `outputs` of a model's metadata."""
        return TensorSpec(item["name"], item["datatype"], tuple(int(size) for size in item["shape"]))


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named array and the datatype that it travels as."""

    name: str
    datatype: str
    array: Array


def known_type(name: str) -> DataType:
    """Return the type of a wire name.

    Raises:
        TensorError: there is no such type.
    """
    try:
        return BY_NAME[name]
    except KeyError:
        raise TensorError(f"unknown datatype '{name}'") from None


def as_array(value: Any, spec: TensorSpec) -> Array:
    """Turn JSON values, or an array of another type, into an array that fits `spec`.

    A value without the model's batch dimension, or a flat list for a fixed shape, is given the shape; a size of -1
    takes what the value has.

    Raises:
        TensorError: the elements are not of the type, or the shape cannot be had.
    """
    data_type = known_type(spec.datatype)
    try:
        if data_type is DataType.BYTES:
            array = np.array(value, dtype=object)
            flat = [_as_bytes(item) for item in array.ravel().tolist()]
            array = np.fromiter(flat, dtype=object, count=len(flat)).reshape(array.shape)
        elif data_type is DataType.BF16:
            array = np.asarray(value, dtype=np.float32)
        else:
            array = _checked_cast(np.asarray(value), np.dtype(data_type.numpy_name))
    except (ValueError, TypeError, OverflowError) as exc:
        raise TensorError(f"input '{spec.name}' takes {spec.datatype}: {exc}") from exc
    return array.reshape(_fitting_shape(array.shape, spec))


def random_array(spec: TensorSpec, generator: np.random.Generator, sizes: Sequence[int] = ()) -> Array:
    """Return an array of random elements; the sizes that the spec leaves open come from `sizes`, then 1."""
    open_sizes = iter(sizes)
    shape = tuple(next(open_sizes, 1) if size < 0 else size for size in spec.shape)
    data_type = known_type(spec.datatype)
    if data_type is DataType.BYTES:
        words = [b"%08x" % number for number in generator.integers(2**32, size=element_count(shape)).tolist()]
        return np.array(words, dtype=object).reshape(shape)
    if data_type is DataType.BF16:
        return np.asarray(generator.random(shape), np.float32)
    dtype = np.dtype(data_type.numpy_name)
    if dtype.kind == "f":
        return np.asarray(generator.random(shape), dtype)
    if dtype.kind == "b":
        return np.asarray(generator.integers(2, size=shape), dtype)
    return np.asarray(generator.integers(100, size=shape), dtype)


def encode(tensor: Tensor) -> bytes:
    """Return a tensor's bytes on the wire."""
    if tensor.datatype == "BYTES":
        return b"".join(struct.pack("<I", len(item)) + item for item in tensor.array.ravel().tolist())
    if tensor.datatype == "BF16":
        words = np.ascontiguousarray(tensor.array, "<f4").view("<u4")
        return (words >> 16).astype("<u2").tobytes()
    return np.ascontiguousarray(tensor.array, known_type(tensor.datatype).numpy_name).tobytes()


def decode(data: bytes | memoryview, datatype: str, shape: Sequence[int]) -> Array:
    """Return the array of a tensor's bytes; a view of `data` except for BYTES and BF16.

    Raises:
        TensorError: the bytes are not such a tensor.
    """
    data_type = known_type(datatype)
    if data_type is DataType.BYTES:
        items = _split_bytes(data)
        if len(items) != element_count(shape):
            raise TensorError(f"{len(items)} elements came for the shape {list(shape)}")
        return np.fromiter(items, dtype=object, count=len(items)).reshape(shape)
    if len(data) != element_count(shape) * data_type.item_size:
        raise TensorError(f"{len(data)} bytes came for {datatype} of the shape {list(shape)}")
    array: Array = np.frombuffer(data, data_type.numpy_name)
    if data_type is DataType.BF16:
        array = (array.astype("<u4") << 16).view("<f4")
    return array.reshape(shape)


def infer_request(
    inputs: Sequence[Tensor], outputs: Sequence[str] = (), parameters: Mapping[str, Any] | None = None
) -> tuple[bytes, int]:
    """Return the body of an infer request, and how much of it is JSON.

    Args:
        inputs: all tensors of the request.
        outputs: the outputs to return; none: all.
        parameters: the request's own.
    """
    payloads = [encode(tensor) for tensor in inputs]
    header: dict[str, Any] = {
        "inputs": [
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": list(tensor.array.shape),
                "parameters": {"binary_data_size": len(payload)},
            }
            for tensor, payload in zip(inputs, payloads, strict=True)
        ],
        "parameters": {"binary_data_output": True, **(parameters or {})},
    }
    if outputs:
        header["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    text = json.dumps(header).encode()
    return b"".join([text, *payloads]), len(text)


def infer_response(body: bytes, header_length: int | None) -> list[Tensor]:
    """Return the outputs of a response, in its order.

    Args:
        body: the response's body.
        header_length: the value of its Inference-Header-Content-Length; None: it is all JSON.

    Raises:
        TensorError: the body is not a response.
    """
    end = len(body) if header_length is None else header_length
    try:
        header = json.loads(body[:end])
        described = header.get("outputs", [])
        view, tensors = memoryview(body), []
        for item in described:
            name, datatype, shape = item["name"], item["datatype"], tuple(item["shape"])
            size = item.get("parameters", {}).get("binary_data_size")
            if size is None:
                array = as_array(item["data"], TensorSpec(name, datatype, shape))
            else:
                array = decode(view[end : end + size], datatype, shape)
                end += size
            tensors.append(Tensor(name, datatype, array))
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise TensorError(f"the server's answer is not a v2 inference response: {exc}") from exc
    return tensors


def _checked_cast(array: Array, dtype: np.dtype[Any]) -> Array:
    """Cast, but refuse to change the meaning: no text to numbers, no fractions or large numbers to integers."""
    if array.dtype.kind not in "biuf" or (dtype.kind in "iu" and array.dtype.kind == "f"):
        raise ValueError(f"the value is {_kind_of(array)}")
    if dtype.kind == "b" and array.dtype.kind != "b":
        raise ValueError(f"the value is {_kind_of(array)}")
    if dtype.kind in "iu" and array.size and array.dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise ValueError(f"a value is not within {limits.min} and {limits.max}")
    return array.astype(dtype, copy=False)


def _kind_of(array: Array) -> str:
    kinds = {"b": "boolean", "i": "an integer", "u": "an integer", "f": "a number with a fraction", "U": "text"}
    return kinds.get(array.dtype.kind, "not a regular list of numbers")


def _as_bytes(item: Any) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode()
    raise TypeError(f"an element is {type(item).__name__}, and text is wanted")


def _fitting_shape(shape: tuple[int, ...], spec: TensorSpec) -> tuple[int, ...]:
    """Find the shape for a value: its own, that with a batch dimension of 1, or the spec's if its sizes are known."""
    for candidate in (shape, (1, *shape)):
        if len(candidate) == len(spec.shape) and all(
            wanted in (-1, size) for wanted, size in zip(spec.shape, candidate, strict=True)
        ):
            return candidate
    count = element_count(shape)
    known = element_count([size for size in spec.shape if size >= 0])
    if sum(size < 0 for size in spec.shape) <= 1 and known and count % known == 0 and len(shape) <= 1:
        found = tuple(count // known if size < 0 else size for size in spec.shape)
        if element_count(found) == count:
            return found
    raise TensorError(f"input '{spec.name}' has the shape {list(spec.shape)}, the value has {list(shape)}")


def _split_bytes(data: bytes | memoryview) -> list[bytes]:
    items: list[bytes] = []
    position, size = 0, len(data)
    while position < size:
        if position + 4 > size:
            raise TensorError("a BYTES tensor ends within a length")
        (length,) = struct.unpack_from("<I", data, position)
        position += 4
        if position + length > size:
            raise TensorError("a BYTES tensor ends within an element")
        items.append(bytes(data[position : position + length]))
        position += length
    return items
