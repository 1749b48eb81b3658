"""The way to the hub: a ZeroMQ PUSH socket that keeps its mail until the hub is there, and connects again."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from tensorhub.ipc.outbox import QUEUE_LIMIT, PeerFull

if TYPE_CHECKING:
    import zmq

_LINGER_MS = 1_000
_POLLOUT = 2  # zmq_poll(3)


def load_library() -> None:
    """Import ZeroMQ, which the first message does otherwise: before a fork, so that it is in memory once."""
    import zmq  # noqa: F401


class HubLine:
    """How this process sends to the hub. Thread-safe: the lock gives the full fence that ZeroMQ asks for when a socket
    moves between threads.
    """

    def __init__(self, hub: Path) -> None:
        self._hub = hub
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._lock = threading.Lock()
        self._socket: zmq.Socket[bytes] | None = None
        self._closed = False

    def send(self, frame: bytes) -> None:
        """Send a frame; while there is no hub, it waits in the queue.

        Raises:
            PeerFull: the hub has not read for long; the frame was not sent.
        """
        with self._lock:
            if self._closed:
                return
            if self._socket is None:
                self._socket = self._connect()
            if not self._socket.poll(0, _POLLOUT):
                raise PeerFull(self._hub.name)
            self._socket.send(frame)

    def _connect(self) -> "zmq.Socket[bytes]":
        import zmq  # not at the top: the hub itself never needs it, and it has 3.5 MB

        if self._context is None:
            self._context = zmq.Context()
        socket = self._context.socket(zmq.PUSH)
        socket.set_hwm(QUEUE_LIMIT)
        socket.setsockopt(zmq.LINGER, _LINGER_MS)
        socket.connect(f"ipc://{self._hub}")
        return socket

    def forget(self) -> None:
        """The hub has died: drop what is queued for it."""
        with self._lock:
            socket, self._socket = self._socket, None
        if socket is not None:
            socket.close(linger=0)

    def close(self) -> None:
        """Send no more; what is queued for a hub that is there may still leave for a second."""
        with self._lock:
            self._closed = True
            socket, self._socket = self._socket, None
        if socket is not None:
            socket.close(linger=None if self._hub.exists() else 0)
        if self._context is not None:
            self._context.term()
