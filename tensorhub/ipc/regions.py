"""The regions that clients have registered, as one worker has them open.

A lease pins its region: closing one frees the name at once, and the memory goes when the last lease has been released.
No view is handed out of a range that the segment does not have at that moment.
"""

import os
import threading
from collections.abc import Callable, Collection
from typing import Any

from tensorhub.devices import DeviceMemory
from tensorhub.errors import AlreadyExists, InternalError, InvalidArgument, NotFound
from tensorhub.ipc.copying import fill
from tensorhub.ipc.cuda_regions import CudaSegment, HandleTable
from tensorhub.ipc.descriptors import check_spare
from tensorhub.ipc.far_memory import FarMemory
from tensorhub.ipc.growth import GrowthLimit, grown_byte_size
from tensorhub.ipc.handed_out import maybe_place
from tensorhub.ipc.handles import HandleServer
from tensorhub.ipc.system_shm import SystemSegment
from tensorhub.memory import Lease

_UINT64 = 2**64 - 1
_NOTHING = memoryview(b"")


class RegionFiles:
    """Where files that clients have handed over come from, and where they are kept for the next hub."""

    def __init__(self, server: HandleServer, fetch: Callable[[int, int], int]) -> None:
        """Use them.

        Args:
            server: the one of this process.
            fetch: gets a file by the hub's pid and its number there; raises InternalError.
        """
        self._server = server
        self._fetch = fetch

    def take(self, hub_pid: int, number: int) -> int:
        """Get a file and keep it; return another descriptor of it, which the caller closes.

        Raises:
            InternalError: the hub does not have it, or is gone.
            Unavailable: there are no descriptors to spare.
        """
        fd = self._fetch(hub_pid, number)
        refused = "the file of a region cannot be kept"
        try:
            check_spare(fd, refused)
            self._server.keep(number, os.dup(fd))
        except BaseException as exc:
            os.close(fd)
            if isinstance(exc, OSError):
                raise InternalError(f"{refused}: {exc.strerror}") from exc
            raise
        return fd

    def drop(self, number: int) -> None:
        """The region of a file is no more."""
        self._server.drop(number)


class _Region:
    """A region.

    Attributes:
        segment: None for memory of a GPU that is opened when it is first used, or that is `foreign`: of a GPU that this
            process does not see.
        pins: counts the leases, and one for the table while the name is in it.
    """

    __slots__ = ("foreign", "message", "pins", "segment")

    def __init__(self, message: Any, segment: SystemSegment | CudaSegment | None) -> None:
        self.message = message
        self.segment = segment
        self.foreign = False
        self.pins = 1


class RegionLease:
    """A pinned range of a region; see tensorhub.memory.Lease. For one thread at a time.

    Attributes:
        view: the memory itself, or a private copy of it if another user owns it: then of its content for a lease that
            is only read, else zeros, which `commit` puts in place. Empty for memory of a GPU.
        device: the memory of a GPU, or None.
    """

    __slots__ = ("_offset", "_region", "_staged", "_table", "device", "view")

    def __init__(
        self,
        table: "RegionTable",
        region: _Region,
        offset: int,
        view: memoryview,
        *,
        staged: bool = False,
        device: DeviceMemory | None = None,
    ) -> None:
        self._table = table
        self._region: _Region | None = region
        self._offset = offset
        self._staged = staged
        self.device = device
        self.view = view

    def grow(self, byte_size: int) -> None:
        """See tensorhub.memory.Lease."""
        assert self._region is not None
        segment = self._region.segment
        assert isinstance(segment, SystemSegment)
        with self._table._lock:
            self._table._make_room(segment, self._offset, byte_size)
            self.view = segment.view(self._offset, byte_size) if byte_size else _NOTHING

    def fill(self, data: memoryview) -> None:
        """See tensorhub.memory.Lease."""
        fill(self.view, data)

    def copy_to_host(self) -> bytearray:
        """See tensorhub.memory.Lease."""
        assert self.device is not None
        self._table.device_copies += 1
        return self.device.to_host()

    def commit(self, byte_size: int) -> None:
        """Put the first bytes that were written to `view` in place, if they are not there yet.

        Raises:
            InvalidArgument: the segment has been truncated.
            InternalError: the system has no memory for it.
        """
        if self._staged and self._region is not None:
            segment = self._region.segment
            assert isinstance(segment, SystemSegment)
            segment.write(self._offset, self.view[:byte_size])

    def release(self) -> None:
        """End the use; does nothing the second time. Whatever still refers to `view` keeps that memory alone."""
        region, self._region = self._region, None
        if region is not None:
            self.view = memoryview(b"")
            self.device = None
            self._table._unpin(region)


