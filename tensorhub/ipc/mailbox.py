"""Mailboxes: every process has one, and anyone in the run directory may drop frames into it.

A mailbox is a ZeroMQ PULL socket at `ipc://`. It does without libzmq: there, an I/O thread on either side stands
between the two that talk, and a message costs three wake-ups in place of one. Here the thread that wants the mail reads
the connections itself (`zmtp` has the protocol).

A mailbox takes in no more than it is asked for. Who sends to one that is not read fills the connection, and then its
own queue (`outbox`).
"""

import logging
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from tensorhub.ipc import zmtp
from tensorhub.ipc.bell import Bell

log = logging.getLogger(__name__)

_NS_PER_S = 1_000_000_000

_BACKLOG = 1_024
_EVENTS = 64
"""Connections that one look takes mail from; the others' turn comes with the next."""

_ACCEPT_AGAIN_S = 0.5
_OPENING = zmtp.opening("PULL")


class _Inlet:
    """A connection that somebody made to us."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.decoder = zmtp.Decoder()


class Mailbox:
    """Where this process receives. For one thread at a time; `wake` is for all.

    Args:
        path: where to listen; what is there from a process that has died is removed.
        wake_frame: what is received after `wake`.
    """

    def __init__(self, path: Path, wake_frame: bytes) -> None:
        self.path = path
        self._wake_frame = wake_frame
        self._frames: deque[bytes] = deque()
        self._inlets: dict[int, _Inlet] = {}
        self._epoll = select.epoll()
        self._bell = Bell()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        path.unlink(missing_ok=True)
        self._listener.bind(os.fspath(path))
        self._listener.listen(_BACKLOG)
        self._listen()
        self._epoll.register(self._bell.fd, select.EPOLLIN)

    def _listen(self) -> None:
        try:
            self._epoll.register(self._listener.fileno(), select.EPOLLIN)
        except ValueError:
            log.debug("the mailbox has been closed meanwhile")

    def __repr__(self) -> str:
        return f"<Mailbox {self.path.name}, {len(self._inlets)} connections>"

    @property
    def fd(self) -> int:
        """Readable while something has come that is not taken in; then `take` or `receive_nowait` has it."""
        return self._epoll.fileno()

    def wait(self) -> None:
        """Wait until something has come, and leave it there; from any one thread."""
        self._epoll.poll(-1, 1)

    def take(self) -> Sequence[bytes]:
        """Return the frames that are there, none if there are none."""
        self._take_in(0)
        frames, self._frames = self._frames, deque()
        return frames

    def receive(self, timeout_ms: int = -1) -> bytes | None:
        """Wait for a frame; None after `timeout_ms` milliseconds (-1: never)."""
        frames = self._frames
        while not frames:
            if not self._take_in(timeout_ms) and timeout_ms >= 0:
                return None
        return frames.popleft()

    def receive_until(self, due_ns: int) -> bytes | None:
        """Wait for a frame until a time of CLOCK_MONOTONIC, to the microsecond; None if there is none by then."""
        frames = self._frames
        while not frames and (wait_ns := due_ns - time.monotonic_ns()) > 0:
            select.select((self._epoll,), (), (), wait_ns / _NS_PER_S)
            self._take_in(0)
        return self.receive_nowait()

    def receive_nowait(self) -> bytes | None:
        """Take a frame if there is one."""
        frames = self._frames
        if not frames:
            self._take_in(0)
            if not frames:
                return None
        return frames.popleft()

    def _take_in(self, timeout_ms: int) -> bool:
        """Read what has arrived, waiting for it so long; whether there was anything."""
        events = self._epoll.poll(timeout_ms / 1_000 if timeout_ms > 0 else timeout_ms, _EVENTS)
        for fd, _ in events:
            inlet = self._inlets.get(fd)
            if inlet is not None:
                self._read(inlet)
            elif fd == self._bell.fd:
                self._bell.silence()
                self._frames.append(self._wake_frame)
            else:
                self._accept()
        return bool(events)

    def _read(self, inlet: _Inlet) -> None:
        decoder = inlet.decoder
        try:
            count = inlet.connection.recv_into(decoder.room())
            if count:
                self._frames.extend(decoder.took(count))
                return
        except BlockingIOError:
            return
        except zmtp.ProtocolError as exc:
            log.warning("closed a connection to the mailbox: %s", exc)
        except OSError as exc:
            log.debug("a connection to the mailbox ended: %s", exc)
        self._close(inlet)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:  # it has gone again
            return
        except OSError as exc:  # most likely there are too many descriptors, which does not pass at once
            log.warning("cannot accept a connection to the mailbox: %s; trying again", exc)
            self._epoll.unregister(self._listener.fileno())
            again = threading.Timer(_ACCEPT_AGAIN_S, self._listen)
            again.daemon = True
            again.start()
            return
        connection.setblocking(False)
        try:
            connection.send(_OPENING)
        except OSError:
            log.debug("a connection to the mailbox ended before it began")
        self._inlets[connection.fileno()] = _Inlet(connection)
        self._epoll.register(connection.fileno(), select.EPOLLIN)

    def _close(self, inlet: _Inlet) -> None:
        fd = inlet.connection.fileno()
        self._epoll.unregister(fd)
        del self._inlets[fd]
        inlet.connection.close()

    def wake(self) -> None:
        """Have the reader receive the wake frame soon; from any thread, and from signal handlers."""
        try:
            self._bell.ring()
        except ValueError:
            log.debug("a mailbox that is closed was woken")

    def close(self) -> None:
        """Receive no more."""
        for inlet in list(self._inlets.values()):
            self._close(inlet)
        self._epoll.close()
        self._listener.close()
        self._bell.close()
        self.path.unlink(missing_ok=True)
