"""How much memory the processes of a server share with clients, for the limits that hold for all of them together.

    <pid>.held    what that process answers for: number and bytes of registered regions (the hub), and of those that it
                  has made for outputs, and bytes by which it is just about to make a region larger (a worker)

Each process writes its own file alone, so there is no lock that a process which is stopped or killed could keep. Who
wants more writes that down first and adds up what all have after: of two that come at the same time and do not both
fit, one sees the other, or both do. So all together never have more than the limit, and next to it a request may be
refused that would just have fitted.
"""

import os
import struct
import threading
from pathlib import Path
from typing import NamedTuple

from tensorhub.errors import Unavailable
from tensorhub.ipc.rundir import RunDir

_RECORD = struct.Struct("<5Q")


class Holding(NamedTuple):
    """How much memory: number and bytes of regions that are registered, and of those that were made for outputs.

    Attributes:
        growing_byte_size: what is being added to files of regions, and not in them yet (`ipc.growth`).
    """

    registered: int = 0
    registered_byte_size: int = 0
    handed_out: int = 0
    handed_out_byte_size: int = 0
    growing_byte_size: int = 0


class Holdings:
    """What this process answers for, and what the others do. Thread-safe, if each number is one thread's at a time."""

    def __init__(self, run_dir: RunDir, pid: int) -> None:
        """Begin with nothing.

        Raises:
            OSError: the file cannot be made.
        """
        self._run_dir = run_dir
        self._path = run_dir.held(pid)
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lock = threading.Lock()
        self.own = Holding()
        self.write(self.own)

    def __repr__(self) -> str:
        return f"<Holdings {self.own}>"

    def write(self, own: Holding) -> None:
        """Say what this process answers for from now on."""
        with self._lock:
            self._write(own)

    def change(self, **numbers: int) -> None:
        """Say that some numbers of `Holding` are others from now on."""
        with self._lock:
            self._write(self.own._replace(**numbers))

    def _write(self, own: Holding) -> None:
        os.pwrite(self._fd, _RECORD.pack(*own), 0)
        self.own = own

    def others(self) -> Holding:
        """Add up what all other processes have, the dead that are not forgotten yet included.

        Raises:
            Unavailable: that cannot be told now; most likely there are no descriptors left.
        """
        try:
            found = [_read(path) for path in self._run_dir.all_held() if path != self._path]
        except OSError as exc:
            raise Unavailable(
                f"how much memory the server shares already cannot be told: {exc.strerror}; try again"
            ) from exc
        return Holding(*map(sum, zip(*found, strict=True))) if found else Holding()

    def close(self) -> None:
        """Answer for nothing any more."""
        os.close(self._fd)
        self._path.unlink(missing_ok=True)


def _read(path: Path) -> Holding:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Holding()  # forgotten since
    return Holding(*_RECORD.unpack(data)) if len(data) == _RECORD.size else Holding()
