"""GPUs that are files: a DevicePort over POSIX memory, and the handles that clients of it make.

A handle is 64 bytes: a mark, the number of the device, and the name of a file in /dev/shm, which is the allocation.
TENSORHUB_FAKE_GPUS has the UUIDs of the host; CUDA_VISIBLE_DEVICES takes away from them. A file named by
TENSORHUB_FAKE_POISON that exists makes `wait` say that the context is lost; TENSORHUB_FAKE_ACCOUNT names a file that
gets a line for each handle that is opened and closed, and for pages that are locked and unlocked.
"""

import ctypes
import mmap
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tensorhub.backends.python import dlpack
from tensorhub.devices import HANDLE_BYTE_SIZE, Device, DeviceError, DeviceMemory
from tensorhub.ipc.gpus import VISIBLE_VARIABLE, Gpu, visible

MARK = b"FAKE"
GPUS = ("GPU-00000000-0000-0000-0000-000000000000", "GPU-11111111-1111-1111-1111-111111111111")
ENVIRON = {
    "TENSORHUB_DEVICE_PORT": "tests.shm.fake_device:open_port",
    "TENSORHUB_DEVICE_DISCOVERY": "tests.shm.fake_device:uuids",
    "TENSORHUB_FAKE_GPUS": ",".join(GPUS),
}


LOCKED: list[tuple[int, int]] = []
"""Address and size of the pages that this process has locked."""


def is_locked(array: Any) -> bool:
    """Whether an array of NumPy lies in locked pages."""
    start = array.ctypes.data
    return any(address <= start and start + array.nbytes <= address + size for address, size in LOCKED)


def uuids() -> list[str]:
    return os.environ["TENSORHUB_FAKE_GPUS"].split(",")


def handle_of(key: str, gpu: int = 0) -> bytes:
    """Make the handle of a file in /dev/shm."""
    return (MARK + bytes([gpu]) + key.lstrip("/").encode()).ljust(HANDLE_BYTE_SIZE, b"\0")


def open_port() -> "FakePort":
    return FakePort()


