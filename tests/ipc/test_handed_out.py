"""What a worker keeps of the regions that it makes for outputs: how many, how long, and until when."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tensorhub.errors import Unavailable
from tensorhub.ipc.handed_out import HandedOut, Place, maybe_place
from tensorhub.ipc.handles import HandleServer, fetch_handle
from tensorhub.ipc.holdings import Holding, Holdings
from tensorhub.ipc.rundir import RunDir
from tensorhub.option_groups import SharedMemory
from tests.shm.segments import open_fds, opened_since
from tests.waiting import wait_until

SECOND_NS = 1_000_000_000


class Desk:
    """A table with a clock that is put forward by hand."""

    def __init__(self, folder: Path, limits: SharedMemory) -> None:
        self.path = folder / "1.fds"
        self.files = HandleServer(self.path)
        self.files.start()
        self.now_ns = 0
        self.registered = (0, 0)
        self.grown = 0
        self.holdings = Holdings(RunDir(folder), 1)
        self.timers: list[tuple[int, Callable[[], None]]] = []
        self.table = HandedOut(
            "cpu0",
            self.files,
            limits,
            self.holdings,
            lambda: self.registered,
            lambda delay_s, call: self.timers.append((self.now_ns + round(delay_s * SECOND_NS), call)),
            lambda: self.now_ns,
            lambda: self.grown,
        )

    def make(self, data: bytes) -> int:
        """Make a region, and return its number."""
        place = maybe_place(self.table.make(memoryview(data)))
        assert place is not None
        assert place.worker == "cpu0"
        return place.number

    def take(self, number: int) -> None:
        """Do as the hub does for a client, which closes the region at once."""
        os.close(fetch_handle(self.path, number))
        wait_until(lambda: not self.files.has(number), "it has been given")

    def ring(self) -> float:
        """Put the clock to when the one timer is due, let it ring, and return when that was, in seconds."""
        [(self.now_ns, call)] = self.timers
        self.timers.clear()
        call()
        return self.now_ns / SECOND_NS


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    before = open_fds()
    found = Desk(
        tmp_path,
        SharedMemory(shm_max_regions=4, shm_max_byte_size=1000, arena_byte_size=900, shm_allocate_timeout_secs=10),
    )
    yield found
    found.files.close()
    found.holdings.close()
    wait_until(lambda: not opened_since(before), "nothing is left open")


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 3])
def test_a_region_has_what_was_put_in(desk: Desk, data: bytes) -> None:
    number = desk.make(data)
    fd = fetch_handle(desk.path, number)
    assert os.fstat(fd).st_size == len(data)
    assert os.pread(fd, 1000, 0) == data
    for size in (len(data) + 1, len(data) - 1):
        if size >= 0:
            with pytest.raises(PermissionError):
                os.ftruncate(fd, size)
    os.close(fd)
    assert desk.table.totals == (1, len(data)), "it counts until it is released"
    desk.table.release([number])
    desk.table.release([number])
    assert desk.table.totals == (0, 0)


def test_names() -> None:
    for number in (1 << 63, 2**64 - 1):
        for worker in ("cpu0", "gpu0-1", "own-a model-12ab"):
            place = Place(number, worker)
            assert maybe_place(place.name) == place
    good = Place(0x8000_0000_0000_00AB, "cpu0").name
    for wrong in (
        good.upper(),
        good.replace("ab", "AB"),
        good[1:],
        f"x{good}",
        good.replace("80", "8_", 1),
        good.replace("-8000", "-+800", 1),
        good.replace("-80", "- 8", 1),
        good.replace("-8", "-7", 1),
        good.replace("-8", "-08", 1),
        good.removesuffix("-cpu0"),
        good.removesuffix("cpu0"),
        "handed-out-",
        "",
    ):
        assert maybe_place(wrong) is None, wrong


def test_numbers_are_of_a_kind_that_nothing_else_has(desk: Desk) -> None:
    fd = os.memfd_create("test", os.MFD_CLOEXEC)
    assert desk.files.add(fd) < 1 << 63 <= desk.make(b"x")


def test_limits(desk: Desk) -> None:
    numbers = [desk.make(bytes(200)) for _ in range(4)]
    with pytest.raises(Unavailable, match="0 regions are registered and 4 handed out, and --shm-max-regions allows no"):
        desk.make(b"")
    desk.table.release(numbers[:2])
    desk.registered = (1, 500)
    with pytest.raises(
        Unavailable, match="900 bytes are registered or handed out, and --shm-max-byte-size allows 1000"
    ):
        desk.make(bytes(101))
    numbers.append(desk.make(bytes(100)))
    desk.registered = (2, 0)
    with pytest.raises(Unavailable, match="2 regions are registered and 3 handed out"):
        desk.make(b"")
    desk.registered = (0, 0)
    with pytest.raises(Unavailable, match="this process has handed out 500, and --arena-byte-size allows each 900"):
        desk.make(bytes(401))
    assert desk.table.totals == (3, 500), "what was refused does not count"
    desk.table.release(numbers)
    assert desk.table.totals == (0, 0)


def test_what_other_processes_have_counts(desk: Desk, tmp_path: Path) -> None:
    hub, other = Holdings(RunDir(tmp_path), 2), Holdings(RunDir(tmp_path), 3)
    hub.write(Holding(2, 400, 0, 0))
    other.write(Holding(0, 0, 1, 300))
    first = desk.make(bytes(300))
    assert desk.holdings.own == Holding(0, 0, 1, 300)
    for size in (0, 1000):
        with pytest.raises(
            Unavailable, match="2 regions are registered and 2 handed out, and --shm-max-regions allows"
        ):
            desk.make(bytes(size))
    other.write(Holding(0, 0, 0, 300))
    with pytest.raises(Unavailable, match="1000 bytes are registered or handed out, and --shm-max-byte-size allows"):
        desk.make(b"1")
    assert desk.holdings.own == Holding(0, 0, 1, 300), "what was refused does not count"
    desk.registered = (3, 0)
    with pytest.raises(Unavailable, match="3 regions are registered and 1 handed out"):  # the hub is new
        desk.make(b"")
    desk.table.release([first])
    assert desk.holdings.own == Holding()
    hub.close()
    other.close()


def test_what_outputs_make_larger_counts(tmp_path: Path) -> None:
    found = Desk(tmp_path, SharedMemory(shm_max_regions=4, shm_max_byte_size=1000, shm_allocate_timeout_secs=10))
    other = Holdings(RunDir(tmp_path), 3)
    found.grown = 500
    found.holdings.change(growing_byte_size=20)
    other.write(Holding(growing_byte_size=80))
    with pytest.raises(
        Unavailable, match="600 bytes are registered or handed out, and --shm-max-byte-size allows 1000"
    ):
        found.make(bytes(401))
    found.make(bytes(400))
    assert found.holdings.own == Holding(0, 0, 1, 400, 20), "each says its own"
    found.files.close()
    found.holdings.close()
    other.close()


def test_nobody_but_its_owner_gets_a_region(desk: Desk) -> None:
    places = {}
    for owner in ("", "a", "b" * 256, "\u00fc"):
        place = maybe_place(desk.table.make(memoryview(b"x"), owner))
        assert place is not None
        places[owner] = place
    for owner, place in places.items():
        assert place.file_of(owner) >= 1 << 63
        for stranger in {*places, "c"} - {owner}:
            assert not desk.files.has(place.file_of(stranger))
            desk.table.release([place.file_of(stranger)])
        assert desk.files.has(place.file_of(owner))
        desk.take(place.file_of(owner))
    desk.table.release([place.file_of(owner) for owner, place in places.items()])
    assert desk.table.totals == (0, 0)


def test_what_nobody_takes_goes_when_its_time_is_up(desk: Desk) -> None:
    first = desk.make(b"1")
    desk.now_ns += 3 * SECOND_NS
    taken, released = desk.make(b"22"), desk.make(b"333")
    desk.take(taken)
    desk.table.release([released])
    desk.now_ns += 1 * SECOND_NS
    last = desk.make(b"4444")
    assert len(desk.timers) == 1, "one timer for all"
    assert desk.ring() == 10
    assert [desk.files.has(number) for number in (first, taken, released, last)] == [False, False, False, True]
    assert desk.table.totals == (2, 6), "what is taken has no deadline"
    assert desk.ring() == 14
    assert not desk.timers, "nothing waits any more"
    assert desk.table.totals == (1, 2)
    desk.table.release([taken])
    assert desk.table.totals == (0, 0)
    desk.make(b"5")
    assert desk.ring() == 24
    assert desk.table.totals == (0, 0)


def test_the_hub_dies(desk: Desk) -> None:
    """The connections of those who have taken something died with it; what was not taken can be, from the next hub."""
    taken, noted, waiting = desk.make(b"1"), desk.make(b"22"), desk.make(b"333")
    desk.take(noted)
    desk.ring()
    assert desk.table.totals == (1, 2)
    taken, waiting = desk.make(b"1"), desk.make(b"333")
    desk.take(taken)
    desk.table.hub_lost()
    assert desk.table.totals == (1, 3)
    desk.take(waiting)
    desk.table.hub_lost()
    assert desk.table.totals == (0, 0)


def test_no_descriptors_are_left(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, flags: int) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "memfd_create", refuse)
        with pytest.raises(
            Unavailable, match=r"^a region of 3 bytes cannot be made for an output: Too many open files$"
        ):
            desk.make(b"abc")
    assert desk.table.totals == (0, 0)
    desk.make(b"abc")
