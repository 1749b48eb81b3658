"""Tensors as NumPy arrays, for the backends that compute on arrays. Nothing is copied but BYTES."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tensorhub import bytes_codec
from tensorhub.requests import InferRequest, Tensor
from tensorhub.tensors import DataType, element_count

Array = npt.NDArray[Any]

NUMPY_TYPES: dict[DataType, np.dtype[Any]] = {item: np.dtype(item.numpy_name) for item in DataType}
"""The NumPy type of each datatype; BF16, which NumPy lacks, as its bits: uint16."""


def array_of(tensor: Tensor) -> Array:
    """View a tensor as an array of its shape; BYTES are read into an array of bytes objects.

    Raises:
        BytesFormatError: BYTES that are no whole elements; what a worker has decoded is checked.
    """
    datatype = tensor.datatype
    if datatype is DataType.BYTES:
        return bytes_codec.deserialize(tensor.data).reshape(tensor.shape)
    return view_as(tensor, NUMPY_TYPES[datatype])


def array_for(request: InferRequest, name: str) -> Array:
    """Return an input for code that may write to it: a view as `array_of` makes it, or a copy if others read it too."""
    array = array_of(request.inputs[name])
    return array.copy() if name in request.shared and not array.flags.owndata else array


def view_as(tensor: Tensor, dtype: np.dtype[Any]) -> Array:
    """View a tensor as an array of its shape and another type with elements of the same size."""
    if element_count(tensor.shape) == 0:
        return np.empty(tensor.shape, dtype)
    buffer: Any = tensor.data
    return np.ndarray(tensor.shape, dtype, buffer=buffer)


def tensor_of(name: str, datatype: DataType, array: Array) -> Tensor:
    """Return an array as a tensor: BYTES are written out, anything else is passed on, and copied only if it must be."""
    if datatype is DataType.BYTES:
        return Tensor(name, datatype, array.shape, bytes_codec.serialize(array))
    contiguous: Any = array if array.flags.c_contiguous else np.ascontiguousarray(array)
    return Tensor(name, datatype, array.shape, contiguous)
