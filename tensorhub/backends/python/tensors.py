"""`pb_utils.Tensor`: a named array on its way into or out of a model."""

from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from tensorhub import bytes_codec
from tensorhub.backends.arrays import array_of
from tensorhub.backends.python import device_tensors, dlpack
from tensorhub.backends.python.errors import TritonModelException
from tensorhub.devices import DeviceMemory
from tensorhub.requests import Tensor as WireTensor
from tensorhub.tensors import DataType

NUMPY_TYPES: dict[DataType, np.dtype[Any]] = {
    item: np.dtype(item.numpy_name) for item in DataType if item is not DataType.BF16
}

_FROM_NUMPY: dict[np.dtype[Any], DataType] = {dtype: item for item, dtype in NUMPY_TYPES.items()}

_IN_GPU = "Tensor is stored in GPU and cannot be converted to NumPy."
_NO_NAME = "Tensor name cannot be an empty string."
_BF16_HAS_NO_NUMPY = "Tensor dtype is BF16 and cannot be converted to NumPy. Use to_dlpack() and from_dlpack() instead."
_NOT_SUPPORTED_BY_DLPACK = (
    "Provided tensor is not supported. Tensor must be a DLPack capsule or have `__dlpack__` and `__dlpack_device__` "
    "attributes"
)


