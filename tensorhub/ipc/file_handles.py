"""Files that clients have handed over for their regions, on their way from the hub to the workers.

The hub keeps each under a number, and gives it to processes of its own user that ask for the number. Numbers begin at
the hub's start time, so that those of two hubs do not meet.
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

_NUMBER = struct.Struct("<Q")
_UCRED = struct.Struct("3i")  # struct ucred, unix(7)
_TIMEOUT_S = 5.0


class FileHandles:
    """Files by number. Thread-safe; runs a thread from `start` to `close`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[int, int] = {}
        self._numbers = itertools.count(time.time_ns())
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def start(self) -> None:
        self._path.unlink(missing_ok=True)
        self._listener.bind(os.fspath(self._path))
        self._listener.listen(64)
        threading.Thread(target=self._serve, name="file handles", daemon=True).start()

    def add(self, fd: int) -> int:
        """Keep a file, which belongs to this object from now on; return its number."""
        with self._lock:
            number = next(self._numbers)
            self._files[number] = fd
            return number

    def keep_only(self, numbers: Collection[int]) -> None:
        """Close all other files."""
        with self._lock:
            gone = [self._files.pop(number) for number in list(self._files) if number not in numbers]
        for fd in gone:
            os.close(fd)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            with connection:
                _, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
                if uid not in (os.geteuid(), 0):
                    continue
                try:
                    connection.settimeout(_TIMEOUT_S)
                    asked = connection.recv(_NUMBER.size, socket.MSG_WAITALL)
                    with self._lock:
                        fd = self._files.get(_NUMBER.unpack(asked)[0], -1)
                        if fd >= 0:
                            socket.send_fds(connection, [b"\0"], [fd])
                except (OSError, struct.error):
                    continue  # the peer has gone

    def close(self) -> None:
        """Stop, and close all files."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._path.unlink(missing_ok=True)
        self.keep_only(())


def fetch_file(path: Path, number: int) -> int:
    """Get a file's descriptor, close-on-exec; the caller closes it.

    Raises:
        InternalError: the hub does not have it, or is gone.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT_S)
        try:
            connection.connect(os.fspath(path))
            connection.sendall(_NUMBER.pack(number))
            _, received, _, _ = connection.recvmsg(1, socket.CMSG_LEN(4), socket.MSG_CMSG_CLOEXEC)
        except OSError as exc:
            raise InternalError("the file of a region cannot be reached; register it again") from exc
    for level, kind, data in received:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and len(data) == 4:
            fd: int = struct.unpack("i", data)[0]
            return fd
    raise InternalError("the file of a region is no longer there; register it again")
