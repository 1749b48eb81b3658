"""All the memory that a worker's requests can refer to: its own arena, its peers' arenas, the clients' regions."""

from tensorhub.ipc.arena_memory import Arena
from tensorhub.ipc.peer_arenas import PeerArenas
from tensorhub.ipc.regions import RegionTable
from tensorhub.memory import Lease, Slot


class WorkerMemory:
    """See tensorhub.memory.Memory. Thread-safe; what it is made of stays its maker's."""

    __slots__ = ("_arena", "_peers", "_regions")

    def __init__(self, arena: Arena, peers: PeerArenas, regions: RegionTable) -> None:
        self._arena = arena
        self._peers = peers
        self._regions = regions

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