class Tensor:
    """A tensor of a model.

    Args:
        name: of the input or output.
        array: kept as it is if it is C-contiguous, otherwise copied. Text becomes BYTES.

    Raises:
        TritonModelException: the name is empty, or no datatype corresponds to the array's.
        TypeError: the arguments are no str and no array.
    """

    __slots__ = ("_array", "_datatype", "_name", "_shared", "_wire")

    _array: npt.NDArray[Any] | None
    _wire: WireTensor | None

    def __init__(self, name: str, array: npt.NDArray[Any]) -> None:
        if not isinstance(name, str) or not isinstance(array, np.ndarray):
            _refuse(name, array)
        if not name:
            raise TritonModelException(_NO_NAME)
        datatype = _FROM_NUMPY.get(array.dtype)
        if datatype is None:
            if array.dtype.kind not in "SU":
                raise TritonModelException("NumPy dtype is not supported.")
            datatype = DataType.BYTES
            if array.dtype.kind == "U":
                array = array.astype(np.object_)
        if not array.flags.c_contiguous:
            array = array.copy(order="C")
        self._name = name
        self._datatype = datatype
        self._array = array
        self._wire = None
        self._shared = False

    @classmethod
    def _from_wire(cls, wire: WireTensor) -> "Tensor":
        """Wrap a tensor of the server; the array is a view of its data, made when it is asked for."""
        tensor = cls.__new__(cls)
        tensor._name = wire.name
        tensor._datatype = wire.datatype
        tensor._array = None
        tensor._wire = wire
        tensor._shared = False
        return tensor

    def __repr__(self) -> str:
        return f"<Tensor '{self._name}' {self._datatype.value} {self.shape()}>"

    def name(self) -> str:
        return self._name

    def shape(self) -> list[int]:
        return list(self._shape())

    def triton_dtype(self) -> int:
        """Return the number of TRITONSERVER_DataType, as `pb_utils.triton_to_numpy_type` takes it."""
        return self._datatype.config_number

    def is_cpu(self) -> bool:
        """Whether the tensor is in the host's memory, and not in that of a GPU."""
        return self._device_memory() is None

    def _device_memory(self) -> DeviceMemory | None:
        wire = self._wire
        return wire.data if wire is not None and type(wire.data) is DeviceMemory else None

    def as_numpy(self) -> npt.NDArray[Any]:
        """Return the tensor as an array.

        An input is a view of the request's memory: writable, unless it lies in a region of the client; and a copy, if
        other models read that memory as well. BYTES are `bytes` objects in an object array.

        Raises:
            TritonModelException: it is BF16, which NumPy does not have, or in the memory of a GPU.
        """
        array = self._array
        if array is None:
            if not self.is_cpu():
                raise TritonModelException(_IN_GPU)
            if self._datatype is DataType.BF16:
                raise TritonModelException(_BF16_HAS_NO_NUMPY)
            assert self._wire is not None
            array = self._array = array_of(self._wire)
            if self._shared:
                array = self._own_copy(array)
        return array

    def _hold(self) -> None:
        """The model keeps this tensor beyond its request: so must its memory be kept, to which an array refers."""
        if self.is_cpu() and self._datatype is not DataType.BF16:
            self.as_numpy()

    def _own_copy(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Part from the memory that other models read as well: this one may write to its input."""
        if self._datatype is not DataType.BYTES:
            array = self._array = array.copy()
            data: Any = array
            self._wire = WireTensor(self._name, self._datatype, self._shape(), data)
        return array

    def to_dlpack(self) -> Any:
        """Return a DLPack capsule on the tensor's memory, or on a copy if a model may not write to that.

        Raises:
            TritonModelException: the datatype is BYTES.
        """
        return self.__dlpack__()

    def __dlpack__(self, *, stream: Any = None, **options: Any) -> Any:
        if self._datatype is DataType.BYTES:
            raise TritonModelException("DLPack does not have support for string tensors.")
        memory = self._device_memory()
        if memory is not None:
            if self._shared and memory.nbytes:
                memory = memory.copy()
                self._wire = WireTensor(self._name, self._datatype, self._shape(), memory)
                self._shared = False
            return device_tensors.capsule(memory, self._shape(), self._datatype, stream)
        bfloat16 = self._datatype is DataType.BF16
        if bfloat16:
            assert self._wire is not None
            array = array_of(self._wire)
        else:
            array = self.as_numpy()
        # NumPy does not export read-only memory, since DLPack could not say that it is.
        if not array.flags.writeable:
            array = array.copy()
        return dlpack.bfloat16_capsule(array) if bfloat16 else array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        memory = self._device_memory()
        return (dlpack.CPU, 0) if memory is None else (dlpack.CUDA, memory.ordinal)

    @staticmethod
    def from_dlpack(name: str, tensor: Any) -> "Tensor":
        """Wrap the memory of anything that speaks DLPack, in the host's memory or in that of a GPU.

        Raises:
            TritonModelException: it does not, or it is not contiguous.
        """
        if type(tensor).__name__ != "PyCapsule" and not (
            hasattr(tensor, "__dlpack__") and hasattr(tensor, "__dlpack_device__")
        ):
            raise TritonModelException(_NOT_SUPPORTED_BY_DLPACK)
        on_device = device_tensors.maybe_wrap(name, tensor)
        if on_device is not None:
            if not name:
                raise TritonModelException(_NO_NAME)
            return Tensor._from_wire(on_device)
        try:
            array, bfloat16 = dlpack.read(tensor)
        except (BufferError, RuntimeError, TypeError, ValueError) as exc:
            raise TritonModelException(f"The DLPack tensor cannot be used: {exc}") from exc
        if not array.flags.c_contiguous:
            raise TritonModelException(device_tensors.NOT_CONTIGUOUS)
        if not bfloat16:
            return Tensor(name, array)
        if not name:
            raise TritonModelException(_NO_NAME)
        data: Any = array
        return Tensor._from_wire(WireTensor(name, DataType.BF16, array.shape, data))

    def _shape(self) -> tuple[int, ...]:
        if self._wire is not None:
            return self._wire.shape
        assert self._array is not None
        return self._array.shape

    def _to_wire(self) -> WireTensor:
        """Return the server's form; BYTES are written out, everything else is passed on as it is."""
        if self._wire is not None and (self._array is None or self._datatype is not DataType.BYTES):
            return self._wire
        array = self._array
        assert array is not None
        data: Any = bytes_codec.serialize(array) if self._datatype is DataType.BYTES else array
        return WireTensor(self._name, self._datatype, array.shape, data)


def _refuse(name: object, array: object) -> NoReturn:
    raise TypeError(
        "__init__(): incompatible constructor arguments. The following argument types are supported:\n    1. "
        f"c_python_backend_utils.Tensor(arg0: str, arg1: numpy.ndarray)\n\nInvoked with: {name!r}, {array!r}"
    )
