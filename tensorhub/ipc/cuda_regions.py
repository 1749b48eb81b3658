"""Regions in the memory of GPUs, as one process has them open: handles, bounds, and the reasons why one cannot be used.

A handle is opened once in a process, however many regions lie in its allocation, and closed on its own GPU when the
last of them is gone. What a client calls the device is a hint, for its CUDA_VISIBLE_DEVICES need not be ours: the
handle is tried on every GPU that this process can use, and the GPU that the memory turns out to be on is the region's.
"""

import logging
import threading
from collections.abc import Callable, Sequence

from tensorhub.devices import HANDLE_BYTE_SIZE, Device, DeviceError, DeviceMemory, DevicePort
from tensorhub.errors import InvalidArgument

log = logging.getLogger(__name__)


class OpenHandle:
    """An allocation of a client that is mapped here; `count` regions use it.

    Attributes:
        byte_size: from `pointer` to the end of the allocation.
    """

    __slots__ = ("byte_size", "count", "handle", "ordinal", "pointer")

    def __init__(self, handle: bytes, ordinal: int, pointer: int, byte_size: int) -> None:
        self.handle = handle
        self.ordinal = ordinal
        self.pointer = pointer
        self.byte_size = byte_size
        self.count = 0


class HandleTable:
    """The handles that a process has open. Thread-safe."""

    def __init__(self, open_port: Callable[[], DevicePort]) -> None:
        """Begin empty.

        Args:
            open_port: is called once, when something is to be opened for the first time; raises DeviceError.
        """
        self._open_port = open_port
        self._port: DevicePort | None = None
        self._open: dict[bytes, OpenHandle] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<HandleTable {len(self._open)} handles>"

    @property
    def port(self) -> DevicePort:
        """The port to the driver.

        Raises:
            DeviceError: there is none.
        """
        with self._lock:
            if self._port is None:
                self._port = self._open_port()
            return self._port

    def try_port(self) -> DevicePort | None:
        """Return the port to the driver, or None if there is none."""
        try:
            return self.port
        except DeviceError:
            return None

    def open(self, region: str, handle: bytes, device_hint: int) -> OpenHandle:
        """Map an allocation, or count one more use of it; the caller `release`s it.

        Raises:
            InvalidArgument: no GPU of this process takes the handle; the reason is in the text.
            DeviceError: there is no driver.
        """
        if len(handle) != HANDLE_BYTE_SIZE:
            raise InvalidArgument(
                f"failed to register shared memory region '{region}': a CUDA handle has {HANDLE_BYTE_SIZE} bytes, this "
                f"one has {len(handle)}"
            )
        port = self.port
        with self._lock:
            found = self._open.get(handle)
            if found is None:
                found = self._open[handle] = self._try_devices(port, region, handle, device_hint)
            found.count += 1
            return found

    def _try_devices(self, port: DevicePort, region: str, handle: bytes, device_hint: int) -> OpenHandle:
        devices = sorted(port.devices(), key=lambda device: device.ordinal != device_hint)
        reasons = []
        for device in devices:
            try:
                pointer = port.open_handle(device.ordinal, handle)
            except DeviceError as exc:
                if exc.poisoned:
                    raise
                reasons.append(f"{device.uuid}: {exc.message}")
                continue
            try:
                base, byte_size = port.extent(device.ordinal, pointer)
                owner = port.owner_of(pointer)
            except BaseException:
                port.close_handle(device.ordinal, pointer)
                raise
            if owner == device.ordinal:
                return OpenHandle(handle, owner, pointer, base + byte_size - pointer)
            # Reached through another GPU: it is to be used, and closed, on its own.
            port.close_handle(device.ordinal, pointer)
            reasons.append(f"{device.uuid}: the memory is on device {owner}")
        raise InvalidArgument(_mismatch(region, device_hint, devices, reasons))

    def release(self, handle: OpenHandle) -> None:
        """Count one use less; the last one unmaps it."""
        with self._lock:
            handle.count -= 1
            if handle.count:
                return
            del self._open[handle.handle]
            assert self._port is not None
            try:
                self._port.close_handle(handle.ordinal, handle.pointer)
            except DeviceError as exc:
                log.warning("a CUDA handle could not be closed: %s", exc.message)


def _mismatch(region: str, device_hint: int, devices: Sequence[Device], reasons: Sequence[str]) -> str:
    """Say why a handle cannot be opened, and what to look at."""
    log.info("CUDA region %r cannot be opened here: %s", region, "; ".join(reasons) or "no GPU is visible")
    ours = ", ".join(f"{device.ordinal} = {device.uuid}" for device in devices) or "none"
    return (
        f"failed to register shared memory region '{region}': invalid args. No GPU of this worker takes the handle "
        f"({'; '.join(reasons) or 'no GPU is visible'}). The client calls the device {device_hint}; the worker's are "
        f"{ours}. The memory must be on one of these GPUs, be allocated by cudaMalloc in another process that is alive "
        "and did not free it, and not come from a pool or an expandable segment; `tensorhub doctor` compares both sides"
    )


class CudaSegment:
    """A region's part of an open handle. Not for use after `close`.

    Attributes:
        region: the name it is registered under, for messages.
        uuid: of the GPU that it lies on.
    """

    __slots__ = ("_handle", "_table", "byte_size", "region", "uuid")

    def __init__(self, table: HandleTable, handle: OpenHandle, region: str, byte_size: int, uuid: str) -> None:
        self._table = table
        self._handle: OpenHandle | None = handle
        self.region = region
        self.byte_size = byte_size
        self.uuid = uuid

    @classmethod
    def open(cls, table: HandleTable, region: str, handle: bytes, device_hint: int, byte_size: int) -> "CudaSegment":
        """Open a client's memory and try it out; on failure, nothing stays open.

        Raises:
            InvalidArgument: the handle cannot be opened here, or the allocation is smaller than the region.
            DeviceError: there is no driver, or the memory cannot be read.
        """
        opened = table.open(region, handle, device_hint)
        try:
            if not 0 < byte_size <= opened.byte_size:
                raise InvalidArgument(
                    f"failed to register shared memory region '{region}': invalid args. It is to have {byte_size} "
                    f"bytes, and its allocation has {opened.byte_size}"
                )
            port = table.port
            uuid = next(item.uuid for item in port.devices() if item.ordinal == opened.ordinal)
            for offset in (0, byte_size - 1):
                port.read(opened.ordinal, opened.pointer + offset, memoryview(bytearray(1)))
        except BaseException:
            table.release(opened)
            raise
        return cls(table, opened, region, byte_size, uuid)

    def __repr__(self) -> str:
        return f"<CudaSegment {self.region!r} {self.byte_size} bytes on {self.uuid}>"

    def memory(self, offset: int, byte_size: int) -> DeviceMemory:
        """View a range; it keeps this segment, but not its handle: that is a lease's part."""
        assert self._handle is not None
        return DeviceMemory(self._table.port, self._handle.ordinal, self._handle.pointer + offset, byte_size, self)

    def is_unlinked(self) -> bool:
        """Never: a GPU's memory has no name."""
        return False

    def close(self) -> None:
        """Let the memory go; does nothing the second time."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._table.release(handle)
