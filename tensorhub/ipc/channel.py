"""Mailboxes: every process has one, and anyone in the run directory may drop frames into it.

ZeroMQ PULL to receive, PUSH to send, one frame a message, `ipc://` only. A mailbox is read by one thread. An outbox is
shared by the threads of a process: each socket's use is serialised by a lock, which gives the full fence that ZeroMQ
asks for when a socket moves between threads.

Nothing blocks on a send: a peer that does not take its mail is full, and that is an error at once.
"""

import threading
from pathlib import Path

import zmq

from tensorhub.ipc.wire import MAX_FRAME_SIZE

QUEUE_LIMIT = 16_384
"""Frames in a pipe. Above the bound of requests in flight, so that it is met only by a peer that hangs."""

_LINGER_MS = 1_000


class PeerFull(Exception):
    """The peer's mailbox takes no more."""


class Mailbox:
    """Where this process receives. For one thread."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", path: Path) -> None:
        self.path = path
        self._socket = context.socket(zmq.PULL)
        self._socket.set_hwm(QUEUE_LIMIT)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_SIZE)
        self._socket.bind(f"ipc://{path}")
        self._timeout_ms = -1

    @property
    def fd(self) -> int:
        """Readable (edge-triggered) when something may have come: then drain with `receive_nowait`."""
        return int(self._socket.getsockopt(zmq.FD))

    def receive(self, timeout_ms: int = -1) -> bytes | None:
        """Wait for a frame; None after `timeout_ms` milliseconds (-1: never)."""
        if timeout_ms != self._timeout_ms:
            self._socket.setsockopt(zmq.RCVTIMEO, timeout_ms)
            self._timeout_ms = timeout_ms
        try:
            return self._socket.recv()
        except zmq.Again:
            return None

    def receive_nowait(self) -> bytes | None:
        """Take a frame if there is one.

        PERF: asking first costs half of what the exception of a call in vain does.
        """
        if not int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            return None
        try:
            return self._socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def close(self) -> None:
        self._socket.close()
        self.path.unlink(missing_ok=True)


class Outbox:
    """How this process sends. Thread-safe."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        self._context = context
        self._lock = threading.Lock()
        self._sockets: dict[Path, zmq.Socket[bytes]] = {}
        self._closed = False

    def send(self, path: Path, frame: bytes) -> None:
        """Send one frame to the mailbox at `path`, connecting first if need be; it need not exist yet.

        Raises:
            PeerFull: the peer takes no more; the frame was not sent.
        """
        with self._lock:
            socket = self._sockets.get(path)
            if socket is None:
                if self._closed:
                    return
                socket = self._sockets[path] = self._connect(path)
            try:
                socket.send(frame, zmq.NOBLOCK)
            except zmq.Again:
                raise PeerFull(path.name) from None

    def _connect(self, path: Path) -> "zmq.Socket[bytes]":
        socket = self._context.socket(zmq.PUSH)
        socket.set_hwm(QUEUE_LIMIT)
        socket.setsockopt(zmq.LINGER, _LINGER_MS)
        socket.connect(f"ipc://{path}")
        return socket

    def forget(self, path: Path) -> None:
        """Drop a peer that has died, with everything still queued for it."""
        with self._lock:
            socket = self._sockets.pop(path, None)
        if socket is not None:
            socket.close(linger=0)

    def close(self) -> None:
        """Close every connection; what is queued for a peer that is there may still leave for a second."""
        with self._lock:
            self._closed = True
            sockets, self._sockets = self._sockets, {}
        for path, socket in sockets.items():
            socket.close(linger=None if path.exists() else 0)
