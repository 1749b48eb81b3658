"""The shapes of ASGI (https://asgi.readthedocs.io, HTTP 2.3), as far as this package uses them."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON_TYPE = (b"content-type", b"application/json")


WRITTEN_HEADERS = "tensorhub.headers"
"""Member of a scope: the headers with their names as the client wrote them, if the server knows."""


class Disconnected(Exception):
    """The client has gone; there is nobody to answer."""


async def send_body(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send a whole response."""
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def written_headers(scope: Scope) -> Mapping[bytes, bytes]:
    """The headers with their names as the client wrote them; in lower case where the server does not tell that."""
    return dict(scope.get(WRITTEN_HEADERS) or scope["headers"])


def raw_path(scope: Scope) -> str:
    """The path as the client wrote it, percent escapes and all, without the query.

    Servers that do not tell it (it is optional in ASGI) give us the decoded one.
    """
    return decode_path(scope.get("raw_path") or scope["path"].encode())


def decode_path(raw: bytes) -> str:
    """Make text of a path, which should be ASCII; some servers leave the query on it."""
    return raw.partition(b"?")[0].decode("utf-8", "replace")
