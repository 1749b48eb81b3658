"""How a process sends to the mailboxes of others: ZeroMQ PUSH sockets at `ipc://`, without libzmq (see `mailbox`).

A frame goes into the connection at once, on the thread that sends it. What does not fit, because the peer is slower or
has not greeted yet, or because there is no descriptor for a connection, waits in a queue that one thread empties as the
peer takes its mail.

Nothing blocks on a send: a peer whose queue is full is full, and that is an error at once. A peer that is not there has
died: what is sent to it is lost, and who waits for its answer hears of the death from its pidfd.
"""

import errno
import logging
import os
import select
import socket
import threading
import time
from collections import deque
from pathlib import Path

from tensorhub.ipc import zmtp
from tensorhub.ipc.bell import Bell
from tensorhub.ipc.descriptors import SHORTAGES

log = logging.getLogger(__name__)

QUEUE_LIMIT = 16_384
"""Sends that wait. Above the bound of requests in flight, so that it is met only by a peer that hangs."""

_LINGER_S = 1.0
_CONNECT_AGAIN_S = 0.1
_NOT_NOW = SHORTAGES | {errno.EAGAIN}
"""Errors of connections that can be made later; EAGAIN: too many wait for the peer to accept them, unix(7)."""

_GREETING_LIMIT = 1_024
_OPENING = zmtp.opening("PUSH")


class PeerFull(Exception):
    """The peer's mailbox takes no more."""


class _Line:
    """The connection to one peer. `lock` guards all of it.

    Attributes:
        connection: None until it can be made.
        greeted: the peer has said that it is a mailbox; nothing may be sent before.
        closed: it is of no use any more.
        waiting: what is still to be sent.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.connection: socket.socket | None = None
        self.greeted = False
        self.closed = False
        self.waiting: deque[memoryview] = deque()
        self._greeting = b""

    def connect(self) -> bool:
        """Make the connection; False if that is to be tried again.

        Raises:
            OSError: nobody is there.
        """
        try:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                connection.connect(os.fspath(self.path))
                connection.send(_OPENING)
            except OSError:
                connection.close()
                raise
        except OSError as exc:
            if exc.errno in _NOT_NOW:
                log.debug("%s cannot be reached now: %s", self.path.name, exc)
                return False
            raise
        self.connection = connection
        return True

    def flush(self) -> bool:
        """Send what waits; whether nothing is left to be sent. Under `lock`.

        Raises:
            OSError: the peer is gone.
            ProtocolError: it is no mailbox.
        """
        if self.closed:
            return True
        if self.connection is None and not self.connect():
            return False
        if not self.greeted and not self._hear():
            return False
        assert self.connection is not None
        while self.waiting:
            data = self.waiting[0]
            try:
                sent = self.connection.send(data)
            except BlockingIOError:
                return False
            if sent < len(data):
                self.waiting[0] = data[sent:]
            else:
                self.waiting.popleft()
        return True

    def _hear(self) -> bool:
        """Read the peer's greeting; whether it is complete."""
        assert self.connection is not None
        try:
            data = self.connection.recv(_GREETING_LIMIT)
        except BlockingIOError:
            return False
        if not data:
            raise ConnectionResetError
        self._greeting += data
        self.greeted = zmtp.is_whole_opening(self._greeting, "PULL")
        return self.greeted

    def close(self) -> None:
        """Drop it, and what waits. Under `lock`."""
        self.closed = True
        self.waiting.clear()
        if self.connection is not None:
            self.connection.close()


