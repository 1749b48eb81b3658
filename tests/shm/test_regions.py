"""The table of regions: places in them, leases, truncation, and segments of other users."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorhub.errors import AlreadyExists, InternalError, InvalidArgument, NotFound
from tensorhub.ipc import system_shm
from tensorhub.ipc.arena_memory import Arena
from tensorhub.ipc.peer_arenas import PeerArenas
from tensorhub.ipc.regions import RegionTable
from tensorhub.ipc.rundir import RunDir
from tensorhub.memory import Memory
from tensorhub.protocol import messages
from tensorhub.workers.memory import WorkerMemory

from .segments import Segment, mappings, open_fds, opened_since, segment, system

PAGE = 4096
SIZE = 2 * PAGE
FOREIGN_UID = 54_321
UINT64 = 2**64 - 1
EDGES = [0, 1, SIZE - 1, SIZE, SIZE + 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32, 2**53 - 1, 2**53, 2**53 + 1]
EDGES += [2**63 - 1, 2**63, 2**63 + 1, UINT64 - SIZE, UINT64, -1]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


@pytest.fixture
def made() -> Iterator[Segment]:
    with segment(bytes(range(256)) * (SIZE // 256)) as made:
        yield made


@pytest.fixture
def foreign(made: Segment) -> Segment:
    os.chown(made.path, FOREIGN_UID, FOREIGN_UID)
    return made


@pytest.fixture
def table(made: Segment) -> Iterator[RegionTable]:
    table = RegionTable()
    table.open_system(system("r", made.key, 0, SIZE))
    yield table
    table.close("r")


def test_a_lease_is_the_memory_itself(table: RegionTable, made: Segment) -> None:
    source = table.lease("r", 16, 8, writable=False)
    target = table.lease("r", 0, 8, writable=True)
    assert source.view.readonly
    assert source.view.format == "B"
    target.view[:] = source.view
    target.commit(8)
    assert made.content[:8] == bytes(range(16, 24))
    for lease in (source, target):
        lease.release()
        lease.release()


def test_the_offset_of_the_registration_counts(made: Segment) -> None:
    table = RegionTable()
    made.path.write_bytes(bytes(PAGE) + b"\1" * PAGE)
    table.open_system(system("r", made.key, PAGE, 100))
    lease = table.lease("r", 0, 100, writable=False)
    assert lease.view == b"\1" * 100
    lease.release()
    target = table.lease("r", 32, 4, writable=True)
    target.view[:] = b"out!"
    target.commit(4)
    target.release()
    assert made.content == bytes(PAGE) + b"\1" * 32 + b"out!" + b"\1" * (PAGE - 36)
    with pytest.raises(InvalidArgument):
        table.lease("r", 1, 100, writable=False)
    table.close("r")


def expected_error(offset: int, byte_size: int) -> str | None:
    if not 0 <= offset < SIZE:
        return "Invalid offset for shared memory region: 'r'"
    if offset + byte_size > UINT64:
        return (
            f"Integer overflow detected: byte_size ({byte_size}) + offset ({offset}) exceeds maximum value "
            "(18446744073709551615) for region 'r'"
        )
    if byte_size < 0 or offset + byte_size > SIZE or (offset, byte_size) == (0, 0):
        return "Invalid offset + byte size for shared memory region: 'r'"
    return None


@pytest.mark.parametrize("writable", [False, True])
def test_every_offset_with_every_size(table: RegionTable, writable: bool) -> None:
    for offset in EDGES:
        for byte_size in EDGES:
            wanted = expected_error(offset, byte_size)
            if wanted is None:
                lease = table.lease("r", offset, byte_size, writable=writable)
                assert len(lease.view) == byte_size
                lease.release()
            else:
                with pytest.raises(InvalidArgument) as caught:
                    table.lease("r", offset, byte_size, writable=writable)
                assert caught.value.message == wanted


_numbers = st.one_of(st.sampled_from(EDGES), st.integers(-(2**65), 2**65), st.integers(0, SIZE + 2))


@settings(max_examples=300)
@given(places=st.lists(st.tuples(_numbers, _numbers), max_size=20))
def test_no_lease_is_outside(places: list[tuple[int, int]]) -> None:
    with segment(bytes(SIZE)) as made:
        table = RegionTable()
        table.open_system(system("r", made.key, 0, SIZE))
        for offset, byte_size in places:
            if expected_error(offset, byte_size) is None:
                table.lease("r", offset, byte_size, writable=True).release()
            else:
                with pytest.raises(InvalidArgument):
                    table.lease("r", offset, byte_size, writable=True)
        table.close("r")
        assert mappings(made.key) == 0


def test_names(table: RegionTable, made: Segment) -> None:
    before = open_fds()
    with pytest.raises(AlreadyExists, match=r"^shared memory region 'r' already in manager$"):
        table.open_system(system("r", made.key, 0, PAGE))
    assert not opened_since(before)
    with pytest.raises(NotFound, match=r"^Unable to find shared memory region: 'other'$"):
        table.lease("other", 0, 1, writable=False)
    table.close("other")
    table.open_system(system("again", made.key[1:], PAGE, 10))
    assert [(r.name, r.key, r.offset, r.byte_size) for r in table.snapshot()] == [
        ("r", made.key, 0, SIZE),
        ("again", made.key[1:], PAGE, 10),
    ]
    table.close("again")
    assert len(table.snapshot()) == 1


def test_a_failed_registration_leaves_the_name_free(made: Segment) -> None:
    table = RegionTable()
    with pytest.raises(InvalidArgument):
        table.open_system(system("r", made.key, 0, SIZE + 1))
    assert table.snapshot() == []
    table.open_system(system("r", made.key, 0, SIZE))
    table.close("r")


def test_cuda_is_refused(table: RegionTable) -> None:
    with pytest.raises(
        InvalidArgument, match=r"^failed to register CUDA shared memory region: 'c', GPUs not supported$"
    ):
        table.open_cuda(messages.CudaRegion(name="c", raw_handle=bytes(64), byte_size=64))


def test_close_while_leased(table: RegionTable, made: Segment) -> None:
    lease = table.lease("r", 0, SIZE, writable=True)
    table.close("r")
    with pytest.raises(NotFound):
        table.lease("r", 0, 1, writable=False)
    table.open_system(system("r", made.key, 0, PAGE))  # the name is free at once
    assert mappings(made.key) == 2
    lease.view[:3] = b"abc"
    lease.commit(3)
    assert made.content[:3] == b"abc"
    lease.release()
    assert mappings(made.key) == 1


def test_a_view_that_outlives_its_lease_keeps_the_memory(table: RegionTable, made: Segment) -> None:
    lease = table.lease("r", 0, 4, writable=False)
    view = lease.view
    lease.release()
    table.close("r")
    made.path.unlink()
    assert view == bytes(range(4))
    del view
    assert mappings(made.key) == 0


def test_an_unlinked_segment_is_still_the_regions(table: RegionTable, made: Segment) -> None:
    made.path.unlink()
    lease = table.lease("r", 0, 4, writable=False)
    assert lease.view == bytes(range(4))
    lease.release()


@pytest.mark.parametrize("left", [0, 1, PAGE, SIZE - 1])
def test_a_truncated_segment(table: RegionTable, made: Segment, left: int) -> None:
    made.truncate(left)
    with pytest.raises(InvalidArgument, match=r"^shared memory region 'r' has become smaller than it was"):
        table.lease("r", 0, SIZE, writable=False)
    if left:
        lease = table.lease("r", 0, left, writable=False)
        assert len(bytes(lease.view)) == left
        lease.release()
    made.truncate(SIZE)
    table.lease("r", 0, SIZE, writable=True).release()
    table.close("r")
    assert mappings(made.key) == 0  # the lease that failed pins nothing


def test_descriptors_and_mappings_stay_flat(made: Segment) -> None:
    table = RegionTable()
    before = open_fds()
    for _ in range(2_000):
        table.open_system(system("r", made.key, 0, PAGE))
        lease = table.lease("r", 0, PAGE, writable=True)
        with pytest.raises(InvalidArgument):
            table.lease("r", PAGE, 1, writable=True)
        table.close("r")
        lease.release()
    assert not opened_since(before)
    assert mappings(made.key) == 0


def test_many_threads_lease_while_others_register(made: Segment) -> None:
    table = RegionTable()
    made.path.write_bytes(b"\7" * SIZE)
    before = open_fds()
    wrong: list[object] = []
    seen = threading.Semaphore(0)
    done = threading.Event()

    def use() -> None:
        while not done.is_set():
            try:
                lease = table.lease("r", 8, PAGE, writable=False)
            except NotFound:
                continue
            if lease.view != b"\7" * PAGE:
                wrong.append("bytes")
            lease.release()
            seen.release()

    def register() -> None:
        while not done.is_set():
            try:
                table.open_system(system("r", made.key, 0, SIZE))
            except AlreadyExists:
                table.close("r")

    threads = [threading.Thread(target=use) for _ in range(4)] + [threading.Thread(target=register) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(500):
            assert seen.acquire(timeout=60)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    table.close("r")
    assert wrong == []
    assert not opened_since(before)
    assert mappings(made.key) == 0


# --- segments of another user


@needs_root
def test_another_users_segment_needs_leave(foreign: Segment) -> None:
    before = open_fds()
    with pytest.raises(InternalError, match=r"^Unable to open shared memory region: '"):
        RegionTable().open_system(system("r", foreign.key, 0, SIZE))
    assert not opened_since(before)


@needs_root
def test_another_users_segment_is_copied(foreign: Segment) -> None:
    before = open_fds()
    table = RegionTable([FOREIGN_UID])
    table.open_system(system("r", foreign.key, PAGE, PAGE))
    source = table.lease("r", 16, 4, writable=False)
    target = table.lease("r", 100, 8, writable=True)
    assert mappings(foreign.key) == 0
    content = foreign.content
    target.view[:4] = b"abcd"
    assert foreign.content == content
    table.close("r")  # what is leased can still be written
    target.commit(4)
    assert foreign.content == content[: PAGE + 100] + b"abcd" + content[PAGE + 104 :]
    foreign.path.write_bytes(bytes(SIZE))
    assert source.view == bytes(range(16, 20))
    source.release()
    target.release()
    assert not opened_since(before)


@needs_root
def test_another_user_truncates(foreign: Segment) -> None:
    table = RegionTable([FOREIGN_UID])
    table.open_system(system("r", foreign.key, 0, SIZE))
    target = table.lease("r", 0, SIZE, writable=True)
    source = table.lease("r", 0, SIZE, writable=False)
    foreign.truncate(0)
    assert source.view[:4] == bytes(range(4))
    for attempt in (
        lambda: target.commit(SIZE),
        lambda: table.lease("r", 0, 1, writable=True),
        lambda: table.lease("r", 0, 1, writable=False),
    ):
        with pytest.raises(InvalidArgument, match=r"^shared memory region 'r' has become smaller"):
            attempt()
    assert foreign.content == b""
    source.release()
    target.release()
    table.close("r")


@needs_root
def test_another_user_truncates_during_the_copy(foreign: Segment) -> None:
    opened = system_shm.SystemSegment.open("r", foreign.key, 0, SIZE, [FOREIGN_UID])
    foreign.truncate(PAGE)
    with pytest.raises(InvalidArgument, match="has become smaller"):
        opened.read(0, SIZE)
    opened.close()


@needs_root
@pytest.mark.parametrize("writable", [False, True])
def test_a_sparse_segment_of_another_user_cannot_fill_our_memory(foreign: Segment, writable: bool) -> None:
    huge = system_shm.MAX_COPY_BYTE_SIZE + 1
    foreign.truncate(huge)
    table = RegionTable([FOREIGN_UID])
    table.open_system(system("r", foreign.key, 0, huge))
    with pytest.raises(InvalidArgument, match=f"^{huge} bytes of shared memory region 'r' are wanted at once"):
        table.lease("r", 0, huge, writable=writable)
    table.close("r")


# --- what a worker sees


def test_worker_memory(table: RegionTable, made: Segment, tmp_path: Path) -> None:
    arena = Arena(1 << 20)
    memory: Memory = WorkerMemory(arena, PeerArenas(RunDir(tmp_path)), table)
    lease = memory.region("r", 0, 4, writable=True)
    slot = memory.allocate(100)
    slot.view[:4] = lease.view
    assert (slot.offset, bytes(slot.view[:4]), arena.used) == (0, bytes(range(4)), 128)
    slot.free()
    lease.release()
    assert arena.used == 0
    with pytest.raises(InternalError):
        memory.arena(os.getpid(), 0, 1)
    arena.close()
