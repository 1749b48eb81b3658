"""What counts of regions that have become larger: once for a file, in all processes, whoever has made it larger."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tensorhub.errors import InvalidArgument, Unavailable
from tensorhub.ipc.growth import Extent, GrowthLimit, grown_byte_size
from tensorhub.ipc.handles import HandleServer
from tensorhub.ipc.holdings import Holding, Holdings
from tensorhub.ipc.regions import RegionFiles, RegionTable
from tensorhub.ipc.rundir import RunDir
from tensorhub.protocol import messages
from tests.shm.segments import open_fds, opened_since
from tests.waiting import wait_until

LIMIT = 100_000
PROCESSES = 4
FILES = 3

# Makes files larger at random, as a worker does, until it has been refused often.
_GROWER = """
import os, random, sys
from pathlib import Path
from tensorhub.errors import Unavailable
from tensorhub.ipc.growth import Extent, GrowthLimit, grown_byte_size
from tensorhub.ipc.holdings import Holdings
from tensorhub.ipc.rundir import RunDir
held, fds = Holdings(RunDir(Path(sys.argv[1])), os.getpid()), [int(fd) for fd in sys.argv[3:]]
limit = GrowthLimit(held, int(sys.argv[2]))
def grown():
    return grown_byte_size(Extent((0, fd), os.fstat(fd).st_size, 0) for fd in fds)
refused = 0
while refused < 300:
    fd, more = random.choice(fds), random.randrange(1, 400)
    size = os.fstat(fd).st_size + more
    try:
        with limit.claimed("", more, 0, grown):
            os.posix_fallocate(fd, 0, size)
    except Unavailable:
        refused += 1
held.close()
"""


def _file(byte_size: int) -> int:
    fd = os.memfd_create("grows", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, byte_size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return fd


def _size(fd: int) -> int:
    return os.fstat(fd).st_size


def test_a_file_counts_once() -> None:
    first, second = (1, 1), (1, 2)
    assert grown_byte_size([]) == 0
    assert grown_byte_size([Extent(first, 100, 100), Extent(second, 50, 50)]) == 0
    assert grown_byte_size([Extent(first, 130, 100), Extent(second, 51, 50)]) == 31
    assert grown_byte_size([Extent(first, 130, 100), Extent(first, 130, 120), Extent(first, 130, 10)]) == 10
    assert grown_byte_size([Extent(first, 130, 100), Extent(first, 140, 10)]) == 40, "it has grown in between"


def test_all_that_is_shared_counts(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    own, hub, other = (Holdings(run_dir, pid) for pid in (1, 2, 3))
    limit = GrowthLimit(own, 1000)
    own.change(handed_out=1, handed_out_byte_size=100)
    hub.write(Holding(1, 300))
    other.write(Holding(0, 0, 1, 50, 150))

    def attempt(more: int, registered: int = 0) -> None:
        with limit.claimed("what is wanted", more, registered, lambda: 200):
            assert own.own == Holding(0, 0, 1, 100, more), "the others see it"

    attempt(200)
    with pytest.raises(Unavailable) as caught:
        attempt(201)
    assert caught.value.message == (
        "what is wanted; 800 bytes are registered, grown or handed out, and --shm-max-byte-size allows 1000 together; "
        "unregister or release what is not used"
    )
    attempt(100, 400)
    with pytest.raises(Unavailable):  # the hub is new: it knows less than we do
        attempt(101, 400)
    run_dir.forget(3)
    attempt(400)
    with pytest.raises(ZeroDivisionError), limit.claimed("", 1, 0, lambda: 0):
        raise ZeroDivisionError
    assert own.own == Holding(0, 0, 1, 100)
    for held in (own, hub):
        held.close()


def test_processes_that_grow_at_the_same_time_keep_the_limit(tmp_path: Path) -> None:
    fds = [_file(0) for _ in range(FILES)]
    command = [sys.executable, "-c", _GROWER, str(tmp_path), str(LIMIT), *map(str, fds)]
    growers = [subprocess.Popen(command, pass_fds=fds) for _ in range(PROCESSES)]
    assert [grower.wait(60) for grower in growers] == [0] * PROCESSES
    total = sum(map(_size, fds))
    for fd in fds:
        os.close(fd)
    # Files do not become smaller, so the limit has held all the time.
    assert LIMIT // 2 < total <= LIMIT


Opener = Callable[[str, int, int, int], None]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[RegionTable, Opener, Holdings]]:
    """Yield a worker's table with a limit, and what opens a file in it: name, descriptor, offset, byte size."""
    before = open_fds()
    given: dict[int, int] = {}
    with ExitStack() as stack:
        server = HandleServer(tmp_path / "1.fds")
        server.start()
        stack.callback(server.close)
        holdings = Holdings(RunDir(tmp_path), 1)
        stack.callback(holdings.close)
        files = RegionFiles(server, lambda hub_pid, number: os.dup(given[number]))
        table = RegionTable(files=files, growth=GrowthLimit(holdings, LIMIT))

        def open_file(name: str, fd: int, offset: int, byte_size: int) -> None:
            number = len(given) + 1
            given[number] = fd
            message: Any = messages.SystemRegion(
                name=name, offset=offset, byte_size=byte_size, handle=number, growable=True
            )
            table.open_system(message)

        yield table, open_file, holdings
        for region in table.snapshot():
            table.close(region.name)
        for fd in set(given.values()):
            os.close(fd)
    wait_until(lambda: not opened_since(before), "nothing is left open")