class Outbox:
    """How this process sends. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of what follows
        self._lines: dict[Path, _Line] = {}
        self._closed = False
        self._carrier: _Carrier | None = None

    def __repr__(self) -> str:
        return f"<Outbox to {', '.join(path.name for path in self._lines)}>"

    def send(self, path: Path, *frames: bytes) -> None:
        """Send frames to the mailbox at `path`, in one go, connecting first if need be.

        Raises:
            PeerFull: the peer takes no more; none of them was sent.
        """
        data = zmtp.frame(frames[0]) if len(frames) == 1 else b"".join(map(zmtp.frame, frames))
        line = self._lines.get(path) or self._connect(path)
        while line is not None and not self._sent(line, data):
            # Whoever was there has gone; the same process may have opened a new mailbox.
            self._drop(line)
            line = self._connect(path)

    def _sent(self, line: _Line, data: bytes) -> bool:
        """Send or queue; False if the connection has ended.

        Raises:
            PeerFull: the queue is full.
        """
        with line.lock:
            waiting = line.waiting
            if waiting or not line.greeted:
                if line.closed:
                    return False
                if len(waiting) >= QUEUE_LIMIT:
                    raise PeerFull(line.path.name)
                waiting.append(memoryview(data))
                if len(waiting) > 1:
                    return True  # it is being carried
            else:
                assert line.connection is not None
                try:
                    sent = line.connection.send(data)
                except BlockingIOError:
                    sent = 0
                except OSError:
                    return False
                if sent == len(data):
                    return True
                waiting.append(memoryview(data)[sent:])
        self._carry(line)
        return True

    def _connect(self, path: Path) -> _Line | None:
        with self._lock:
            line = self._lines.get(path)
            if line is not None or self._closed:
                return line
            if self._carrier is None:  # what is sent first waits for the greeting
                try:
                    self._carrier = _Carrier()
                except (OSError, RuntimeError) as exc:  # there is no descriptor or no thread for it
                    raise PeerFull(path.name) from exc
            line = _Line(path)
            try:
                line.connect()
            except OSError as exc:
                log.debug("%s is not there: %s", path.name, exc)
                return None
            self._lines[path] = line
            return line

    def _carry(self, line: _Line) -> None:
        with self._lock:
            if self._carrier is not None:  # else all is closed
                self._carrier.take(line)

    def forget(self, path: Path) -> None:
        """Drop a peer that has died, with everything still queued for it."""
        line = self._lines.get(path)
        if line is not None:
            self._drop(line)

    def _drop(self, line: _Line) -> None:
        with self._lock:
            if self._lines.get(line.path) is line:
                del self._lines[line.path]
        with line.lock:
            line.close()

    def close(self) -> None:
        """Close every connection; what is queued may still leave for a second."""
        with self._lock:
            self._closed = True
            lines, self._lines = list(self._lines.values()), {}
            carrier, self._carrier = self._carrier, None
        if carrier is not None:
            carrier.close(_LINGER_S)
        for line in lines:
            with line.lock:
                line.close()


class _Carrier:
    """The thread that sends what had to wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of `_lines`; taken after a line's own
        self._lines: set[_Line] = set()
        self._bell = Bell()
        self._ends_s = float("inf")
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._bell.close()
            raise

    def take(self, line: _Line) -> None:
        """Send what waits for this peer as soon as it can be sent."""
        with self._lock:
            self._lines.add(line)
        self._bell.ring()

    def _run(self) -> None:
        while True:
            with self._lock:
                lines = list(self._lines)
            left_s = self._ends_s - time.monotonic()
            if self._ends_s != float("inf") and (not lines or left_s <= 0):
                return
            ready = select.poll()
            ready.register(self._bell.fd, select.POLLIN)
            for line in lines:
                if line.connection is None:
                    left_s = min(left_s, _CONNECT_AGAIN_S)
                elif (fd := line.connection.fileno()) >= 0:
                    ready.register(fd, select.POLLOUT if line.greeted else select.POLLIN)
            for fd, _ in ready.poll(None if left_s == float("inf") else left_s * 1_000):
                if fd == self._bell.fd:
                    self._bell.silence()
            for line in lines:
                self._flush(line)

    def _flush(self, line: _Line) -> None:
        with line.lock:
            try:
                done = line.flush()
            except (OSError, zmtp.ProtocolError) as exc:
                log.debug("%s takes no mail: %s", line.path.name, exc)
                line.close()
                done = True
            if done:
                with self._lock:
                    self._lines.discard(line)

    def close(self, linger_s: float) -> None:
        """End when everything has left, or after so long."""
        self._ends_s = time.monotonic() + linger_s
        self._bell.ring()
        self._thread.join()
        self._bell.close()
