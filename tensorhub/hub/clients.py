"""Noticing that a client has died that has registered memory, for `--shm-reap`.

Only a process that is found for sure is watched: one of this host and network namespace, or one that came over a Unix
socket. The regions of the others stay until somebody unregisters them.
"""

from collections.abc import Callable
from typing import Any

from tensorhub.ipc.tcp_peers import find_process
from tensorhub.ipc.watch import Watcher


class ClientWatch:
    """Marks registrations with the process that makes them. For one thread; `on_death` runs on the watcher's.

    A client that registers a thousand regions is watched once.
    """

    def __init__(self, watcher: Watcher, on_death: Callable[[int, int], None], *, enabled: bool) -> None:
        """Begin.

        Args:
            on_death: is called with pid and start ticks of a client that has died.
            enabled: else nothing is looked up.
        """
        self._watcher = watcher
        self._on_death = on_death
        self._enabled = enabled
        self._watched: set[tuple[int, int]] = set()

    def mark(self, region: Any, peer: str) -> Any:
        """Note in a region's message who registers it, and watch that process.

        Args:
            peer: host:port of its connection; "" if its pid is in the message already, or nothing is known.
        """
        if not self._enabled:
            return region
        found = find_process(peer) if peer else (region.client_pid, region.client_ticks)
        if found is not None and found[0]:
            region.client_pid, region.client_ticks = found
            self.watch(*found)
        return region

    def watch(self, pid: int, ticks: int) -> None:
        """Watch a client's process."""
        if self._enabled and pid and (pid, ticks) not in self._watched:
            self._watched.add((pid, ticks))
            self._watcher.watch(pid, ticks, lambda dead: self._died(dead, ticks))

    def _died(self, pid: int, ticks: int) -> None:
        self._watched.discard((pid, ticks))
        self._on_death(pid, ticks)
