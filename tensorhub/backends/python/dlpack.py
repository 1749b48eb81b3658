"""bfloat16 in DLPack, which NumPy does not have. Everything else about DLPack is NumPy's.

A DLPack capsule points to a small C structure that describes the memory, and bfloat16 differs from uint16 by one byte
of it: the type code. So NumPy makes and takes capsules of uint16, with its own owners and deleters, and only that byte
is changed here. Source of the layouts: DLPack's dlpack.h, version 1.
"""

import ctypes
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

CPU = 1
"""kDLCPU of DLDeviceType."""
CUDA = 2
"""kDLCUDA."""

_UINT = 1
"""kDLUInt of DLDataTypeCode."""
_BFLOAT = 4
"""kDLBfloat of DLDataTypeCode."""

_NAME = b"dltensor"
_VERSIONED_NAME = b"dltensor_versioned"


class _Device(ctypes.Structure):
    _fields_ = (("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    """DLTensor; also how a DLManagedTensor begins."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
    )


class _Versioned(ctypes.Structure):
    """DLManagedTensorVersioned."""

    _fields_ = (
        ("version", ctypes.c_uint32 * 2),
        ("manager_ctx", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("dl_tensor", _Tensor),
    )


_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.argtypes = (ctypes.py_object, ctypes.c_char_p)
_is_valid.restype = ctypes.c_int
_get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_get_pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
_get_pointer.restype = ctypes.c_void_p


class Description(NamedTuple):
    """What a capsule says of its memory.

    Attributes:
        device_type: DLDeviceType; CPU, CUDA or another.
        pointer: of the first element.
        strides: in elements; None for C order.
        code, bits: of the elements' type; see DLDataTypeCode.
    """

    device_type: int
    device_id: int
    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    code: int
    bits: int


def describe(capsule: Any) -> Description | None:
    """Read a capsule and leave it as it is; None if it is none or has been used, or its elements are vectors."""
    tensor = _tensor_of(capsule)
    if tensor is None or tensor.dtype.lanes != 1:
        return None
    numbers = ctypes.c_int64 * tensor.ndim
    strides = None if not tensor.strides else tuple(numbers.from_address(tensor.strides))
    return Description(
        tensor.device.device_type,
        tensor.device.device_id,
        (tensor.data or 0) + tensor.byte_offset,
        tuple(numbers.from_address(tensor.shape)) if tensor.ndim else (),
        strides,
        tensor.dtype.code,
        tensor.dtype.bits,
    )


def bfloat16_capsule(bits: Any) -> Any:
    """Make a DLPack capsule of bfloat16 elements from their bits; it keeps the array, until its consumer lets it go.

    Raises:
        BufferError: the array is read-only, which this kind of capsule cannot say.
    """
    capsule = bits.__dlpack__()
    dtype = _dtype_of(capsule)
    assert dtype is not None
    dtype.code = _BFLOAT
    return capsule


def read(source: Any) -> tuple[npt.NDArray[Any], bool]:
    """Take over what a DLPack capsule, or an object that makes one, describes; no copy.

    Returns:
        The memory as an array, which owns it now; and whether the elements are bfloat16: then the array has their bits
        as uint16.

    Raises:
        BufferError, RuntimeError, TypeError, ValueError: it is no capsule, or has been used, or is not in host memory,
            or of a type that NumPy lacks.
    """
    reader = _Reader(source)
    try:
        return np.from_dlpack(reader), reader.bfloat16
    except BaseException:
        reader.restore()
        raise


class _Reader:
    """A source as NumPy can take it: its bfloat16 is passed off as uint16."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._capsule: Any = None
        self.bfloat16 = False

    def __dlpack__(self, **options: Any) -> Any:
        bare = type(self._source).__name__ == "PyCapsule"
        self._capsule = self._source if bare else self._source.__dlpack__(**options)
        dtype = _dtype_of(self._capsule)
        if dtype is not None and (dtype.code, dtype.bits, dtype.lanes) == (_BFLOAT, 16, 1):
            self.bfloat16 = True
            dtype.code = _UINT
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        if type(self._source).__name__ == "PyCapsule":
            return (CPU, 0)
        device: tuple[int, int] = self._source.__dlpack_device__()
        return device

    def restore(self) -> None:
        """Undo the change of a capsule that NumPy did not take, so that its owner may use it otherwise."""
        dtype = _dtype_of(self._capsule) if self.bfloat16 else None
        if dtype is not None:
            dtype.code = _BFLOAT


def _dtype_of(capsule: Any) -> _DataType | None:
    """Return the type inside a capsule, in place; None if it is no capsule of DLPack or has been used.

    Good only as long as the capsule is alive and unused.
    """
    tensor = _tensor_of(capsule)
    if tensor is None:
        return None
    dtype: _DataType = tensor.dtype
    return dtype


def _tensor_of(capsule: Any) -> _Tensor | None:
    """Return the description inside a capsule, in place; see `_dtype_of`."""
    if _is_valid(capsule, _NAME):
        return _Tensor.from_address(_get_pointer(capsule, _NAME))
    if _is_valid(capsule, _VERSIONED_NAME):
        tensor: _Tensor = _Versioned.from_address(_get_pointer(capsule, _VERSIONED_NAME)).dl_tensor
        return tensor
    return None
