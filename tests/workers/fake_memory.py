"""A Memory of plain bytearrays that knows what is pinned and what is taken."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from tensorhub.errors import InternalError, InvalidArgument, NotFound, Unavailable


class FakeLease:
    """See tensorhub.memory.Lease."""

    def __init__(self, memory: "FakeMemory", view: memoryview) -> None:
        self._memory: FakeMemory | None = memory
        self.view = view
        self.device = None
        memory.pinned += 1

    def fill(self, data: memoryview) -> None:
        self.view[: len(data)] = data

    def commit(self, byte_size: int) -> None:
        """Nothing to do: the view is the region itself."""

    def release(self) -> None:
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.pinned -= 1


class FakeStaged:
    """See tensorhub.memory.Staged."""

    def __init__(self, memory: "FakeMemory", data: memoryview) -> None:
        self._memory: FakeMemory | None = memory
        self.view = memoryview(bytearray(data))
        memory.staged += 1

    def release(self) -> None:
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.staged -= 1


class FakeSlot:
    """See tensorhub.memory.Slot."""

    def __init__(self, memory: "FakeMemory", offset: int, byte_size: int) -> None:
        self._memory: FakeMemory | None = memory
        self.offset = offset
        self.view = memoryview(memory.own)[offset : offset + byte_size]
        memory.taken += 1

    def fill(self, data: memoryview) -> None:
        self.view[: len(data)] = data

    def free(self) -> None:
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.taken -= 1


class FakeMemory:
    """See tensorhub.memory.Memory.

    Attributes:
        arenas: of the peers, by pid.
        regions: by name.
        own: this process's arena.
        pinned, taken: leases and slots that have not been given back.
        slots: how many allocations succeed before the arena is full.
        stages: how many inputs are staged before there is no room. staged: those that have not been given back.
        handed_out: what was made for outputs, by name.
        hands_out: whether it makes any.
    """

    def __init__(self) -> None:
        self.arenas: dict[int, bytearray] = {}
        self.regions: dict[str, bytearray] = {}
        self.own = bytearray(1 << 20)
        self.pinned = 0
        self.taken = 0
        self.slots = 100
        self.stages = 0
        self.staged = 0
        self.handed_out: dict[str, bytes] = {}
        self.hands_out = True
        self._next_offset = 0

    def arena(self, owner: int, offset: int, byte_size: int) -> memoryview:
        if owner not in self.arenas or offset + byte_size > len(self.arenas[owner]):
            raise InternalError(f"{byte_size} bytes at {offset} are outside the arena")
        return memoryview(self.arenas[owner])[offset : offset + byte_size]

    def region(
        self, name: str, offset: int, byte_size: int, *, writable: bool, owner: str = "", grow: bool = False
    ) -> FakeLease:
        name = f"{owner}/{name}" if owner else name
        if name not in self.regions:
            raise NotFound(f"Unable to find shared memory region: '{name}'")
        if offset >= len(self.regions[name]):
            raise InvalidArgument(f"Invalid offset for shared memory region: '{name}'")
        if offset + byte_size > len(self.regions[name]):
            raise InvalidArgument(f"Invalid offset + byte size for shared memory region: '{name}'")
        view = memoryview(self.regions[name])[offset : offset + byte_size]
        return FakeLease(self, view if writable else view.toreadonly())

    def allocate(self, byte_size: int) -> FakeSlot:
        if self.slots == 0:
            raise Unavailable("the server's transfer memory is full")
        self.slots -= 1
        offset, self._next_offset = self._next_offset, -(-(self._next_offset + byte_size) // 64) * 64
        return FakeSlot(self, offset, byte_size)

    def check_hands_out(self, output: str) -> None:
        if not self.hands_out:
            raise InvalidArgument(f"nothing is handed out for '{output}'")

    def hand_out(self, data: memoryview, owner: str) -> str:
        if len(self.handed_out) == 3:
            raise Unavailable("three are handed out")
        name = f"{owner}region {len(self.handed_out)}"
        self.handed_out[name] = bytes(data)
        return name

    def take_back(self, name: str, owner: str) -> None:
        assert name.startswith(f"{owner}region")
        del self.handed_out[name]

    def measured_load(self) -> AbstractContextManager[Callable[[], int]]:
        return nullcontext(lambda: 0)

    def prepare_staging(self) -> None:
        self.stages = 100

    def maybe_stage(self, data: memoryview) -> FakeStaged | None:
        if self.stages == 0:
            return None
        self.stages -= 1
        return FakeStaged(self, data)
