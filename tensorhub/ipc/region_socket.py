"""`--shm-socket`: clients register memory by handing over a file descriptor, and take the server's, over a Unix socket.

For clients that share neither /dev/shm nor a namespace of names with the server: a socket that is mounted into their
container is enough. What they hand over has no name, so nobody else can open it, and must be sealed against becoming
smaller, so that it can be used in place whoever owns it.

A packet is one JSON object, with the descriptor beside it; each is answered by one, `{"ok": true}` or `{"error": ...}`:

    {"operation": "register", "name": "r", "offset": 0, "byte_size": 4096, "owner": ""}
    {"operation": "unregister", "name": "r", "owner": ""}

What the server has made for an output (`shared_memory_allocate`) goes the other way: the descriptor comes beside the
answer. It is the connection's until that releases it, or ends.

    {"operation": "take", "name": "handed-out-..."}
    {"operation": "release", "name": "handed-out-..."}
    {"operation": "try"}

The last is for finding out whether that works: a worker makes a region as for an output (`handed_out.TRIAL` is in it),
and the answer has its "name".

Who may: the server's user, root, and the users of --shm-allowed-uids, told by the kernel. One thread serves all; what
is decided is decided on the hub's loop.
"""

import fcntl
import itertools
import json
import logging
import os
import selectors
import socket
import stat
import struct
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tensorhub.errors import InvalidArgument, TensorhubError, Unavailable
from tensorhub.ipc.descriptors import ACCEPT_AGAIN_S, check_spare
from tensorhub.ipc.watch import start_ticks

log = logging.getLogger(__name__)

MAX_PACKET_SIZE = 16_384
"""Bytes of a request."""

MAX_CLIENTS = 256

_UCRED = struct.Struct("3i")  # pid, uid, gid: struct ucred, unix(7)
_UINT64 = 2**64 - 1


OPERATIONS = ("register", "unregister", "take", "release", "try")


class Answering(Protocol):
    """Sends an answer; from any thread."""

    def __call__(self, error: TensorhubError | None, fd: int = -1, name: str = "") -> bool:
        """Return whether it has been sent.

        Args:
            error: None for done.
            fd: goes with the answer, and stays the caller's.
            name: of a region that has been made.
        """


class FileRequest(NamedTuple):
    """What a client asks for.

    Attributes:
        operation: one of OPERATIONS.
        connection: a number, of the connection that it came over.
        fd: the file to register, which whoever gets this owns; -1 for all but "register".
    """

    operation: str
    connection: int
    name: str
    owner: str
    offset: int
    byte_size: int
    fd: int
    growable: bool
    client_pid: int
    client_ticks: int
    answer: Answering


class RegionSocket:
    """See the module. Runs a thread from `start` to `close`."""

    def __init__(
        self,
        path: Path,
        allowed_uids: Collection[int],
        on_request: Callable[[FileRequest], None],
        on_end: Callable[[int], None] = lambda connection: None,
    ) -> None:
        """Listen.

        Args:
            on_request: is called on this object's thread, and passes the request on.
            on_end: is called likewise with the number of a connection that has ended, after its last request.

        Raises:
            OSError: the path cannot be had.
        """
        self._path = path
        self._uids = frozenset((os.geteuid(), 0, *allowed_uids))
        self._on_request = on_request
        self._on_end = on_end
        self._connections: dict[int, int] = {}  # descriptor: number
        self._numbers = itertools.count(1)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        path.unlink(missing_ok=True)
        self._listener.bind(os.fspath(path))
        path.chmod(0o666)  # who may is decided by the user that the kernel names
        self._listener.listen(64)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._clients: dict[int, socket.socket] = {}
        self._accepting = True
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="region socket", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _serve(self) -> None:
        while not self._closing:
            events = self._selector.select(None if self._accepting else ACCEPT_AGAIN_S)
            if not self._accepting:
                self._accepting = True
                self._selector.register(self._listener, selectors.EVENT_READ)
            for key, _ in events:
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fd != self._wake:
                    self._read(self._clients[key.fd])

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError as exc:  # most likely there are too many descriptors, which does not pass at once
            log.warning("cannot accept a client at %s: %s; trying again", self._path, exc)
            self._selector.unregister(self._listener)
            self._accepting = False
            return
        _, uid, _ = _UCRED.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if uid not in self._uids:
            log.warning("refused a client of uid %d at %s; --shm-allowed-uids can allow it", uid, self._path)
            _turn_away(client, f"user {uid} may not use this socket; --shm-allowed-uids={uid} can allow it")
            return
        if len(self._clients) >= MAX_CLIENTS:
            _turn_away(client, f"{MAX_CLIENTS} clients are connected, and no more may be")
            return
        client.setblocking(False)
        self._clients[client.fileno()] = client
        self._connections[client.fileno()] = next(self._numbers)
        self._selector.register(client, selectors.EVENT_READ)

    def _read(self, client: socket.socket) -> None:
        fds: list[int] = []
        try:
            packet, fds, flags, _ = socket.recv_fds(client, MAX_PACKET_SIZE, 4, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            packet, flags = b"", 0
        for fd in fds:
            os.set_inheritable(fd, False)
        if not packet:
            self._forget(client)
            _close_all(fds)
            return
        try:
            if flags & socket.MSG_CTRUNC and not fds:
                raise Unavailable("the server has no descriptor left for the file; try again")
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise InvalidArgument(f"a request has at most {MAX_PACKET_SIZE} bytes and one descriptor")
            request = self._request(client, packet, fds)
        except TensorhubError as exc:
            _close_all(fds)
            _answer(client, exc)
            return
        self._on_request(request)

    def _request(self, client: socket.socket, packet: bytes, fds: list[int]) -> FileRequest:
        try:
            document = json.loads(packet)
        except (ValueError, RecursionError) as exc:
            raise InvalidArgument(f"the request is no JSON: {exc}") from exc
        if not isinstance(document, dict):
            raise InvalidArgument("the request is no JSON object")
        operation = document.get("operation")
        if operation not in OPERATIONS:
            raise InvalidArgument(f"'operation' must be one of {', '.join(map(repr, OPERATIONS))}")
        name, owner = _text(document, "name"), _text(document, "owner")
        offset, byte_size = _number(document, "offset"), _number(document, "byte_size")
        growable = False
        if operation == "register":
            if not name:
                raise InvalidArgument("'region name' is necessary to register system shared memory region")
            if len(fds) != 1:
                raise InvalidArgument(f"one descriptor is needed to register region '{name}', got {len(fds)}")
            growable = check_file(name, fds[0])
            check_spare(fds[0], f"failed to register shared memory region '{name}'")
        elif fds:
            raise InvalidArgument(f"no descriptor is needed to {operation}")
        pid, _, _ = _UCRED.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        try:
            ticks = start_ticks(pid)
        except OSError:
            pid = ticks = 0  # of another namespace
        fd = fds[0] if fds else -1
        connection = self._connections[client.fileno()]
        return FileRequest(
            operation,
            connection,
            name,
            owner,
            offset,
            byte_size,
            fd,
            growable,
            pid,
            ticks,
            lambda error, fd=-1, name="": _answer(client, error, fd, name),
        )

    def _forget(self, client: socket.socket) -> None:
        self._clients.pop(client.fileno(), None)
        connection = self._connections.pop(client.fileno())
        self._selector.unregister(client)
        client.close()
        self._on_end(connection)

    def close(self) -> None:
        """Stop; clients are disconnected."""
        self._closing = True
        os.eventfd_write(self._wake, 1)
        self._thread.join(1.0)
        for client in list(self._clients.values()):
            self._forget(client)
        self._selector.close()
        self._listener.close()
        os.close(self._wake)
        self._path.unlink(missing_ok=True)


def check_file(region: str, fd: int) -> bool:
    """Check what a client has handed over; return whether it may be made larger.

    Raises:
        InvalidArgument: it is no file in memory, or not sealed against becoming smaller, or cannot be written.
    """
    where = f"failed to register shared memory region '{region}'"
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise InvalidArgument(f"{where}: the descriptor is not one of a file in memory (memfd_create)")
    if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDWR:
        raise InvalidArgument(f"{where}: the descriptor is not open for reading and writing")
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as exc:
        raise InvalidArgument(f"{where}: the descriptor is not one of a file in memory (memfd_create)") from exc
    if not seals & fcntl.F_SEAL_SHRINK or not seals & fcntl.F_SEAL_SEAL:
        raise InvalidArgument(f"{where}: the file must be sealed with F_SEAL_SHRINK and F_SEAL_SEAL")
    if seals & (fcntl.F_SEAL_WRITE | getattr(fcntl, "F_SEAL_FUTURE_WRITE", 0)):
        raise InvalidArgument(f"{where}: the file is sealed against writing")
    return not seals & fcntl.F_SEAL_GROW


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name, "")
    if not isinstance(value, str):
        raise InvalidArgument(f"'{name}' must be a string")
    try:
        value.encode()
    except UnicodeEncodeError as exc:  # JSON can have half of a character, and a message cannot
        raise InvalidArgument(f"'{name}' must be a string of whole characters") from exc
    return value


def _number(document: dict[str, Any], name: str) -> int:
    value = document.get(name, 0)
    if type(value) is not int or not 0 <= value <= _UINT64:
        raise InvalidArgument(f"'{name}' must be a number of bytes")
    return value


def _close_all(fds: Collection[int]) -> None:
    for fd in fds:
        os.close(fd)


def _turn_away(client: socket.socket, why: str) -> None:
    """Say why and hang up, whatever the client was about to ask."""
    client.setblocking(False)
    _answer(client, Unavailable(why))
    client.close()


def _answer(client: socket.socket, error: TensorhubError | None, fd: int = -1, name: str = "") -> bool:
    document: dict[str, object] = {"ok": True} if error is None else {"error": error.message, "code": error.code.name}
    if name:
        document["name"] = name
    try:
        socket.send_fds(client, [json.dumps(document).encode()], [fd] if fd >= 0 else [])
    except OSError:
        return False  # it has gone, or does not read
    return True
