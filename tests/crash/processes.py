"""The processes of a running server, seen from outside."""

import os
import re
from pathlib import Path

from tensorhub.ipc.watch import is_running
from tests.serving import RunningServer, processes_of

_MAILBOX = re.compile(r"^(?:[a-z]+-)?(\d+)\.(?:sock|fds)$")
_FOREIGN = ("tensorhub-test-", "example_", "triton_python_backend_shm_region_")
_KINDS = {"tensorhub serve": "serve", "hub.main": "hub", "workers.main": "worker", "grpc.main": "grpc"}


def by_kind(server: RunningServer) -> dict[str, list[int]]:
    """Return the pids of each kind: serve, hub, worker, grpc, http (a process that serves), gunicorn (its master)."""
    assert server.run_dir is not None
    found: dict[str, list[int]] = {kind: [] for kind in ("serve", "hub", "worker", "grpc", "http", "gunicorn")}
    commands = processes_of(server.run_dir)
    for pid, command in sorted(commands.items()):
        if "gunicorn" in command or "tensorhub-http" in command:
            found["http" if _parent(pid) in commands and _parent(pid) != server.pid else "gunicorn"].append(pid)
            continue
        kind = next((kind for part, kind in _KINDS.items() if part in command), None)
        if kind is not None:
            found[kind].append(pid)
    return found


def _parent(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])


def open_files(pid: int) -> list[str]:
    """Return what a process has open, one text for each descriptor; numbers that say nothing are left out."""
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(re.sub(r"\d+", "N", os.readlink(path)))
        except FileNotFoundError:
            continue
    return sorted(found)


def arenas_mapped(pid: int) -> int:
    """How many memory files without a name a process has mapped: its own arena and those of its peers."""
    return Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").count("/memfd:")


def owners(run_dir: Path) -> set[int]:
    """The pids that the files of a run directory name."""
    return {int(match[1]) for path in run_dir.iterdir() if (match := _MAILBOX.match(path.name))}


def only_the_living(run_dir: Path) -> bool:
    """Whether every file of a run directory belongs to a process that runs."""
    return all(map(is_running, owners(run_dir)))


def shared_memory_files() -> set[str]:
    """The names in /dev/shm, but for those of tests, examples and other servers that may run on this host."""
    return {name for name in os.listdir("/dev/shm") if not name.startswith(_FOREIGN)}
