"""Handing the file descriptor of an arena to a peer, over a Unix socket in the run directory.

The owner listens; a peer connects, is identified by the kernel (SO_PEERCRED), gets the descriptor and is gone. A
descriptor cannot be guessed or opened by name, so that only processes of the same user reach an arena.
"""

import os
import socket
import struct
import threading
from pathlib import Path

from tensorhub.errors import InternalError

_UCRED = struct.Struct("3i")  # pid, uid, gid: struct ucred, unix(7)
_INT = struct.Struct("i")  # one descriptor in SCM_RIGHTS, unix(7)
_TIMEOUT_S = 5.0


class HandleServer:
    """Gives one file descriptor to every process of the same user that asks. Runs a thread from `start` to `close`."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def start(self) -> None:
        self._path.unlink(missing_ok=True)
        self._listener.bind(os.fspath(self._path))
        self._listener.listen(64)
        threading.Thread(target=self._serve, name="handles", daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            with connection:
                credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
                _, uid, _ = _UCRED.unpack(credentials)
                if uid not in (os.geteuid(), 0):
                    continue
                try:
                    socket.send_fds(connection, [b"\0"], [self._fd])
                except OSError:
                    continue  # the peer has gone

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._path.unlink(missing_ok=True)


def fetch_handle(path: Path) -> int:
    """Get the file descriptor that the process behind `path` hands out, close-on-exec; the caller closes it.

    Raises:
        InternalError: the process is gone or does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT_S)
        try:
            connection.connect(os.fspath(path))
            # Not socket.recv_fds, which drops the flags: a child started meanwhile must not inherit the descriptor.
            _, received, _, _ = connection.recvmsg(1, socket.CMSG_LEN(_INT.size), socket.MSG_CMSG_CLOEXEC)
        except OSError as exc:
            raise InternalError(f"a peer's memory cannot be reached: {exc.strerror or 'no answer'}") from exc
    for level, kind, data in received:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and len(data) == _INT.size:
            fd: int = _INT.unpack(data)[0]
            return fd
    raise InternalError("a peer's memory cannot be reached: it refused")
