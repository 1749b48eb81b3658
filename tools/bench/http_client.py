"""A raw HTTP/1.1 client for one prebuilt POST: it sends ready bytes and reads into a buffer that it keeps.

A general client would parse, allocate and copy in the same loop that measures the server.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from tools.bench.errors import BenchError

TIMEOUT_S = 60.0
HEAD_LIMIT_BYTES = 1 << 16


def build(host: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return the whole request as bytes."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {host}",
        *(f"{k}: {v}" for k, v in headers.items()),
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Return the status and the headers, names in lower case, of a response's head (without its empty line).

    Raises:
        BenchError: it is not the head of an HTTP/1.x response.
    """
    status_line, *lines = head.decode("latin-1").split("\r\n")
    parts = status_line.split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
        raise BenchError(f"not an HTTP response: {status_line[:100]!r}")
    pairs = (line.partition(":") for line in lines)
    return int(parts[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}


class HttpClient:
    """One kept-alive connection, for as long as the `with` block lasts."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._socket: socket.socket | None = None
        self._buffer = bytearray(HEAD_LIMIT_BYTES)

    def __enter__(self) -> Self:
        self._socket = socket.create_connection(self._address, timeout=TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._socket is not None:
            self._socket.close()

    def post(self, request: bytes) -> tuple[dict[str, str], memoryview]:
        """Send a whole request, such as `build` makes, and return the headers and the body of its answer.

        The body is a view of this client's buffer: it holds until the next call.

        Raises:
            BenchError: the status is not 200, the length is not given, or the server closed the connection.
        """
        assert self._socket is not None, "used outside of its with block"
        self._socket.sendall(request)
        filled, end = 0, -1
        while end < 0:
            filled += self._receive(filled)
            end = self._buffer.find(b"\r\n\r\n", 0, filled)
            if end < 0 and filled >= HEAD_LIMIT_BYTES:
                raise BenchError("the head of the HTTP answer does not end")
        status, headers = parse_head(bytes(self._buffer[:end]))
        if "content-length" not in headers:
            raise BenchError("the HTTP answer has no Content-Length")
        start = end + 4
        total = start + int(headers["content-length"])
        if total > len(self._buffer):
            # A new buffer, not a longer one: the caller may still hold a view of the last answer.
            grown = bytearray(total)
            grown[:filled] = memoryview(self._buffer)[:filled]
            self._buffer = grown
        while filled < total:
            filled += self._receive(filled)
        body = memoryview(self._buffer)[start:total]
        if status != 200:
            raise BenchError(f"HTTP status {status}: {bytes(body[:300])!r}")
        return headers, body

    def _receive(self, filled: int) -> int:
        assert self._socket is not None
        with memoryview(self._buffer) as view:
            count = self._socket.recv_into(view[filled:])
        if count == 0:
            raise BenchError("the server closed the HTTP connection in the middle of an answer")
        return count
