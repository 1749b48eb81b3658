"""A gRPC client that writes HTTP/2 frames by hand: what no well-behaved client sends, and none of its own limits.

Source: RFC 9113 (frames), RFC 7541 (header fields, here always literal and neither indexed nor compressed).
"""

import socket
import struct
from collections.abc import Iterator, Sequence

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
"""Types of frames."""

END_STREAM, END_HEADERS, ACK = 1, 4, 1
"""Flags."""

INITIAL_WINDOW_SIZE = 4
CANCEL = 8


def grpc_message(data: bytes, compressed: bool = False) -> bytes:
    """Return a message with gRPC's prefix."""
    return struct.pack(">BI", compressed, len(data)) + data


def messages_in(data: bytes) -> Iterator[bytes]:
    """Yield the messages, of which none is compressed, that what was sent on a call consists of."""
    start = 0
    while start < len(data):
        end = start + 5 + int.from_bytes(data[start + 1 : start + 5], "big")
        yield data[start + 5 : end]
        start = end


def _integer(value: int, bits: int) -> bytes:
    limit = (1 << bits) - 1
    if value < limit:
        return bytes((value,))
    out = bytearray((limit,))
    value -= limit
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    out.append(value)
    return bytes(out)


def _field(name: str, value: str) -> bytes:
    return b"\x00" + b"".join(_integer(len(text), 7) + text for text in (name.encode(), value.encode()))


class RawClient:
    """One connection. Streams have odd numbers, in rising order; the caller chooses them."""

    def __init__(self, port: int, window: int = 65_535) -> None:
        """Connect. Args: window: bytes that the server may send on each stream before it is given more."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._rest = b""
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, window))

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def frame(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        """Send a frame."""
        self._socket.sendall(struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload)

    def open(self, stream: int, method: str, extra: Sequence[tuple[str, str]] = (), *, end: bool = False) -> None:
        """Begin a call."""
        fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            *extra,
        ]
        block = b"".join(_field(name, value) for name, value in fields)
        self.frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block)

    def message(self, stream: int, data: bytes, *, end: bool = False, compressed: bool = False) -> None:
        """Send a message on a call; a long one in several frames, whatever windows the server gives."""
        body = grpc_message(data, compressed)
        for start in range(0, len(body), 16_384):
            last = start + 16_384 >= len(body)
            self.frame(DATA, END_STREAM if end and last else 0, stream, body[start : start + 16_384])

    def allow(self, stream: int, size: int) -> None:
        """Let the server send more bytes on a call; on the connection, if `stream` is 0."""
        self.frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", size))

    def reset(self, stream: int) -> None:
        """Cancel a call."""
        self.frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))

    def frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield the server's frames until it closes: type, flags, stream, payload. Acknowledges settings and pings."""
        while True:
            head = self._take(9)
            if head is None:
                return
            kind, flags, stream = struct.unpack(">BBI", head[3:])
            payload = self._take(int.from_bytes(head[:3], "big")) or b""
            if kind == SETTINGS and not flags & ACK:
                self.frame(SETTINGS, ACK, 0)
            if kind == PING and not flags & ACK:
                self.frame(PING, ACK, 0, payload)
            yield kind, flags, stream, payload

    def _take(self, size: int) -> bytes | None:
        while len(self._rest) < size:
            try:
                more = self._socket.recv(65_536)
            except ConnectionResetError:
                more = b""
            if not more:
                return None
            self._rest += more
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken
