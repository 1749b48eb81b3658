"""What is asked of NVIDIA's driver without CuPy: which GPU this is, what allocation an address is in, its handle.

Answered by libcuda itself, which is where the driver is, in all versions of CUDA alike. Source: the CUDA driver API
(cuDeviceGetUuid, cuMemGetAddressRange, cuPointerGetAttribute, cuIpcGetMemHandle, cuCtxPushCurrent).

What is asked about an allocation is asked in the context that it was made in. The caller's thread need not have it: it
may use another GPU, or none so far, since a context belongs to one thread at a time that has made it its own.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tensorhub.devices import HANDLE_BYTE_SIZE, DeviceError

_LIBRARY = "libcuda.so.1"
_UUID_BYTE_SIZE = 16

_CONTEXT = 1
_DEVICE_ORDINAL = 9
_IS_LEGACY_IPC_CAPABLE = 10
"""CUpointer_attribute."""


POISONING = frozenset((4, 214, 220, 226, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721))
"""Errors of driver and runtime alike, after which no call of the process works any more: driver at its end, ECC,
NVLink, contained exception, illegal address, launch timeout, assertion, hardware stack error, illegal instruction,
misaligned address, invalid address space, invalid program counter, launch failure, leaked tensor memory."""


def load_library() -> Any:
    """Return the driver's functions by name, which return an error's number.

    Raises:
        DeviceError: it is not installed.
    """
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError as exc:
        raise DeviceError(f"NVIDIA's driver cannot be loaded: {exc}") from exc


class Driver:
    """The driver of this process."""

    def __init__(self, library: Any = None) -> None:
        """Begin to use it; `library` stands for what `load_library` returns.

        Raises:
            DeviceError: it is not installed, or there is no GPU.
        """
        self._library = load_library() if library is None else library
        self._call("cuInit", ctypes.c_uint(0))

    def uuid(self, ordinal: int) -> str:
        """Return the UUID of a GPU, in the form of nvidia-smi.

        Raises:
            DeviceError: there is no such GPU.
        """
        device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(ordinal))
        raw = (ctypes.c_ubyte * _UUID_BYTE_SIZE)()
        self._call("cuDeviceGetUuid", ctypes.byref(raw), device)
        return uuid_text(bytes(raw))

    def extent(self, pointer: int) -> tuple[int, int]:
        """Return base and byte size of the allocation that an address is in.

        Raises:
            DeviceError: it is in none.
        """
        base, byte_size = ctypes.c_uint64(), ctypes.c_size_t()
        with self._in_context_of(pointer):
            self._call("cuMemGetAddressRange_v2", ctypes.byref(base), ctypes.byref(byte_size), ctypes.c_uint64(pointer))
        return base.value, byte_size.value

    def can_share(self, pointer: int) -> bool:
        """Whether the memory at an address can be shared by handle: not that of a pool or an expandable segment.

        Raises:
            DeviceError: it is no memory of a GPU.
        """
        value = ctypes.c_int()
        self._attribute(value, _IS_LEGACY_IPC_CAPABLE, pointer)
        return bool(value.value)

    def device_of(self, pointer: int) -> int:
        """Return the ordinal of the GPU that an address is on.

        Raises:
            DeviceError: it is on none.
        """
        value = ctypes.c_int()
        self._attribute(value, _DEVICE_ORDINAL, pointer)
        return value.value

    @contextmanager
    def _in_context_of(self, pointer: int) -> Iterator[None]:
        """Make the context that an address was allocated in the current one of this thread, if it has one."""
        context, before = ctypes.c_void_p(), ctypes.c_void_p()
        arguments = ctypes.byref(context), ctypes.c_int(_CONTEXT), ctypes.c_uint64(pointer)
        if self._library["cuPointerGetAttribute"](*arguments) or not context.value:
            yield  # memory of a pool has none; what is wrong with others, the next call says
            return
        self._call("cuCtxPushCurrent_v2", context)
        try:
            yield
        finally:
            self._call("cuCtxPopCurrent_v2", ctypes.byref(before))

    def _attribute(self, value: ctypes.c_int, attribute: int, pointer: int) -> None:
        arguments = ctypes.byref(value), ctypes.c_int(attribute), ctypes.c_uint64(pointer)
        self._call("cuPointerGetAttribute", *arguments)

    def handle(self, pointer: int) -> bytes:
        """Return the handle of the allocation that begins at an address.

        Raises:
            DeviceError: it cannot be shared.
        """
        raw = (ctypes.c_ubyte * HANDLE_BYTE_SIZE)()
        with self._in_context_of(pointer):
            self._call("cuIpcGetMemHandle", ctypes.byref(raw), ctypes.c_uint64(pointer))
        return bytes(raw)

    def _call(self, name: str, *arguments: object) -> None:
        status = self._library[name](*arguments)
        if status:
            raise DeviceError(
                f"{name} failed with CUDA error {status}{self._named(status)}", poisoned=status in POISONING
            )

    def _named(self, status: int) -> str:
        """Return what the driver calls an error."""
        text = ctypes.c_char_p()
        if self._library["cuGetErrorName"](ctypes.c_int(status), ctypes.byref(text)) or not text.value:
            return ""
        return f" ({text.value.decode()})"


def uuid_text(raw: bytes) -> str:
    """Print a UUID as nvidia-smi does."""
    digits = raw.hex()
    return f"GPU-{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
