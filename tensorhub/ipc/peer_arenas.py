"""The arenas of the other processes, each mapped when it is first needed and dropped when its owner dies."""

import os
import threading

from tensorhub.ipc.arena_memory import PeerArena
from tensorhub.ipc.handles import fetch_handle
from tensorhub.ipc.rundir import RunDir


class PeerArenas:
    """By pid. Thread-safe."""

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._arenas: dict[int, PeerArena] = {}
        self._lock = threading.Lock()

    def view(self, owner: int, offset: int, byte_size: int) -> memoryview:
        """View bytes in the arena of the process `owner`; they are writable.

        Raises:
            InternalError: it has gone, or the range is outside its arena.
        """
        arena = self._arenas.get(owner)
        if arena is None:
            with self._lock:
                arena = self._arenas.get(owner)
                if arena is None:
                    fd = fetch_handle(self._run_dir.handles(owner))
                    try:
                        arena = self._arenas[owner] = PeerArena(fd)
                    finally:
                        os.close(fd)
        return arena.view(offset, byte_size)

    def forget(self, owner: int) -> None:
        """Drop a dead process's arena; views of it that are in use keep the memory until they are gone."""
        with self._lock:
            self._arenas.pop(owner, None)
