"""What is asked of NVIDIA's driver without CuPy: which GPU this is, what allocation an address is in, its handle.

Answered by libcuda itself, which is where the driver is, in all versions of CUDA alike. Source: the CUDA driver API
(cuDeviceGetUuid, cuMemGetAddressRange, cuPointerGetAttribute, cuIpcGetMemHandle).
"""

import ctypes

from tensorhub.devices import HANDLE_BYTE_SIZE, DeviceError

_LIBRARY = "libcuda.so.1"
_UUID_BYTE_SIZE = 16

_DEVICE_ORDINAL = 9
_IS_LEGACY_IPC_CAPABLE = 10
"""CUpointer_attribute."""


class Driver:
    """The driver of this process."""

    def __init__(self) -> None:
        """Load it.

        Raises:
            DeviceError: it is not installed.
        """
        try:
            self._library = ctypes.CDLL(_LIBRARY)
        except OSError as exc:
            raise DeviceError(f"NVIDIA's driver cannot be loaded: {exc}") from exc
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
        """Return base and byte size of the allocation that an address is in; its GPU must be the current one.

        Raises:
            DeviceError: it is in none.
        """
        base, byte_size = ctypes.c_uint64(), ctypes.c_size_t()
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

    def _attribute(self, value: ctypes.c_int, attribute: int, pointer: int) -> None:
        arguments = ctypes.byref(value), ctypes.c_int(attribute), ctypes.c_uint64(pointer)
        self._call("cuPointerGetAttribute", *arguments)

    def handle(self, pointer: int) -> bytes:
        """Return the handle of the allocation that begins at an address.

        Raises:
            DeviceError: it cannot be shared.
        """
        raw = (ctypes.c_ubyte * HANDLE_BYTE_SIZE)()
        self._call("cuIpcGetMemHandle", ctypes.byref(raw), ctypes.c_uint64(pointer))
        return bytes(raw)

    def _call(self, name: str, *arguments: object) -> None:
        status = self._library[name](*arguments)
        if status:
            raise DeviceError(f"{name} failed with CUDA error {status}")


def uuid_text(raw: bytes) -> str:
    """Print a UUID as nvidia-smi does."""
    digits = raw.hex()
    return f"GPU-{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
