"""The regions that clients have registered, as one worker has them open.

A lease pins its region: closing one frees the name at once, and the memory goes when the last lease has been released.
No view is handed out of a range that the segment does not have at that moment.
"""

import threading
from collections.abc import Collection
from typing import Any

from tensorhub.errors import AlreadyExists, InvalidArgument, NotFound
from tensorhub.ipc.copying import fill
from tensorhub.ipc.system_shm import SystemSegment

_UINT64 = 2**64 - 1


class _Region:
    """An open region. `pins` counts the leases, and one for the table while the name is in it."""

    __slots__ = ("message", "pins", "segment")

    def __init__(self, message: Any, segment: SystemSegment) -> None:
        self.message = message
        self.segment = segment
        self.pins = 1


class RegionLease:
    """A pinned range of a region; see tensorhub.memory.Lease. For one thread at a time.

    Attributes:
        view: the memory itself, or a private copy of it if another user owns it: then of its content for a lease that
            is only read, else zeros, which `commit` puts in place.
    """

    __slots__ = ("_offset", "_region", "_staged", "_table", "view")

    def __init__(
        self, table: "RegionTable", region: _Region, offset: int, view: memoryview, *, staged: bool = False
    ) -> None:
        self._table = table
        self._region: _Region | None = region
        self._offset = offset
        self._staged = staged
        self.view = view

    def fill(self, data: memoryview) -> None:
        """See tensorhub.memory.Lease."""
        fill(self.view, data)

    def commit(self, byte_size: int) -> None:
        """Put the first bytes that were written to `view` in place, if they are not there yet.

        Raises:
            InvalidArgument: the segment has been truncated.
            InternalError: the system has no memory for it.
        """
        if self._staged and self._region is not None:
            self._region.segment.write(self._offset, self.view[:byte_size])

    def release(self) -> None:
        """End the use; does nothing the second time. Whatever still refers to `view` keeps that memory alone."""
        region, self._region = self._region, None
        if region is not None:
            self.view = memoryview(b"")
            self._table._unpin(region)


class RegionTable:
    """Open regions by owner and name. Thread-safe."""

    def __init__(self, allowed_uids: Collection[int] = ()) -> None:
        """Begin empty.

        Args:
            allowed_uids: users whose segments may be used, besides our own.
        """
        self._allowed_uids = frozenset(allowed_uids)
        self._regions: dict[tuple[str, str], _Region] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<RegionTable {len(self._regions)} regions>"

    def open_system(self, message: Any) -> None:
        """Open a range of a client's segment, a `tensorhub.wire.SystemRegion`; on failure, nothing stays open.

        Raises:
            AlreadyExists: the name is taken.
            InvalidArgument, InternalError: see SystemSegment.open.
        """
        key = (message.owner, message.name)
        if key in self._regions:
            raise _taken(message.name)
        segment = SystemSegment.open(message.name, message.key, message.offset, message.byte_size, self._allowed_uids)
        with self._lock:
            if key not in self._regions:
                self._regions[key] = _Region(message, segment)
                return
        segment.close()
        raise _taken(message.name)

    def open_cuda(self, name: str, raw_handle: bytes, device_id: int, byte_size: int) -> None:
        """Refuse a region in the memory of a GPU: this process uses none.

        Raises:
            InvalidArgument: always; the text of a Triton without GPUs.
        """
        raise InvalidArgument(f"failed to register CUDA shared memory region: '{name}', GPUs not supported")

    def close(self, name: str, owner: str = "") -> None:
        """Free a name; its memory goes with the last lease. An unknown name is none of our business, as in Triton."""
        with self._lock:
            region = self._regions.pop((owner, name), None)
        if region is not None:
            self._unpin(region)

    def lease(self, name: str, offset: int, byte_size: int, *, writable: bool, owner: str = "") -> RegionLease:
        """Pin a range; the caller releases it.

        Raises:
            NotFound: no such region.
            InvalidArgument: the range is not inside the region, or the segment has been truncated.
        """
        with self._lock:
            region = self._regions.get((owner, name))
            if region is None:
                raise NotFound(f"Unable to find shared memory region: '{name}'")
            region.pins += 1
        try:
            segment = region.segment
            _check_range(name, segment.byte_size, offset, byte_size)
            segment.check_present(offset, byte_size)
            if segment.in_place:
                view = segment.view(offset, byte_size)
                return RegionLease(self, region, offset, view if writable else view.toreadonly())
            if writable:
                return RegionLease(self, region, offset, memoryview(segment.stage(byte_size)), staged=True)
            return RegionLease(self, region, offset, memoryview(segment.read(offset, byte_size)))
        except BaseException:
            self._unpin(region)
            raise

    def snapshot(self) -> list[Any]:
        """Describe what is open, as `tensorhub.wire.SystemRegion` messages."""
        with self._lock:
            return [region.message for region in self._regions.values()]

    def unlinked(self) -> list[tuple[str, str]]:
        """Return owner and name of the regions whose segment has lost its name."""
        with self._lock:
            regions = list(self._regions.items())
        return [key for key, region in regions if region.segment.is_unlinked()]

    def _unpin(self, region: _Region) -> None:
        with self._lock:
            region.pins -= 1
            last = region.pins == 0
        if last:
            region.segment.close()


def _taken(name: str) -> AlreadyExists:
    return AlreadyExists(f"shared memory region '{name}' already in manager")


def _check_range(name: str, region_byte_size: int, offset: int, byte_size: int) -> None:
    """Triton's checks of a tensor's place, in its order.

    Raises:
        InvalidArgument: the range is not inside the region; or it is empty and at the start, which Triton refuses too.
    """
    if not 0 <= offset < region_byte_size:
        raise InvalidArgument(f"Invalid offset for shared memory region: '{name}'")
    end = offset + byte_size
    if end > _UINT64:
        raise InvalidArgument(
            f"Integer overflow detected: byte_size ({byte_size}) + offset ({offset}) exceeds maximum value ({_UINT64}) "
            f"for region '{name}'"
        )
    if byte_size < 0 or end > region_byte_size or end == 0:
        raise InvalidArgument(f"Invalid offset + byte size for shared memory region: '{name}'")
