"""A server's processes as the kernel sees them: who they are, their CPU time, their memory. Edge: reads proc(5).

A server is the process that was started, its descendants, and whatever shares its session: a child whose parent died is
given to init but stays in the session. The server is started as the leader of a session of its own, so nobody else is
in it.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Process:
    """One line of the process table.

    Attributes:
        started_ticks: since boot; with the pid it names a process for good, because pids are used again.
        reaped_s: CPU time of its children that ended and were waited for.
        minor_faults: pages that it got without reading from a disk.
    """

    pid: int
    state: str
    parent: int
    session: int
    reaped_s: float
    started_ticks: int
    minor_faults: int = 0


_KINDS = {
    "tensorhub": "serve",
    "tensorhub.hub.main": "hub",
    "tensorhub.workers.main": "worker",
    "tensorhub.grpc.main": "grpc",
    "gunicorn": "http",
}
"""Of tensorhub's processes, by the module that each runs."""


def kind(arguments: Sequence[str]) -> str:
    """Return what a process is by its command line: one of tensorhub's, else the name of its program. Pure."""
    words = list(arguments)
    if "-m" in words[:-1]:
        module = words[words.index("-m") + 1]
        return _KINDS.get(module, module)
    return os.path.basename(words[0]) if words and words[0] else "unknown"


def kinds(processes: Iterable[Process]) -> dict[str, list[Process]]:
    """Return these processes by their kind; those that have ended meanwhile are left out."""
    found: dict[str, list[Process]] = {}
    for process in processes:
        try:
            text = Path(f"/proc/{process.pid}/cmdline").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        found.setdefault(kind(text.split("\0")), []).append(process)
    return found


def parse_stat(text: str) -> Process:
    """Parse /proc/PID/stat. The name may hold spaces and brackets, so fields are counted after its last bracket."""
    pid = int(text[: text.index(" ")])
    fields = text[text.rindex(")") + 2 :].split()
    reaped_s = (int(fields[13]) + int(fields[14])) / _TICKS_PER_S
    return Process(pid, fields[0], int(fields[1]), int(fields[3]), reaped_s, int(fields[19]), int(fields[7]))


def tree(root: int, table: Mapping[int, Process]) -> list[Process]:
    """Return the server that was started as `root`: that process, its descendants, and its session. Pure."""
    found = {pid for pid, process in table.items() if pid == root or process.session == root}
    grown = True
    while grown:
        more = {pid for pid, process in table.items() if process.parent in found} - found
        found |= more
        grown = bool(more)
    return [table[pid] for pid in sorted(found)]


def read_table() -> dict[int, Process]:
    """Return every process of this machine that can be seen, by pid."""
    table = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                table[int(name)] = parse_stat(Path(f"/proc/{name}/stat").read_text(encoding="utf-8", errors="replace"))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return table


def server(root: int) -> list[Process]:
    """Return the processes, zombies left out, of the server that was started as `root`."""
    return [process for process in tree(root, read_table()) if process.state != "Z"]


def cpu_s(processes: Iterable[Process]) -> float:
    """Return the user and system time that these processes and their reaped children have spent so far.

    A living process is read from its CPU clock (clock_getcpuclockid(3)), which is utime + stime in nanoseconds; /proc
    has them in ticks of 10 ms, too coarse for an idle server.
    """
    return sum(process.reaped_s + _clock_s(process.pid) for process in processes)


def pss_bytes(processes: Iterable[Process]) -> int:
    """Return the proportional set size of these processes together; a page that n processes map counts 1/n in each."""
    total = 0
    for process in processes:
        try:
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * 1024
    return total


def shared_memory_files(processes: Iterable[Process]) -> set[Path]:
    """Return the files in /dev/shm that these processes have mapped and that still have a name."""
    found = set()
    for process in processes:
        try:
            lines = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8", errors="replace").splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for line in lines:
            start = line.find("/dev/shm/")
            if start >= 0 and not line.endswith(" (deleted)"):
                found.add(Path(line[start:]))
    return found


def _clock_s(pid: int) -> float:
    clock = ctypes.c_int()
    if _LIBC.clock_getcpuclockid(pid, ctypes.byref(clock)) != 0:
        return 0.0
    try:
        return time.clock_gettime(clock.value)
    except OSError:  # it ended between the two calls
        return 0.0
