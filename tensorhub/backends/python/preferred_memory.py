"""`pb_utils.PreferredMemory`: where a model wants the outputs of a model that it calls."""

from enum import IntEnum

from tensorhub.backends import device_access
from tensorhub.devices import DeviceError, DeviceMemory
from tensorhub.requests import Tensor, flat_view
from tensorhub.tensors import DataType


class MemoryType(IntEnum):
    """What PreferredMemory takes; the numbers are those of Triton's Python backend, not of TRITONSERVER_MemoryType."""

    TRITONSERVER_MEMORY_GPU = 0
    TRITONSERVER_MEMORY_CPU = 1


class PreferredMemory:
    """Where a called model's outputs shall be; without one, they stay where that model has put them.

    Args:
        preferred_device_id: of a GPU, as this process counts them.
    """

    __slots__ = ("device_id", "memory_type")

    def __init__(self, preferred_memory_type: int, preferred_device_id: int = 0) -> None:
        self.memory_type = preferred_memory_type
        self.device_id = preferred_device_id

    def placed(self, tensor: Tensor) -> Tensor:
        """Return a tensor in that memory, itself if it is there already.

        Text is never moved to a GPU, where nothing could read it, and nothing is where there is no GPU, as in Triton.

        Raises:
            DeviceError: there is no such GPU in this process, or it has no room.
        """
        data = tensor.data
        if self.memory_type == MemoryType.TRITONSERVER_MEMORY_CPU:
            return tensor if type(data) is not DeviceMemory else _with(tensor, data.to_host())
        if tensor.datatype is DataType.BYTES or 0 in tensor.shape:
            return tensor
        if type(data) is DeviceMemory and data.ordinal == self.device_id:
            return tensor
        port = device_access.maybe_port()
        if port is None:
            return tensor
        known = [device.ordinal for device in port.devices()]
        if self.device_id not in known:
            raise DeviceError(
                f"preferred_memory names device {self.device_id}, and the devices of this process are {known}"
            )
        source = data if type(data) is DeviceMemory else flat_view(data)
        memory = port.allocate(self.device_id, len(source))
        memory.fill(source)
        return _with(tensor, memory)


def _with(tensor: Tensor, data: DeviceMemory | bytearray) -> Tensor:
    return Tensor(tensor.name, tensor.datatype, tensor.shape, data)