def _grow(table: RegionTable, name: str, offset: int, byte_size: int) -> None:
    lease = table.lease(name, offset, 0, writable=True, grow=True)
    try:
        lease.grow(byte_size)
        assert len(lease.view) == byte_size
    finally:
        lease.release()


def test_a_region_grows_up_to_the_limit(opened: tuple[RegionTable, Opener, Holdings]) -> None:
    table, open_file, holdings = opened
    first, second = _file(10_000), _file(0)
    open_file("a", first, 0, 10_000)
    open_file("b", second, 0, 0)
    _grow(table, "b", 0, 60_000)
    assert table.grown_byte_size() == 60_000
    with pytest.raises(Unavailable) as caught:
        _grow(table, "a", 5_000, 35_001)
    assert caught.value.message == (
        "shared memory region 'a' cannot be made larger: the output needs 35001 bytes at offset 5000, which are 30001 "
        "more than there are; 70000 bytes are registered, grown or handed out, and --shm-max-byte-size allows 100000 "
        "together; unregister or release what is not used"
    )
    assert _size(first) == 10_000, "nothing has changed"
    with pytest.raises(InvalidArgument):
        _grow(table, "a", 10_001, 1)
    _grow(table, "a", 5_000, 35_000)
    _grow(table, "a", 0, 40_000)
    with pytest.raises(Unavailable):
        _grow(table, "b", 60_000, 1)
    table.close("a")
    assert table.grown_byte_size() == 60_000
    _grow(table, "b", 60_000, 40_000)
    table.close("b")
    assert table.grown_byte_size() == 0
    assert holdings.own == Holding()


def test_what_is_twice_in_a_file_and_what_its_client_adds(opened: tuple[RegionTable, Opener, Holdings]) -> None:
    table, open_file, _ = opened
    fd = _file(8192)
    open_file("all", fd, 0, 8192)
    open_file("part", fd, 4096, 4096)
    _grow(table, "part", 0, 10_000)
    assert table.grown_byte_size() == 4096 + 10_000 - 8192
    os.ftruncate(fd, 80_000)
    assert table.grown_byte_size() == 80_000 - 8192, "the region goes to the end of the file"
    with pytest.raises(Unavailable, match="which are 20000 more than there are; 84096 bytes"):
        _grow(table, "all", 0, 100_000)
    table.close("part")
    _grow(table, "all", 0, 100_000)
