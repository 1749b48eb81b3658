"""Send exact bytes to an HTTP server and read its answers: a small client with no opinion of what it sends."""

from __future__ import annotations

import http.client
import socket
from contextlib import AbstractContextManager
from dataclasses import dataclass

from .steps import Http
from .turns import AT_ONCE

_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Status, headers (names in lower case) and the body with any transfer coding removed."""

    status: int
    headers: dict[str, str]
    body: bytes


def request_bytes(step: Http) -> bytes:
    """The request of a step as it goes over the wire."""
    fields = [("Host", "localhost"), ("Connection", "close"), *step.headers]
    if step.length and (step.body or step.method == "POST"):
        fields.append(("Content-Length", str(len(step.body))))
    head = [f"{step.method} {step.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(head).encode("latin-1") + step.body


def exchange(
    address: tuple[str, int],
    data: bytes,
    responses: int = 1,
    method: str = "POST",
    *,
    turn: AbstractContextManager[object] = AT_ONCE,
) -> list[HttpAnswer]:
    """Send `data` on a new connection and read up to `responses` answers, fewer if the server closes before.

    Args:
        turn: held while it is sent, over a connection that stands.

    Raises:
        OSError: the connection was refused, or nothing came for a minute.
    """
    answers = []
    with socket.create_connection(address, timeout=_TIMEOUT_S) as connection:
        with turn:
            connection.sendall(data)
        with connection.makefile("rb") as reader:
            for _ in range(responses):
                if not reader.peek(1):
                    break
                answers.append(_read(reader, method))
    return answers


def events(body: bytes) -> list[bytes]:
    """The data of each server-sent event of a body, which consists of nothing else.

    Raises:
        OSError: it is none.
    """
    pieces = body.split(b"\n\n")
    if pieces.pop() or any(not piece.startswith(b"data: ") or b"\n" in piece for piece in pieces):
        raise OSError(f"no server-sent events: {body!r}")
    return [piece.removeprefix(b"data: ") for piece in pieces]


class _Replayed:
    """What http.client reads from: a socket's file that outlives one response, as pipelined answers share it."""

    def __init__(self, reader: object) -> None:
        self._reader = reader

    def makefile(self, _mode: str) -> object:
        return self._reader


class _KeepOpen(http.client.HTTPResponse):
    """A response that leaves the connection's file open when it has been read."""

    def _close_conn(self) -> None:
        self.fp = None  # type: ignore[assignment]

    def flush(self) -> None:
        """Nothing is written."""


def _read(reader: object, method: str) -> HttpAnswer:
    response = _KeepOpen(_Replayed(reader), method=method)  # type: ignore[arg-type]
    response.begin()
    body = response.read()
    return HttpAnswer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
