"""File descriptors: how many there may be, and one beside a few bytes over a Unix socket, between processes of the same
user.
"""

import errno
import logging
import os
import resource
import socket
import struct
import threading
from collections.abc import Iterator

from tensorhub.errors import Unavailable

log = logging.getLogger(__name__)

SHORTAGES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS))
"""Errors that say that we are short of something, and nothing about what was asked for."""

_WANTED = 65_536
"""Of open files; the units of systemd have the same. Regions alone can be 4096 (`--shm-max-regions`), with two each."""

_KEPT_BACK = 128
"""What clients' memory leaves for all else: new processes of the server, models and their files."""

ACCEPT_AGAIN_S = 0.5
"""After a connection could not be accepted: what is missing, most likely descriptors, does not come back at once."""

_UCRED = struct.Struct("3i")  # pid, uid, gid: struct ucred, unix(7)
_INT = struct.Struct("i")  # one descriptor in SCM_RIGHTS, unix(7)


def allow_many() -> None:
    """Raise the limit of open files of this process, and of those that it starts, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _WANTED if hard == resource.RLIM_INFINITY else min(_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def check_spare(fd: int, refused: str) -> None:
    """Check that a descriptor that was just opened for a client's memory leaves enough of them.

    The kernel gives the lowest number that is free, so that of one more tells how many there are.

    Args:
        refused: how the message begins if it does not.

    Raises:
        Unavailable: it does not; it is open still.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        one_more = os.dup(fd)
        os.close(one_more)
    except OSError as exc:
        if exc.errno != errno.EMFILE:
            raise
        one_more = limit
    if limit != resource.RLIM_INFINITY and one_more >= limit - min(_KEPT_BACK, limit // 4):
        raise Unavailable(
            f"{refused}: a process of the server has no descriptors to spare (ulimit -n is {limit}); unregister or "
            "release what is not used, or raise that limit"
        )


def connections_of_our_user(listener: socket.socket, closed: threading.Event) -> Iterator[socket.socket]:
    """Accept connections and yield them, each the caller's, until `closed` is set and `listener` shut down.

    What cannot be accepted now waits in the kernel's queue.
    """
    while not closed.is_set():
        try:
            connection, _ = listener.accept()
        except OSError as exc:
            if not closed.is_set():
                log.warning("cannot accept a connection: %s; trying again", exc)
                closed.wait(ACCEPT_AGAIN_S)
            continue
        if is_of_our_user(connection):
            yield connection
        else:
            connection.close()


def is_of_our_user(connection: socket.socket) -> bool:
    """Whether the other side, as the kernel knows it, is of this process's user, or root."""
    _, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return uid in (os.geteuid(), 0)


def send_descriptor(connection: socket.socket, fd: int) -> None:
    """Send a descriptor with one byte, which stays the caller's.

    Raises:
        OSError: the other side has gone.
    """
    socket.send_fds(connection, [b"\0"], [fd])


def maybe_receive_descriptor(connection: socket.socket) -> int | None:
    """Receive what `send_descriptor` sends, close-on-exec; the caller closes it. None if there is none.

    Raises:
        OSError: the other side has gone, or does not answer in time.
    """
    # Not socket.recv_fds, which drops the flags: a child started meanwhile must not inherit the descriptor.
    _, received, _, _ = connection.recvmsg(1, socket.CMSG_LEN(_INT.size), socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in received:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and len(data) == _INT.size:
            fd: int = _INT.unpack(data)[0]
            return fd
    return None
