"""Handing files without a name to peers, over a Unix socket in the run directory: arenas, and clients' files.

The owner listens; a peer connects, is identified by the kernel (SO_PEERCRED), says a number, gets the descriptor and is
gone. A descriptor cannot be guessed or opened by name, so that only processes of the same user reach the memory.

Number 0 is the arena of the process that listens. The others are files that clients have handed over for their
regions: the hub numbers them, from its start time on, so that the numbers of two hubs do not meet, and whoever has such
a file gives it under its number: the hub to workers, and a worker to the next hub. What a worker hands out to a client
has a number of its own kind (`ipc.handed_out`), and is given once.
"""

import itertools
import os
import socket
import struct
import threading
import time
from collections.abc import Collection
from pathlib import Path

from tensorhub.errors import InternalError
from tensorhub.ipc.descriptors import connections_of_our_user, maybe_receive_descriptor, send_descriptor

ARENA = 0
"""The number of the process's own arena."""

_NUMBER = struct.Struct("<Q")
_TIMEOUT_S = 5.0
_EXPECTING_S = 4.0
"""How long a peer that asks for a file that is on its way here waits; less than it waits for an answer."""


class HandleServer:
    """Gives files by number to every process of the same user that asks. Thread-safe; runs a thread from `start` on."""

    def __init__(self, path: Path, arena_fd: int = -1) -> None:
        """Begin with the arena, which stays its owner's, if there is one."""
        self._path = path
        self._arena_fd = arena_fd
        self._files: dict[int, int] = {}
        self._once: set[int] = set()
        self._expected: dict[int, int] = {}
        self._numbers = itertools.count(time.time_ns())
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def start(self) -> None:
        self._path.unlink(missing_ok=True)
        self._listener.bind(os.fspath(self._path))
        self._listener.listen(64)
        threading.Thread(target=self._serve, name="handles", daemon=True).start()

    def add(self, fd: int) -> int:
        """Keep a file, which belongs to this object from now on; return its number."""
        number = next(self._numbers)
        self.keep(number, fd)
        return number

    def keep(self, number: int, fd: int) -> None:
        """Keep a file under the number that it has already; it belongs to this object from now on."""
        with self._changed:
            before = self._files.pop(number, -1)
            self._files[number] = fd
            self._changed.notify_all()
        if before >= 0:
            os.close(before)

    def give_once(self, number: int, fd: int) -> None:
        """Keep a file for the first who asks, and close it then; it belongs to this object from now on."""
        with self._changed:
            self._once.add(number)
        self.keep(number, fd)

    def has(self, number: int) -> bool:
        """Whether a file is here."""
        return number in self._files

    def maybe_stat(self, number: int) -> os.stat_result | None:
        """Ask the kernel about a file; None if it is not here."""
        with self._changed:
            fd = self._files.get(number, -1)
            return os.fstat(fd) if fd >= 0 else None

    def drop(self, number: int) -> None:
        """Close a file; one that is not here is closed already."""
        with self._changed:
            self._once.discard(number)
            fd = self._files.pop(number, -1)
        if fd >= 0:
            os.close(fd)

    def keep_only(self, numbers: Collection[int]) -> None:
        """Close all files but these."""
        with self._changed:
            gone = [self._files.pop(number) for number in list(self._files) if number not in numbers]
        for fd in gone:
            os.close(fd)

    def expect(self, number: int) -> None:
        """Somebody is going to fetch a file for this process: who asks for it waits, until `settle`."""
        with self._changed:
            self._expected[number] = self._expected.get(number, 0) + 1

    def settle(self, number: int) -> None:
        """One who was expected to fetch a file has it, or has failed."""
        with self._changed:
            self._expected[number] -= 1
            if not self._expected[number]:
                del self._expected[number]
            self._changed.notify_all()

    def _serve(self) -> None:
        for connection in connections_of_our_user(self._listener, self._closed):
            with connection:
                try:
                    connection.settimeout(_TIMEOUT_S)
                    self._give(connection, _NUMBER.unpack(connection.recv(_NUMBER.size, socket.MSG_WAITALL))[0])
                except (OSError, struct.error):
                    continue  # the peer has gone

    def _give(self, connection: socket.socket, number: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: number in self._files or number not in self._expected, timeout=_EXPECTING_S)
            fd = self._arena_fd if number == ARENA else self._files.get(number, -1)
            if fd >= 0:
                send_descriptor(connection, fd)
            once = number in self._once
        if once:
            self.drop(number)

    def close(self) -> None:
        """Stop, and close all files but the arena."""
        self._closed.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._path.unlink(missing_ok=True)
        self.keep_only(())


def fetch_handle(path: Path, number: int = ARENA) -> int:
    """Get a file's descriptor of the process behind `path`, close-on-exec; the caller closes it.

    Raises:
        InternalError: the process is gone, does not answer, or does not have it; or this one has no descriptor left.
    """
    what = "a peer's memory" if number == ARENA else "the file of a region"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_TIMEOUT_S)
            connection.connect(os.fspath(path))
            connection.sendall(_NUMBER.pack(number))
            fd = maybe_receive_descriptor(connection)
    except OSError as exc:
        raise InternalError(f"{what} cannot be reached: {exc.strerror or 'no answer'}") from exc
    if fd is None:
        raise InternalError(f"{what} cannot be reached: it is not there, or was refused")
    return fd