class RegionTable:
    """Open regions by owner and name. Thread-safe.

    Attributes:
        gpu: the UUID of this process's own GPU, or "".
        device_copies: ranges that were copied from a GPU to the host, or to it.
    """

    def __init__(
        self,
        allowed_uids: Collection[int] = (),
        handles: HandleTable | None = None,
        gpu: str = "",
        *,
        eager: bool = False,
        files: RegionFiles | None = None,
        far: FarMemory | None = None,
        growth: GrowthLimit | None = None,
    ) -> None:
        """Begin empty.

        Args:
            allowed_uids: users whose segments may be used, besides our own.
            handles: opens memory of GPUs; None: this server has no GPU.
            gpu: the UUID of this process's own GPU, or "".
            eager: also without a GPU of its own it opens memory of GPUs at once, and not when it is first used.
            files: gets files from the hub, and keeps them for the next one; None: there are none.
            far: reaches the memory of GPUs that this process does not see; None: nothing does.
            growth: how large outputs may make regions; None: as they like.
        """
        self._allowed_uids = frozenset(allowed_uids)
        self._handles = handles
        self.gpu = gpu
        self.device_copies = 0
        self._eager = eager
        self._files = files
        self._far = far
        self._growth = growth
        self._regions: dict[tuple[str, str], _Region] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<RegionTable {len(self._regions)} regions>"

    def open_system(self, message: Any, hub_pid: int = 0) -> None:
        """Open a range of a client's segment, a `tensorhub.wire.SystemRegion`; on failure, nothing stays open.

        Raises:
            AlreadyExists: the name is taken.
            InvalidArgument, InternalError, Unavailable: see SystemSegment.open.
        """
        key = (message.owner, message.name)
        if key in self._regions:
            raise _taken(message.name)
        if message.handle:
            segment = self._open_file(message, hub_pid)
        else:
            segment = SystemSegment.open(
                message.name, message.key, message.offset, message.byte_size, self._allowed_uids
            )
        with self._lock:
            if key not in self._regions:
                self._regions[key] = _Region(message, segment)
                return
        segment.close()
        raise _taken(message.name)

    def _open_file(self, message: Any, hub_pid: int) -> SystemSegment:
        if self._files is None:
            raise InternalError("this process gets no files from the hub")
        fd = self._files.take(hub_pid, message.handle)
        try:
            return SystemSegment.adopt(message.name, fd, message.offset, message.byte_size, growable=message.growable)
        except BaseException:
            self._files.drop(message.handle)
            raise

    def open_cuda(self, message: Any) -> str:
        """Open a client's memory on a GPU, a `tensorhub.wire.CudaRegion`; on failure, nothing stays open.

        Returns:
            The UUID of the GPU that it lies on; "" if that is not known before it is used.

        Raises:
            AlreadyExists: the name is taken.
            InvalidArgument: there are no GPUs (the text of a Triton without any), or the handle cannot be used.
            DeviceError: there is no driver.
        """
        key = (message.owner, message.name)
        if self._handles is None:
            raise InvalidArgument(f"failed to register CUDA shared memory region: '{message.name}', GPUs not supported")
        if key in self._regions:
            raise _taken(message.name)
        try:
            segment = self._open_handle(self._handles, message) if self.gpu or self._eager else None
        except InvalidArgument:
            # It may be another GPU's: then requests that come here all the same are told so.
            with self._lock:
                self._regions.setdefault(key, _Region(message, None)).foreign = True
            raise
        with self._lock:
            if key not in self._regions:
                self._regions[key] = _Region(message, segment)
                return segment.uuid if segment is not None else ""
        if segment is not None:
            segment.close()
        raise _taken(message.name)

    def _open_handle(self, handles: HandleTable, message: Any) -> CudaSegment:
        return CudaSegment.open(handles, message.name, message.raw_handle, message.device_id, message.byte_size)

    def close(self, name: str, owner: str = "") -> None:
        """Free a name; its memory goes with the last lease. An unknown name is none of our business, as in Triton."""
        with self._lock:
            region = self._regions.pop((owner, name), None)
        if region is not None:
            if isinstance(region.segment, SystemSegment) and region.message.handle:
                assert self._files is not None
                self._files.drop(region.message.handle)
            self._unpin(region)

    def lease(
        self, name: str, offset: int, byte_size: int, *, writable: bool, owner: str = "", grow: bool = False
    ) -> Lease:
        """Pin a range; the caller releases it.

        Args:
            grow: the range is as long as `RegionLease.grow` then makes it; `byte_size` does not count.

        Raises:
            NotFound: no such region.
            InvalidArgument: the range is not inside the region, or the segment has been truncated.
            InternalError: the region has become larger than can be mapped.
        """
        with self._lock:
            region = self._regions.get((owner, name))
            if region is None:
                raise NotFound(f"Unable to find shared memory region: '{name}'{_hint(name)}")
            region.pins += 1
        try:
            segment = region.segment
            if not isinstance(segment, SystemSegment):
                if grow:
                    raise _not_growing(name)
                if region.foreign:
                    return self._lease_far(region, offset, byte_size, writable=writable)
                return self._lease_cuda(region, segment, offset, byte_size)
            if segment.growable:
                with self._lock:
                    segment.refresh()
            if grow:
                return self._lease_growing(region, segment, offset)
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

    def _lease_growing(self, region: _Region, segment: SystemSegment, offset: int) -> RegionLease:
        if not segment.growable:
            raise _not_growing(segment.region)
        if offset > segment.byte_size:
            raise InvalidArgument(f"Invalid offset for shared memory region: '{segment.region}'")
        return RegionLease(self, region, offset, _NOTHING)

    def _lease_cuda(self, region: _Region, segment: CudaSegment | None, offset: int, byte_size: int) -> RegionLease:
        message = region.message
        _check_range(message.name, message.byte_size, offset, byte_size)
        if segment is None:
            segment = self._open_late(region)
        return RegionLease(self, region, offset, _NOTHING, device=segment.memory(offset, byte_size))

    def _lease_far(self, region: _Region, offset: int, byte_size: int, *, writable: bool) -> Lease:
        """Pin memory of a GPU that this process does not see: a private copy of it."""
        message = region.message
        _check_range(message.name, message.byte_size, offset, byte_size)
        if self._far is None:
            raise InvalidArgument(
                f"shared memory region '{message.name}' is not on {self.gpu or 'a GPU'}, where the model runs; load "
                "the model on the region's GPU or on the processor as well"
            )

        def copied() -> None:
            self.device_copies += 1

        return self._far.lease(
            message, offset, byte_size, writable=writable, copied=copied, released=lambda: self._unpin(region)
        )

    def _open_late(self, region: _Region) -> CudaSegment:
        """Open memory of a GPU that is used for the first time; two threads may come at once."""
        assert self._handles is not None
        opened = self._open_handle(self._handles, region.message)
        with self._lock:
            other = region.segment
            if other is None:
                region.segment = opened
        if other is None:
            return opened
        opened.close()
        assert isinstance(other, CudaSegment)
        return other

    def snapshot(self) -> list[Any]:
        """Describe what is open, as `tensorhub.wire` messages: SystemRegion and CudaRegion."""
        with self._lock:
            return [region.message for region in self._regions.values() if not region.foreign]

    def totals(self) -> tuple[int, int]:
        """Number of regions, and their bytes."""
        with self._lock:
            return len(self._regions), sum(region.message.byte_size for region in self._regions.values())

    def grown_byte_size(self) -> int:
        """By how many bytes the files of regions are larger than what was registered of them."""
        with self._lock:
            return self._grown_byte_size()

    def _grown_byte_size(self) -> int:
        return grown_byte_size(
            region.segment.extent(region.message.byte_size)
            for region in self._regions.values()
            if isinstance(region.segment, SystemSegment) and region.segment.growable
        )

    def _make_room(self, segment: SystemSegment, offset: int, byte_size: int) -> None:
        """Make a region large enough for a range, if it is not; with the lock held."""
        more = segment.missing(offset, byte_size)
        if not more:
            return
        if self._growth is None:
            segment.grow(offset + byte_size)
            return
        refused = (
            f"shared memory region '{segment.region}' cannot be made larger: the output needs {byte_size} bytes at "
            f"offset {offset}, which are {more} more than there are"
        )
        registered = sum(region.message.byte_size for region in self._regions.values())
        with self._growth.claimed(refused, more, registered, self._grown_byte_size):
            segment.grow(offset + byte_size)

    def unlinked(self) -> list[tuple[str, str]]:
        """Return owner and name of the regions whose segment has lost its name."""
        with self._lock:
            regions = list(self._regions.items())
        return [key for key, region in regions if region.segment is not None and region.segment.is_unlinked()]

    def _unpin(self, region: _Region) -> None:
        with self._lock:
            region.pins -= 1
            last = region.pins == 0
        if last and region.segment is not None:
            region.segment.close()


def _hint(name: str) -> str:
    """What to do about a region that is not registered: the server has made it, and it is its client's."""
    taken = maybe_place(name) is not None
    return ": it was made for an output; take it and register it over --shm-socket first" if taken else ""


def _not_growing(name: str) -> InvalidArgument:
    return InvalidArgument(
        f"shared memory region '{name}' cannot be made larger for an output: that is for files that were registered "
        "over --shm-socket and not sealed with F_SEAL_GROW"
    )


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
