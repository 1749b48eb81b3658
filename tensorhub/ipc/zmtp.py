"""ZeroMQ's wire protocol, as much of it as a mailbox needs. Pure: bytes in, frames out.

The source is ZMTP 3.0 (rfc.zeromq.org/spec/23) with the NULL mechanism: each side sends a greeting of 64 bytes and a
READY command that names its socket type, then PUSH sends messages to PULL. A message here is one frame:

    flags  u8    0: the size is one byte; 2: it is eight; 1 added: more parts follow; 4 added: a command
    size   u8 or big-endian u64
    body

Any ZeroMQ library can talk to what this module reads and writes.
"""

import struct
from collections.abc import Iterator

from tensorhub.ipc.wire import MAX_FRAME_SIZE

_MECHANISM = b"NULL"
_GREETING_SIZE = 64
_MAJOR_VERSION = 3
_MORE = 1
_LONG = 2
_COMMAND = 4
_SHORTEST_LONG = 256
_LONG_HEADER = struct.Struct(">BQ")
_BUFFER_SIZE = 256 * 1024
"""PERF: memory that is never written to costs nothing, and what has arrived is seldom more."""


class ProtocolError(ValueError):
    """What has arrived is not ZMTP, or not from a PUSH socket that sends single frames."""


def frame(body: bytes) -> bytes:
    """Return a message of one frame as it goes over the connection."""
    size = len(body)
    if size < _SHORTEST_LONG:
        return bytes((0, size)) + body
    return _LONG_HEADER.pack(_LONG, size) + body


def opening(socket_type: str) -> bytes:
    """Return what a socket of this type ("PUSH", "PULL") sends first: the greeting and READY."""
    command = b"\x05READY" + _property(socket_type)
    greeting = b"\xff" + bytes(8) + b"\x7f" + bytes((_MAJOR_VERSION, 0)) + _MECHANISM.ljust(20, b"\0")
    return greeting.ljust(_GREETING_SIZE, b"\0") + bytes((_COMMAND, len(command))) + command


def is_whole_opening(data: bytes, socket_type: str) -> bool:
    """Whether this is all of what a socket of that type sends first, or only its beginning.

    Raises:
        ProtocolError: it is neither.
    """
    if not _is_whole_greeting(data) or len(data) < _GREETING_SIZE + 2:
        return False
    flags, size = data[_GREETING_SIZE : _GREETING_SIZE + 2]
    command = data[_GREETING_SIZE + 2 :]
    if flags != _COMMAND or len(command) > size:
        raise ProtocolError("something else than READY after the greeting")
    if len(command) < size:
        return False
    _check_ready(command, socket_type)
    return True


def _is_whole_greeting(data: bytes | memoryview) -> bool:
    if data[:1] != b"\xff" or (len(data) > 9 and not data[9] & 1):
        raise ProtocolError("no greeting of ZMTP")
    if len(data) < _GREETING_SIZE:
        return False
    major, mechanism = data[10], bytes(data[12:32]).rstrip(b"\0")
    if major < _MAJOR_VERSION or mechanism != _MECHANISM:
        raise ProtocolError(f"ZMTP {major} with {mechanism!r}; spoken is {_MAJOR_VERSION} with {_MECHANISM!r}")
    return True


def _check_ready(command: bytes, socket_type: str) -> None:
    if not command.startswith(b"\x05READY") or _property(socket_type) not in command:
        raise ProtocolError(f"not a {socket_type} socket")


def _property(socket_type: str) -> bytes:
    return b"\x0bSocket-Type" + struct.pack(">I", len(socket_type)) + socket_type.encode()


class Decoder:
    """One incoming connection. The caller writes into `room()` what arrives, and says with `took` how much it was."""

    def __init__(self) -> None:
        self._buffer = bytearray(_BUFFER_SIZE)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0  # of what has arrived and is not taken out
        self._large: bytearray | None = None  # a frame for which the buffer is too small
        self._large_end = 0
        self._greeted = False
        self._ready = False

    def room(self) -> memoryview:
        """Return where to put the next bytes; never empty."""
        if self._large is not None:
            return memoryview(self._large)[self._large_end :]
        return self._view[self._end :] if self._end else self._view

    def took(self, count: int) -> Iterator[bytes]:
        """Yield the frames that are whole with the `count` bytes written into `room()`; to be used up.

        Raises:
            ProtocolError: see there; the connection is of no more use.
        """
        if self._large is not None:
            self._large_end += count
            if self._large_end == len(self._large):
                whole, self._large = bytes(self._large), None
                yield whole
            return
        self._end += count
        if not self._greeted and not self._greet():
            return
        buffer, view = self._buffer, self._view
        while self._end - self._start >= 2:
            start = self._start
            flags = buffer[start]
            if flags == _LONG or flags == _LONG | _COMMAND:
                body = start + 9
                if body > self._end:
                    break
                size = int.from_bytes(view[start + 1 : body], "big")
                if size > MAX_FRAME_SIZE:
                    raise ProtocolError(f"a frame of {size} bytes; allowed are {MAX_FRAME_SIZE}")
            elif flags == 0 or flags == _COMMAND:
                body, size = start + 2, buffer[start + 1]
            else:
                raise ProtocolError(f"flags {flags:#x}; a message has one frame")
            stop = body + size
            if stop > self._end:
                if stop - start > _BUFFER_SIZE and not flags & _COMMAND:
                    self._begin_large(body, size)
                    return
                break
            self._start = stop
            if flags & _COMMAND:
                self._command(bytes(view[body:stop]))
            elif self._ready:
                yield bytes(view[body:stop])
            else:
                raise ProtocolError("a message before READY")
        self._make_room()

    def _greet(self) -> bool:
        """Take the greeting out of the buffer; whether it is there."""
        if _is_whole_greeting(self._view[: self._end]):
            self._start = _GREETING_SIZE
            self._greeted = True
        return self._greeted

    def _command(self, body: bytes) -> None:
        if self._ready:
            return  # none of them asks for anything that we offer
        _check_ready(body, "PUSH")
        self._ready = True

    def _begin_large(self, body: int, size: int) -> None:
        if not self._ready:
            raise ProtocolError("a message before READY")
        self._large = bytearray(size)
        self._large_end = self._end - body
        self._large[: self._large_end] = self._view[body : self._end]
        self._start = self._end = 0

    def _make_room(self) -> None:
        """Move what is not a whole frame yet to the front."""
        rest = self._end - self._start
        if rest and self._start:
            self._buffer[:rest] = self._buffer[self._start : self._end]
        self._start, self._end = 0, rest
