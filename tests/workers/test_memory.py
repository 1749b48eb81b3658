"""Locked memory of a GPU worker: what is staged there, what is not for want of room, and that it is let go."""

from pathlib import Path

import pytest

from tensorhub.errors import Unavailable
from tensorhub.ipc.arena_memory import Arena
from tensorhub.ipc.cuda_regions import HandleTable
from tensorhub.ipc.peer_arenas import PeerArenas
from tensorhub.ipc.regions import RegionTable
from tensorhub.ipc.rundir import RunDir
from tensorhub.workers.memory import WorkerMemory
from tests.shm import fake_device
from tests.shm.fake_device import ENVIRON, FakePort

PAGE = 4096


def _memory(arena: Arena, handles: HandleTable | None, locked: int) -> WorkerMemory:
    return WorkerMemory(arena, PeerArenas(RunDir(Path("/nowhere"))), RegionTable(), handles, locked)


@pytest.fixture
def handles(monkeypatch: pytest.MonkeyPatch) -> HandleTable:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(fake_device, "LOCKED", [])
    return HandleTable(FakePort)


def test_inputs_are_staged_as_long_as_there_is_room(handles: HandleTable) -> None:
    arena = Arena(16 * PAGE)
    memory = _memory(arena, handles, 4 * PAGE + 100)
    data = memoryview(bytes(range(256)) * 16)
    assert memory.maybe_stage(data) is None, "nothing is locked before a model is on the GPU"
    memory.prepare_staging()
    memory.prepare_staging()
    assert [size for _, size in fake_device.LOCKED] == [4 * PAGE] == [arena.locked_byte_size]
    staged = [memory.maybe_stage(data) for _ in range(4)]
    assert arena.locked_used == 4 * PAGE
    assert memory.maybe_stage(data[:1]) is None, "the budget is used up"
    assert memory.maybe_stage(memoryview(bytes(PAGE + 1))) is None
    output = memory.allocate(PAGE)
    assert output.offset == 4 * PAGE, "what finds no room there lies behind it"
    for item in staged:
        assert item is not None
        assert item.view == data
        item.view[:1] = b"!"
        item.release()
        item.release()
    assert arena.locked_used == 0
    again = memory.maybe_stage(data)
    assert again is not None
    again.release()
    output.free()
    assert arena.blocks == 0
    arena.close()
    assert fake_device.LOCKED == []


def test_outputs_lie_in_locked_pages_first(handles: HandleTable) -> None:
    arena = Arena(16 * PAGE)
    memory = _memory(arena, handles, 4 * PAGE)
    memory.prepare_staging()
    slots = [memory.allocate(PAGE) for _ in range(16)]
    assert [slot.offset for slot in slots[:5]] == [0, PAGE, 2 * PAGE, 3 * PAGE, 4 * PAGE]
    assert arena.locked_used == 4 * PAGE
    with pytest.raises(Unavailable):
        memory.allocate(1)
    assert memory.maybe_stage(memoryview(b"x")) is None
    slots[15].free()
    assert memory.maybe_stage(memoryview(b"x")) is None, "there is room, but none that is locked"
    for slot in slots[:15]:
        slot.free()
    arena.close()


@pytest.mark.parametrize("locked", [0, PAGE - 1])
def test_less_than_a_page_is_nothing(handles: HandleTable, locked: int) -> None:
    arena = Arena(16 * PAGE)
    memory = _memory(arena, handles, locked)
    memory.prepare_staging()
    assert fake_device.LOCKED == []
    assert memory.maybe_stage(memoryview(b"x")) is None
    arena.close()


def test_more_than_the_arena_is_all_of_it(handles: HandleTable) -> None:
    arena = Arena(2 * PAGE)
    memory = _memory(arena, handles, 1 << 40)
    memory.prepare_staging()
    assert arena.locked_byte_size == 2 * PAGE
    arena.close()


def test_without_a_gpu_nothing_is_locked() -> None:
    arena = Arena(16 * PAGE)
    memory = _memory(arena, None, 4 * PAGE)
    memory.prepare_staging()
    assert memory.maybe_stage(memoryview(b"x")) is None
    arena.close()


def test_a_system_that_locks_nothing(handles: HandleTable, caplog: pytest.LogCaptureFixture) -> None:
    """Everything works, only slower: the limit of locked memory, for instance, is not the server's to change."""
    arena = Arena(16 * PAGE)
    with memoryview(arena.allocate(16 * PAGE).view) as whole:
        handles.port.lock_pages(whole)
    memory = _memory(arena, handles, 16 * PAGE)
    memory.prepare_staging()
    assert "no pages are locked for copies from and to the GPU: cudaErrorInvalidValue" in caplog.text
    assert memory.maybe_stage(memoryview(b"x")) is None
    arena.close()
