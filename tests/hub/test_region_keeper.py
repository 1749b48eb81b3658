"""What the supervisor keeps of the regions: those of the last snapshot, with the files of those that came as one."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tensorhub.errors import InternalError
from tensorhub.hub.region_keeper import RegionKeeper
from tensorhub.ipc.handles import HandleServer, fetch_handle
from tensorhub.ipc.rundir import RunDir
from tensorhub.protocol import messages
from tests.shm.segments import open_fds, opened_since
from tests.waiting import wait_until

HUB, KEEPER = 11, 12


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[RunDir]:
    before = open_fds()
    yield RunDir(tmp_path)
    wait_until(lambda: not opened_since(before), "nothing is left open", account=lambda: opened_since(before))


@pytest.fixture
def hub(run_dir: RunDir) -> Iterator[HandleServer]:
    files = HandleServer(run_dir.handles(HUB))
    files.start()
    yield files
    files.close()


def _file(content: bytes) -> int:
    fd = os.memfd_create("test", os.MFD_CLOEXEC)
    os.write(fd, content)
    return fd


def _snapshot(*handles: int) -> Any:
    snapshot = messages.Snapshot(hub_pid=HUB)
    for handle in handles:
        snapshot.system_regions.add(name=f"r{handle}", handle=handle)
    snapshot.cuda_regions.add(name="c")
    return snapshot


def _told(keeper: RegionKeeper) -> list[str]:
    hello = messages.Hello()
    keeper.fill(hello)
    return [region.name for region in (*hello.system_regions, *hello.cuda_regions)]


def _kept(run_dir: RunDir, number: int) -> bytes | None:
    try:
        fd = fetch_handle(run_dir.handles(KEEPER), number)
    except InternalError:
        return None
    try:
        return os.pread(fd, 10, 0)
    finally:
        os.close(fd)


def test_files_come_and_go_with_the_regions(run_dir: RunDir, hub: HandleServer) -> None:
    keeper = RegionKeeper(run_dir, KEEPER)
    assert _told(keeper) == []
    keeper.follow(_snapshot(0))
    assert _told(keeper) == ["r0", "c"], "a region with a key has no file"
    assert not run_dir.handles(KEEPER).exists()
    one, two = hub.add(_file(b"one")), hub.add(_file(b"two"))
    keeper.follow(_snapshot(0, one, two))
    assert _told(keeper) == ["r0", f"r{one}", f"r{two}", "c"]
    wait_until(lambda: (_kept(run_dir, one), _kept(run_dir, two)) == (b"one", b"two"), "they are kept")
    keeper.follow(_snapshot(0, one, two))
    keeper.follow(_snapshot(two))
    assert (_kept(run_dir, one), _kept(run_dir, two)) == (None, b"two")
    hub.drop(two)
    assert _kept(run_dir, two) == b"two", "the hub may be gone"
    keeper.follow(_snapshot(two, 99))
    keeper.follow(_snapshot(two, 99, one))
    wait_until(lambda: _kept(run_dir, one) == b"one", "one that is not to be had is in nobody's way")
    assert _kept(run_dir, 99) is None
    keeper.follow(_snapshot())
    assert (_kept(run_dir, one), _kept(run_dir, two)) == (None, None)
    keeper.close()


def test_no_more_files_than_the_process_can_bear(run_dir: RunDir, hub: HandleServer) -> None:
    """It has to start the others, for which it needs descriptors."""
    keeper = RegionKeeper(run_dir, KEEPER, limit=2)
    numbers = [hub.add(_file(b"x")) for _ in range(4)]
    keeper.follow(_snapshot(*numbers[:3]))
    wait_until(lambda: all(_kept(run_dir, number) == b"x" for number in numbers[:2]), "as many as may be")
    assert _kept(run_dir, numbers[2]) is None
    assert len(_told(keeper)) == 4
    keeper.follow(_snapshot(numbers[0], *numbers[2:]))
    wait_until(lambda: _kept(run_dir, numbers[2]) == b"x", "there is room again")
    assert _kept(run_dir, numbers[3]) is None
    keeper.close()
    RegionKeeper(run_dir, KEEPER).close()
