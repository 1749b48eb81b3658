"""All the memory that a worker's requests can refer to: its own arena, its peers' arenas, the clients' regions.

Inputs that come through a frontend's arena and go to a model on a GPU are copied to locked pages of this worker's own
arena, from which the GPU takes them without a detour; where there is no room, they stay where they are. Outputs need
nothing of the kind: they are written to this worker's arena anyway.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from tensorhub.devices import DeviceError, DevicePort
from tensorhub.errors import InvalidArgument
from tensorhub.ipc.arena_memory import Arena, Block
from tensorhub.ipc.cuda_regions import HandleTable
from tensorhub.ipc.handed_out import HandedOut, maybe_place
from tensorhub.ipc.peer_arenas import PeerArenas
from tensorhub.ipc.regions import RegionTable
from tensorhub.memory import Lease, Slot
from tensorhub.workers.device_use import DeviceUse, Taken

log = logging.getLogger(__name__)


class StagedInput:
    """See tensorhub.memory.Staged."""

    __slots__ = ("_block", "view")

    def __init__(self, block: Block, data: memoryview) -> None:
        block.fill(data)
        self._block = block
        self.view = block.view

    def release(self) -> None:
        """Free the block."""
        self._block.free()


class WorkerMemory:
    """See tensorhub.memory.Memory. Thread-safe; what it is made of stays its maker's."""

    __slots__ = (
        "_arena",
        "_device_use",
        "_handed_out",
        "_handles",
        "_lock",
        "_locked_byte_size",
        "_peers",
        "_prepared",
        "_regions",
    )

    def __init__(
        self,
        arena: Arena,
        peers: PeerArenas,
        regions: RegionTable,
        handles: HandleTable | None = None,
        locked_byte_size: int = 0,
        handed_out: HandedOut | None = None,
    ) -> None:
        """Use them.

        Args:
            handles: gets at the GPU's driver; None for a worker without a GPU.
            locked_byte_size: most bytes of the arena whose pages are locked, once a model is loaded on the GPU.
            handed_out: makes regions for outputs; None: nobody could take them.
        """
        self._arena = arena
        self._peers = peers
        self._regions = regions
        self._handles = handles
        self._locked_byte_size = locked_byte_size
        self._handed_out = handed_out
        self._prepared = False
        self._device_use = DeviceUse(self._maybe_device_used)
        self._lock = threading.Lock()

    def arena(self, owner: int, offset: int, byte_size: int) -> memoryview:
        """View bytes in the arena of the process with pid `owner`."""
        return self._peers.view(owner, offset, byte_size)

    def region(
        self, name: str, offset: int, byte_size: int, *, writable: bool, owner: str = "", grow: bool = False
    ) -> Lease:
        """Pin a range of a region that a client registered."""
        return self._regions.lease(name, offset, byte_size, writable=writable, owner=owner, grow=grow)

    def allocate(self, byte_size: int) -> Slot:
        """Take a piece of the own arena."""
        return self._arena.allocate(byte_size)

    def check_hands_out(self, output: str) -> None:
        """Check that this server makes regions for outputs."""
        if self._handed_out is None:
            raise InvalidArgument(
                f"'shared_memory_allocate' of output '{output}' needs a server that is started with --shm-socket=PATH, "
                "over which its client takes the region, and this one is not"
            )

    def hand_out(self, data: memoryview, owner: str) -> str:
        """Make a region with a copy of these bytes for `owner`, and return its name."""
        assert self._handed_out is not None  # see check_hands_out
        return self._handed_out.make(data, owner)

    def take_back(self, name: str, owner: str) -> None:
        """Let go of a region whose name nobody has been told."""
        place = maybe_place(name)
        if self._handed_out is not None and place is not None:
            self._handed_out.release((place.file_of(owner),))

    def measured_load(self) -> AbstractContextManager[Taken]:
        """Load a model in the block."""
        return self._device_use.measured()

    def _maybe_device_used(self) -> int | None:
        try:
            return None if self._handles is None else self._handles.port.used(0)  # a worker sees one GPU
        except DeviceError as exc:
            log.info("the GPU does not tell how much of its memory is in use: %s", exc.message)
            return None

    def prepare_staging(self) -> None:
        """Lock pages, once; without them everything works as well, only slower."""
        with self._lock:
            if self._prepared or self._handles is None:
                return
            self._prepared = True
            try:
                self._arena.lock_pages(self._locked_byte_size, partial(_lock, self._handles.port))
            except DeviceError as exc:
                log.warning("no pages are locked for copies from and to the GPU: %s", exc.message)

    def maybe_stage(self, data: memoryview) -> StagedInput | None:
        """Copy an input to locked pages; None if there is no room."""
        block = self._arena.maybe_allocate_locked(len(data))
        return None if block is None else StagedInput(block, data)


def _lock(port: DevicePort, pages: memoryview) -> Callable[[], None]:
    unlock = port.lock_pages(pages)

    def unlock_if_possible() -> None:
        try:
            unlock()
        except DeviceError as exc:
            log.info("pages stay locked until the process has ended: %s", exc.message)

    return unlock_if_possible
