"""Where gRPC's core waits for its sockets: the epoll set that has our listening port, if it has one.

Who knows it can wait for the core and for something else with one call: an epoll set is readable while something in it
is. The kernel tells what is in a set (proc(5), /proc/PID/fdinfo), so nothing is assumed about the core: if the port is
in no set, because the core waits in another way, the answer is None.
"""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

_DESCRIPTORS = Path("/proc/self/fd")
_DETAILS = Path("/proc/self/fdinfo")
_EPOLL = "anon_inode:[eventpoll]"


def find(port: int) -> int | None:
    """Return the descriptor of the epoll set in which this process waits for connections to a TCP port."""
    for fd in _epoll_sets():
        if any(_listens(member, port) for member in _members(fd)):
            return fd
    return None


def _epoll_sets() -> Iterator[int]:
    for path in list(_DESCRIPTORS.iterdir()):
        try:
            if os.readlink(path) == _EPOLL:
                yield int(path.name)
        except FileNotFoundError:
            pass  # the one that lists them


def _members(fd: int) -> Iterator[int]:
    try:
        lines = (_DETAILS / str(fd)).read_text("ascii").splitlines()
    except OSError:
        return  # another thread has closed it meanwhile
    for line in lines:
        if line.startswith("tfd:"):
            yield int(line.split()[1])


def _listens(fd: int, port: int) -> bool:
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return False
        with socket.socket(fileno=os.dup(fd)) as found:
            name = found.getsockname()
            listening = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:  # closed meanwhile
        return False
    return bool(listening) and isinstance(name, tuple) and len(name) > 1 and name[1] == port
