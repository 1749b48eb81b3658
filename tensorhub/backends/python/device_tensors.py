"""Tensors of Python models in the memory of a GPU: out to the model, and back from it. No copy either way.

Out: the worker's port makes an array of the memory, whose capsule keeps it. Back: the capsule that a model's tensor
gives is read and kept, which keeps the model's memory. A producer is asked to have its work done before what comes next
on the default stream, which is where the port copies.
"""

from typing import Any

from tensorhub.backends import device_access
from tensorhub.backends.python import dlpack
from tensorhub.backends.python.errors import TritonModelException
from tensorhub.devices import DeviceError, DeviceMemory
from tensorhub.requests import Tensor
from tensorhub.tensors import DataType, element_count

NOT_CONTIGUOUS = (
    "DLPack tensor is not contiguous. Only contiguous DLPack tensors that are stored in C-Order are supported."
)

_DEFAULT_STREAM = 1
"""The legacy default stream, in the words of `__dlpack__`."""

# DLDataTypeCode and bits of each type; BYTES cannot be there.
_TYPES = {
    (6, 8): DataType.BOOL,
    (1, 8): DataType.UINT8,
    (1, 16): DataType.UINT16,
    (1, 32): DataType.UINT32,
    (1, 64): DataType.UINT64,
    (0, 8): DataType.INT8,
    (0, 16): DataType.INT16,
    (0, 32): DataType.INT32,
    (0, 64): DataType.INT64,
    (2, 16): DataType.FP16,
    (2, 32): DataType.FP32,
    (2, 64): DataType.FP64,
    (4, 16): DataType.BF16,
}


def capsule(memory: DeviceMemory, shape: tuple[int, ...], datatype: DataType, stream: Any) -> Any:
    """Return a DLPack capsule of memory of a GPU, which keeps it.

    Args:
        stream: of the consumer, as `__dlpack__` takes it; everything in the memory is complete already.
    """
    bfloat16 = datatype is DataType.BF16
    array = memory.port.array(memory, shape, "bfloat16" if bfloat16 else datatype.numpy_name)
    return dlpack.bfloat16_capsule(array) if bfloat16 else array.__dlpack__(stream=stream)


def maybe_wrap(name: str, source: Any) -> Tensor | None:
    """Take what speaks DLPack and is in the memory of a GPU; None if it is in the host's.

    Raises:
        TritonModelException: it is not contiguous, of a type that is none of Triton's, or not reachable from here.
    """
    bare = type(source).__name__ == "PyCapsule"
    if not bare and source.__dlpack_device__()[0] != dlpack.CUDA:
        return None
    taken = source if bare else source.__dlpack__(stream=_DEFAULT_STREAM)
    found = dlpack.describe(taken)
    if found is None or found.device_type != dlpack.CUDA:
        return None
    port = device_access.maybe_port()
    if port is None:
        raise TritonModelException("The DLPack tensor is in the memory of a GPU, and this worker uses none.")
    if bare:
        try:
            port.wait(found.device_id)  # nobody has said which stream wrote it
        except DeviceError as exc:
            raise TritonModelException(f"The DLPack tensor cannot be used: {exc.message}") from exc
    datatype = _TYPES.get((found.code, found.bits))
    if datatype is None:
        raise TritonModelException("DLPack dtype type is not supported.")
    if found.strides is not None and not _is_c_order(found.shape, found.strides):
        raise TritonModelException(NOT_CONTIGUOUS)
    byte_size = element_count(found.shape) * datatype.item_size
    memory = DeviceMemory(port, found.device_id, found.pointer, byte_size, (taken, source))
    return Tensor(name, datatype, found.shape, memory)


def _is_c_order(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    wanted = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != wanted:
            return False
        wanted *= size
    return True
