"""Two questions to NVIDIA's driver that CuPy does not ask: which GPU this is, and in what allocation an address is.

Answered by libcuda itself, which is where the driver is, in all versions of CUDA alike. Source: the CUDA driver API
(cuDeviceGet, cuDeviceGetUuid, cuMemGetAddressRange).
"""

import ctypes

from tensorhub.devices import DeviceError

_LIBRARY = "libcuda.so.1"
_UUID_BYTE_SIZE = 16


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

    def _call(self, name: str, *arguments: object) -> None:
        status = self._library[name](*arguments)
        if status:
            raise DeviceError(f"{name} failed with CUDA error {status}")


def uuid_text(raw: bytes) -> str:
    """Print a UUID as nvidia-smi does."""
    digits = raw.hex()
    return f"GPU-{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
