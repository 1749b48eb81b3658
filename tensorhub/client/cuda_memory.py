"""Memory of a GPU that a client shares with a server: what to register for a tensor that a framework has made.

A handle stands for a whole allocation, and a framework hands out parts of large ones. So the region is the allocation
up to the tensor's end, and a request names the tensor by its offset in it. Nothing is copied and nothing imported: the
tensor tells its address (`__cuda_array_interface__`, which PyTorch and CuPy have), and the driver tells the rest.

    with torch.cuda.device(0):
        tensor = torch.zeros(1000, device="cuda")
    memory = CudaMemory.of(tensor)
    client.register_cuda_shared_memory("r", memory.base64_handle, memory.device_id, memory.byte_size)
    input.set_shared_memory("r", memory.tensor_byte_size, offset=memory.offset)
"""

from base64 import b64encode
from dataclasses import dataclass
from typing import Any

from tensorhub.client.shared_memory import SharedMemoryError
from tensorhub.cuda_driver import Driver
from tensorhub.devices import DeviceError

_EXPANDABLE = (
    "the tensor's memory cannot be shared: it comes from an expandable segment or a pool of the driver. PyTorch: set "
    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:False; CuPy: use the default pool and not MemoryAsyncPool"
)


@dataclass(frozen=True, slots=True)
class CudaMemory:
    """What a registration of a tensor's memory needs. The tensor is kept: its memory must outlive the registration.

    Attributes:
        raw_handle: of the allocation, 64 bytes.
        device_id: ours; to the server it is a hint.
        byte_size: of the region: from the allocation's start to the tensor's end.
        offset: of the tensor in the region.
        tensor_byte_size: of the tensor.
    """

    raw_handle: bytes
    device_id: int
    byte_size: int
    offset: int
    tensor_byte_size: int
    tensor: Any

    @property
    def base64_handle(self) -> bytes:
        """The handle as tritonclient takes it."""
        return b64encode(self.raw_handle)

    @staticmethod
    def of(tensor: Any, driver: Driver | None = None) -> "CudaMemory":
        """Find out where a tensor is. What was written to it must be complete before a request names it.

        Args:
            tensor: C-contiguous, with `__cuda_array_interface__`.
            driver: None: the process's own.

        Raises:
            SharedMemoryError: it is not on a GPU, not contiguous, or its memory cannot be shared.
        """
        interface = getattr(tensor, "__cuda_array_interface__", None)
        if interface is None:
            raise SharedMemoryError("the tensor is not in the memory of a GPU: it has no __cuda_array_interface__")
        shape, item_size = interface["shape"], int(interface["typestr"][2:])
        if interface.get("strides") is not None and not _is_c_order(shape, interface["strides"], item_size):
            raise SharedMemoryError("the tensor is not contiguous; make it so before its memory is shared")
        pointer = int(interface["data"][0])
        size = item_size
        for dimension in shape:
            size *= dimension
        try:
            asked = driver or Driver()
            if not asked.can_share(pointer):
                raise SharedMemoryError(_EXPANDABLE)
            base, allocated = asked.extent(pointer)
            handle = asked.handle(base)
            device = asked.device_of(pointer)
        except DeviceError as exc:
            raise SharedMemoryError(exc.message) from exc
        offset = pointer - base
        if offset + size > allocated:
            raise SharedMemoryError(_EXPANDABLE)
        return CudaMemory(handle, device, offset + size, offset, size, tensor)


def _is_c_order(shape: tuple[int, ...], strides: tuple[int, ...], item_size: int) -> bool:
    wanted = item_size
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != wanted:
            return False
        wanted *= size
    return True