class FakePort:
    """See tensorhub.devices.DevicePort. It is strict: a range outside its allocation is an error, not a crash.

    Attributes:
        opened, closed, copies: how often.
    """

    def __init__(self) -> None:
        self._all = uuids()
        found = visible([Gpu(uuid) for uuid in self._all], os.environ.get(VISIBLE_VARIABLE))
        self._devices = [Device(index, gpu.uuid) for index, gpu in enumerate(found)]
        self._open: dict[int, tuple[mmap.mmap, int, int]] = {}
        self.opened = self.closed = self.copies = 0

    def devices(self) -> Sequence[Device]:
        return self._devices

    def open_handle(self, ordinal: int, handle: bytes) -> int:
        device = self._devices[ordinal]
        if not handle.startswith(MARK):
            raise DeviceError("cudaErrorInvalidResourceHandle: invalid resource handle")
        if self._all[handle[4]] != device.uuid:
            raise DeviceError("cudaErrorInvalidDevice: the allocation is on another device")
        name = handle[5:].rstrip(b"\0").decode()
        try:
            fd = os.open(f"/dev/shm/{name}", os.O_RDWR)
        except OSError as exc:
            raise DeviceError("cudaErrorMapBufferObjectFailed: the allocation has been freed") from exc
        try:
            size = os.fstat(fd).st_size
            memory = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        pointer = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self._open[pointer] = (memory, size, ordinal)
        self.opened += 1
        _account(f"open {name}")
        return pointer

    def close_handle(self, ordinal: int, pointer: int) -> None:
        _, _, owner = self._open.pop(pointer)
        assert owner == ordinal, "closed on another device than it is on"
        self.closed += 1
        _account("close")

    def _allocation(self, pointer: int, byte_size: int = 1) -> tuple[int, int, int]:
        for base, (_, size, ordinal) in self._open.items():
            if base <= pointer and pointer + byte_size <= base + size:
                return base, size, ordinal
        raise DeviceError("cudaErrorIllegalAddress: an illegal memory access was encountered", poisoned=True)

    def extent(self, ordinal: int, pointer: int) -> tuple[int, int]:
        base, size, _ = self._allocation(pointer)
        return base, size

    def owner_of(self, pointer: int) -> int:
        return self._allocation(pointer)[2]

    def lock_pages(self, memory: memoryview) -> Callable[[], None]:
        place = (ctypes.addressof(ctypes.c_char.from_buffer(memory)), len(memory))
        if any(number % mmap.PAGESIZE for number in place) or place in LOCKED:
            raise DeviceError("cudaErrorInvalidValue: invalid argument")
        LOCKED.append(place)
        _account(f"lock {place[1]}")

        def unlock() -> None:
            LOCKED.remove(place)
            _account("unlock")

        return unlock

    def allocate(self, ordinal: int, byte_size: int) -> DeviceMemory:
        device = self._devices[ordinal]
        assert byte_size > 0, "the driver gives no memory without a size"
        owner = ctypes.create_string_buffer(byte_size)
        _account(f"allocate {device.uuid}")
        return DeviceMemory(self, ordinal, ctypes.addressof(owner), byte_size, owner, allocated=True)

    def read(self, ordinal: int, pointer: int, into: memoryview) -> None:
        self.copies += 1
        self._check(pointer, len(into))
        into[:] = ctypes.string_at(pointer, len(into))

    def write(self, ordinal: int, pointer: int, data: memoryview) -> None:
        self.copies += 1
        self._check(pointer, len(data))
        ctypes.memmove(pointer, bytes(data), len(data))

    def move(self, ordinal: int, target: int, source: int, byte_size: int) -> None:
        self.copies += 1
        self._check(target, byte_size)
        ctypes.memmove(target, source, byte_size)

    def _check(self, pointer: int, byte_size: int) -> None:
        """What begins in an allocation of a client must end in it; the rest is a model's own."""
        if any(base <= pointer < base + size for base, (_, size, _) in self._open.items()):
            self._allocation(pointer, byte_size)

    def used(self, ordinal: int) -> int:
        """See DevicePort; a file named by TENSORHUB_FAKE_USED says it, of all GPUs."""
        try:
            return int(Path(os.environ["TENSORHUB_FAKE_USED"]).read_text())
        except (KeyError, OSError) as exc:
            raise DeviceError("cudaErrorNotSupported: operation not supported") from exc

    def wait(self, ordinal: int) -> None:
        poison = os.environ.get("TENSORHUB_FAKE_POISON")
        if poison and Path(poison).exists():
            raise DeviceError("cudaErrorIllegalAddress: an illegal memory access was encountered", poisoned=True)

    def array(self, memory: DeviceMemory, shape: Sequence[int], dtype: str) -> "FakeArray":
        raw: Any = (ctypes.c_char * memory.nbytes).from_address(memory.pointer)
        raw.keep = memory  # as a capsule of the values does
        values = np.frombuffer(raw, np.uint16 if dtype == "bfloat16" else dtype).reshape(tuple(shape))
        return FakeArray(values, memory.ordinal, memory)


class FakeArray:
    """An array on a fake GPU: its capsules say CUDA, and the memory is NumPy's."""

    def __init__(self, values: Any, ordinal: int = 0, keep: object = None) -> None:
        self.values = values
        self.ordinal = ordinal
        self._keep = keep

    def __dlpack__(self, *, stream: Any = None) -> Any:
        # Writable, as DLPack cannot say that memory is not.
        values = self.values if self.values.flags.writeable else self.values.copy()
        capsule = values.__dlpack__()
        tensor = dlpack._tensor_of(capsule)
        assert tensor is not None
        tensor.device.device_type, tensor.device.device_id = dlpack.CUDA, self.ordinal
        return capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return (dlpack.CUDA, self.ordinal)


def to_numpy(source: Any) -> Any:
    """Read a tensor on a fake GPU, as a framework would."""
    capsule = source if type(source).__name__ == "PyCapsule" else source.__dlpack__(stream=1)
    tensor = dlpack._tensor_of(capsule)
    assert tensor is not None
    assert tensor.device.device_type == dlpack.CUDA
    tensor.device.device_type, tensor.device.device_id = dlpack.CPU, 0
    return np.from_dlpack(_Held(capsule))


def writable(source: Any) -> Any:
    """Do as `to_numpy`, for a model that writes to its bytes in place, which NumPy does not allow."""
    values = to_numpy(source)
    raw: Any = (ctypes.c_char * values.nbytes).from_address(values.ctypes.data)
    raw.keep = values
    return np.frombuffer(raw, values.dtype).reshape(values.shape)


class _Held:
    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **options: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return (dlpack.CPU, 0)


def _account(line: str) -> None:
    path = os.environ.get("TENSORHUB_FAKE_ACCOUNT")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {line}\n")
