"""What the server's processes hold, and whether they are still the same."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.crash.processes import by_kind, open_files
from tests.serving import RunningServer, processes_of
from tests.waiting import wait_until

FOREIGN_UID = 54_321


def pids(server: RunningServer) -> dict[str, list[int]]:
    return by_kind(server)


def worker(server: RunningServer) -> int:
    [pid] = by_kind(server)["worker"]
    return pid


def mapped(pid: int, key: str) -> int:
    """How often a process has a segment mapped."""
    return Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").count(key.lstrip("/"))


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def holdings(server: RunningServer) -> dict[int, Counter[str]]:
    """What each process has open, without its connections, and how many mappings it has of memory with a name."""
    assert server.run_dir is not None
    found = {}
    for pid in processes_of(server.run_dir):
        # A process makes an eventfd when it sends to another for the first time, which may be at any time.
        held = Counter(
            name for name in open_files(pid) if not name.startswith("socket:") and name != "anon_inode:[eventfd]"
        )
        held["mappings"] = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").count("/dev/shm/")
        found[pid] = held
    return found


@contextmanager
def nothing_is_left(server: RunningServer) -> Iterator[None]:
    """Check that afterwards every process is there still and holds no more than before."""
    before = holdings(server)
    yield
    assert set(holdings(server)) == set(before), "a process has died, or one more has been started"

    def more() -> dict[int, Counter[str]]:
        now = holdings(server)
        return {pid: extra for pid in before if (extra := now[pid] - before[pid])}

    wait_until(lambda: not more(), "everything is given back", account=more)
