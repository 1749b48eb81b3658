"""The port to CUDA, by CuPy: the only module that imports it. Works with CuPy for CUDA 12 and for CUDA 13.

Importing CuPy takes a second and a hundred megabytes, and touching a GPU some hundred more, so nothing happens before
`open_port`. The driver copies directly between a GPU and locked pages of the host, and between a GPU and the host's
other memory through pieces of locked memory that are its own.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from tensorhub.cuda_driver import POISONING, Driver
from tensorhub.devices import Device, DeviceError, DeviceMemory, DevicePort

PORT_VARIABLE = "TENSORHUB_DEVICE_PORT"
"""Environment: `module:function` that returns another DevicePort, for devices that are not NVIDIA's."""

NO_CUPY = "CuPy is not installed where the server runs: pip install 'tensorhub[cuda]'"

_DEFAULT_STREAM = 0

_PORTABLE = 1
"""cudaHostRegisterPortable."""

_HOST_TO_DEVICE = 1
_DEVICE_TO_HOST = 2
_ANY_DIRECTION = 4
"""cudaMemcpyKind."""


def open_port() -> DevicePort:
    """Return the port of this process.

    Raises:
        DeviceError: there is no CuPy, no driver, or no GPU; the text says what to do.
    """
    other = os.environ.get(PORT_VARIABLE)
    if other:
        from importlib.metadata import EntryPoint  # not at the top: with what it imports, 3 MB

        port: DevicePort = EntryPoint("port", other, "tensorhub.devices").load()()
        return port
    try:
        import cupy
    except ImportError as exc:
        raise DeviceError(NO_CUPY) from exc
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as exc:
        raise DeviceError(f"no GPU can be used: {exc}") from exc
    if count == 0:
        raise DeviceError("no GPU is visible to this process")
    return CupyPort(cupy)


class CupyPort:
    """See DevicePort."""

    def __init__(self, cupy: ModuleType) -> None:
        self._cupy: Any = cupy
        self._runtime: Any = cupy.cuda.runtime
        self._driver = Driver()

    @contextmanager
    def _on(self, ordinal: int) -> Iterator[None]:
        """Make a GPU the current one of this thread, and translate the driver's errors."""
        try:
            with self._cupy.cuda.Device(ordinal):
                yield
        except self._runtime.CUDARuntimeError as exc:
            raise DeviceError(str(exc), poisoned=exc.status in POISONING) from exc
        except self._cupy.cuda.driver.CUDADriverError as exc:
            raise DeviceError(str(exc), poisoned=exc.status in POISONING) from exc
        except self._cupy.cuda.memory.OutOfMemoryError as exc:
            raise DeviceError(str(exc)) from exc

    def devices(self) -> Sequence[Device]:
        """See DevicePort."""
        with self._on(0):
            return [Device(index, self._driver.uuid(index)) for index in range(self._runtime.getDeviceCount())]

    def open_handle(self, ordinal: int, handle: bytes) -> int:
        """See DevicePort."""
        with self._on(ordinal):
            return int(self._runtime.ipcOpenMemHandle(handle))

    def close_handle(self, ordinal: int, pointer: int) -> None:
        """See DevicePort."""
        with self._on(ordinal):
            self._runtime.ipcCloseMemHandle(pointer)

    def extent(self, ordinal: int, pointer: int) -> tuple[int, int]:
        """See DevicePort."""
        with self._on(ordinal):
            return self._driver.extent(pointer)

    def owner_of(self, pointer: int) -> int:
        """See DevicePort."""
        with self._on(0):
            return int(self._runtime.pointerGetAttributes(pointer).device)

    def lock_pages(self, memory: memoryview) -> Callable[[], None]:
        """See DevicePort. All contexts of this process profit, so it does not matter which GPU is the current one."""
        with self._on(0):
            address = _address(memory)
            self._runtime.hostRegister(address, len(memory), _PORTABLE)

        def unlock() -> None:
            with self._on(0):
                self._runtime.hostUnregister(address)

        return unlock

    def allocate(self, ordinal: int, byte_size: int) -> DeviceMemory:
        """See DevicePort. From CuPy's pool, where it goes back to: asking the driver each time takes a millisecond."""
        with self._on(ordinal):
            made = self._cupy.cuda.alloc(byte_size)
        return DeviceMemory(self, ordinal, int(made.ptr), byte_size, made, allocated=True)

    def read(self, ordinal: int, pointer: int, into: memoryview) -> None:
        """See DevicePort."""
        with self._on(ordinal):
            self._runtime.memcpy(_address(into), pointer, len(into), _DEVICE_TO_HOST)

    def write(self, ordinal: int, pointer: int, data: memoryview) -> None:
        """See DevicePort."""
        with self._on(ordinal):
            self._runtime.memcpy(pointer, _address(data), len(data), _HOST_TO_DEVICE)
            self._finish()

    def move(self, ordinal: int, target: int, source: int, byte_size: int) -> None:
        """See DevicePort."""
        with self._on(ordinal):
            self._runtime.memcpy(target, source, byte_size, _ANY_DIRECTION)
            self._finish()

    def _finish(self) -> None:
        """Wait for the copy that has just been asked for: from memory that is not locked, the driver may return before
        its last piece has arrived, and on a GPU before anything has.

        Copies go through the default stream, so it is enough to wait for that one: what other models have running on
        this GPU, in streams of their own, does not matter. Source: the runtime API's chapter on synchronisation.
        """
        self._runtime.streamSynchronize(_DEFAULT_STREAM)

    def used(self, ordinal: int) -> int:
        """See DevicePort."""
        with self._on(ordinal):
            free, total = self._runtime.memGetInfo()
            return int(total - free)

    def wait(self, ordinal: int) -> None:
        """See DevicePort."""
        with self._on(ordinal):
            self._runtime.deviceSynchronize()

    def array(self, memory: DeviceMemory, shape: Sequence[int], dtype: str) -> Any:
        """See DevicePort. CuPy has no bfloat16: it comes as uint16, which a framework can view as what it is."""
        cupy = self._cupy
        with self._on(memory.ordinal):
            unowned = cupy.cuda.UnownedMemory(memory.pointer, memory.nbytes, memory, memory.ordinal)
            pointer = cupy.cuda.MemoryPointer(unowned, 0)
            return cupy.ndarray(tuple(shape), "uint16" if dtype == "bfloat16" else dtype, pointer)


def _address(memory: memoryview) -> int:
    return int(np.frombuffer(memory, np.uint8).ctypes.data)
