"""Noticing that a process has died, at once and without heartbeats: pidfds, watched by one thread.

The thread also waits for descriptors that rarely have something to read, and keeps a few timers, for the things that a
process does only while something is wrong (say HELLO again until a hub answers). Callbacks run on this thread and
should only pass the news on.
"""

import heapq
import itertools
import logging
import os
import selectors
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tensorhub.ipc.bell import Bell
from tensorhub.ipc.descriptors import SHORTAGES

log = logging.getLogger(__name__)

_AGAIN_S = 0.5
"""Until the next try, if there were no descriptors to watch a process with."""

_ENDED = ("Z", "X")  # states of a process, proc(5): a zombie, and dead


def start_ticks(pid: int) -> int:
    """When a process was started, in clock ticks since boot: with the pid it names the process for ever.

    Source: field 22 of /proc/PID/stat, proc(5).

    Raises:
        ProcessLookupError: there is no such process, or we may not see it.
        OSError: it cannot be told now; most likely there are no descriptors left.
    """
    return int(_stat(pid)[19])


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it has not ended.

    Who has ended keeps its place in /proc until its parent has asked for its status. That can be long: in a container,
    process 1 becomes the parent of all that have lost theirs, and need not ask.

    Raises:
        OSError: it cannot be told now.
    """
    try:
        return _stat(pid)[0] not in _ENDED
    except ProcessLookupError:
        return False


def runs_in_group(group: int) -> bool:
    """Whether a process of this process group has not ended."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    for pid in pids:
        try:
            stat = _stat(pid)
        except ProcessLookupError:
            continue
        if int(stat[2]) == group and stat[0] not in _ENDED:
            return True
    return False


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat, proc(5), from the third on: the state.

    Raises:
        ProcessLookupError, OSError: see `start_ticks`.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError as exc:
        if exc.errno in SHORTAGES:
            raise
        raise ProcessLookupError(pid) from exc
    return stat.rpartition(")")[2].split()


def _maybe_open(pid: int, ticks: int | None) -> int | None:
    """Return a pidfd of the process that was started then, which the caller closes; None if it has ended.

    Raises:
        OSError: it cannot be told now.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as exc:
        if exc.errno in SHORTAGES:
            raise
        return None
    try:
        if ticks is None or start_ticks(pid) == ticks:
            return pidfd
    except ProcessLookupError:
        pass
    except BaseException:
        os.close(pidfd)
        raise
    os.close(pidfd)
    return None


class Watcher:
    """Watches processes. Thread-safe; runs a thread from `start` to `close`."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._bell = Bell()
        self._selector.register(self._bell.fd, selectors.EVENT_READ)
        self._lock = threading.Lock()
        self._pidfds: dict[int, int] = {}
        self._on_death: dict[int, list[Callable[[int], None]]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def watch(self, pid: int, ticks: int | None, on_death: Callable[[int], None]) -> None:
        """Call `on_death(pid)` when a process ends, also if it has ended already.

        A process may be watched for several reasons: each call of this counts.

        Args:
            ticks: when it was started; another one with its pid is not it. None: whoever has the pid now.
        """
        try:
            pidfd = _maybe_open(pid, ticks)
        except OSError as exc:
            # SAFETY: this says nothing about the process. Who is taken for dead loses memory that it still reads.
            log.warning("process %d cannot be watched: %s; trying again", pid, exc)
            self.later(_AGAIN_S, lambda: self.watch(pid, ticks, on_death))
            return
        if pidfd is None:
            self.later(0, lambda: on_death(pid))
            return
        with self._lock:
            self._on_death.setdefault(pid, []).append(on_death)
            if pid in self._pidfds:
                os.close(pidfd)
                return
            self._pidfds[pid] = pidfd
            self._selector.register(pidfd, selectors.EVENT_READ, pid)
        self._ring()

    def on_readable(self, fd: int, call: Callable[[], None]) -> None:
        """Call each time when there is something to read, until `close`; the call reads it. Does not own `fd`."""
        self._selector.register(fd, selectors.EVENT_READ, call)
        self._ring()

    def forget(self, pid: int) -> None:
        """Watch a process no more."""
        self._forget(pid)

    def _forget(self, pid: int) -> list[Callable[[int], None]]:
        with self._lock:
            pidfd = self._pidfds.pop(pid, None)
            if pidfd is not None:
                self._selector.unregister(pidfd)
                os.close(pidfd)
            return self._on_death.pop(pid, [])

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Call once, after a delay in seconds."""
        with self._lock:
            heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._order), call))
        self._ring()

    def _run(self) -> None:
        while not self._closing:
            with self._lock:
                timeout = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
            for key, _ in self._selector.select(timeout):
                if key.fd == self._bell.fd:
                    self._bell.silence()
                    continue
                if callable(key.data):
                    key.data()
                    continue
                for on_death in self._forget(key.data):
                    on_death(key.data)
            for call in self._due():
                call()

    def _ring(self) -> None:
        try:
            self._bell.ring()
        except ValueError:
            log.debug("nothing is watched any more")

    def _due(self) -> list[Callable[[], None]]:
        now = time.monotonic()
        due = []
        with self._lock:
            while self._timers and self._timers[0][0] <= now:
                due.append(heapq.heappop(self._timers)[2])
        return due

    def close(self) -> None:
        self._closing = True
        self._ring()
        if self._thread.is_alive():  # it need not have been started
            self._thread.join(1.0)
        for pid in list(self._pidfds):
            self.forget(pid)
        self._selector.close()
        self._bell.close()
