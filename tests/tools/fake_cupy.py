"""As much of CuPy as the bench uses, over files in /dev/shm: memory of the fake GPUs of `tests.shm.fake_device`."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from tensorhub.client.cuda_memory import CudaMemory
from tensorhub.client.shared_memory import SystemRegion
from tests.shm.fake_device import handle_of

uint8 = np.uint8


class CUDARuntimeError(RuntimeError):
    """What the driver says."""


class Memory:
    """An allocation; it goes with the last array in it."""

    def __init__(self, size: int) -> None:
        self.region = SystemRegion.create(size)

    def __del__(self) -> None:
        self.region.close()


class MemoryPointer:
    """A place in an allocation."""

    def __init__(self, mem: Memory, offset: int) -> None:
        assert offset == 0
        self.mem = mem


class ndarray:  # noqa: N801
    """Bytes on the device; the host reaches them by `get` and `set` only."""

    def __init__(self, shape: tuple[int], dtype: Any, memptr: MemoryPointer) -> None:
        self.memory = memptr.mem
        self._array = memptr.mem.region.array("UINT8", shape)
        assert self._array.dtype == dtype

    def fill(self, value: int) -> None:
        self._array.fill(value)

    def set(self, values: Any) -> None:
        assert values.shape == self._array.shape
        self._array[...] = values

    def get(self) -> Any:
        return self._array.copy()


def copyto(target: ndarray, source: ndarray) -> None:
    """Copy on the device."""
    np.copyto(target._array, source._array)


def memory_of(array: ndarray) -> CudaMemory:
    """What `CudaMemory.of` is for these arrays."""
    region = array.memory.region
    return CudaMemory(handle_of(region.key), 0, region.byte_size, 0, region.byte_size, array)


cuda = SimpleNamespace(
    Memory=Memory,
    MemoryPointer=MemoryPointer,
    get_current_stream=lambda: SimpleNamespace(synchronize=lambda: None),
    runtime=SimpleNamespace(CUDARuntimeError=CUDARuntimeError),
)
