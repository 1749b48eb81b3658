"""What the endpoints of SageMaker and Vertex AI have in common: requests that are served as others, by the same app.

Both call a server by paths and headers of their own. So a request is rewritten to the one that it stands for, and the
ordinary app serves it, with all checks and limits; on the way back the headers are rewritten once more. Bodies go
through untouched. Neither service compresses anything.
"""

import re
from collections.abc import Callable
from typing import Any, Protocol

from tensorhub.errors import InvalidArgument
from tensorhub.http.asgi import Event, Headers, Scope, Send
from tensorhub.http.connection import Connection

HEADER_LENGTH = b"inference-header-content-length"

_NOT_FORWARDED = frozenset((HEADER_LENGTH, b"content-encoding", b"accept-encoding"))
_LEADING_INTEGER = re.compile(rb"[ \t]*[+-]?[0-9]+")

StartChange = Callable[[int, Headers], tuple[int, Headers]]
"""From status and headers of a response to those that are sent."""


class ServedApp(Protocol):
    """The ordinary app, as far as it is needed here."""

    connection: Connection

    def __call__(self, *call: Any) -> Any: ...


def binary_length(content_type: bytes, mime: bytes) -> bytes | None:
    """Return the length of the JSON part that a Content-Type tells, None if it is another type.

    Args:
        content_type: the header's value.
        mime: what it begins with if there is a binary part, up to the number.

    Raises:
        InvalidArgument: the type is not at the beginning, or no number follows it.
    """
    position = content_type.find(mime)
    if position < 0:
        return None
    shown = content_type.decode("latin-1")
    if position > 0:
        raise InvalidArgument(f"expect MIME type for binary data starts with '{mime.decode('latin-1')}', got: {shown}")
    rest = content_type[len(mime) :]
    if _LEADING_INTEGER.match(rest) is None:
        raise InvalidArgument(f"Unable to parse inference header size, got: {rest.decode('latin-1')}")
    return rest


def rewritten(scope: Scope, method: str, path: str, *more: tuple[bytes, bytes]) -> Scope:
    """Return the scope of the request that another one stands for, without its own word on compression and lengths."""
    raw = path.encode("latin-1")
    headers = [item for item in scope["headers"] if item[0] not in _NOT_FORWARDED]
    return {**scope, "method": method, "path": path, "raw_path": raw, "query_string": b"", "headers": [*headers, *more]}


def with_binary_length(scope: Scope, path: str, mime: bytes) -> Scope:
    """Return the scope of the inference that a POST stands for.

    Raises:
        InvalidArgument: as `binary_length`.
    """
    length = binary_length(dict(scope["headers"]).get(b"content-type", b""), mime)
    more = () if length is None else ((HEADER_LENGTH, length),)
    return rewritten(scope, scope["method"], path, *more)


def changing_start(send: Send, change: StartChange) -> Send:
    """Return a `send` that has `change` look at the response's start."""

    async def forward(event: Event) -> None:
        if event["type"] == "http.response.start":
            status, headers = change(event["status"], list(event["headers"]))
            event = {**event, "status": status, "headers": headers}
        await send(event)

    return forward


async def send_empty(send: Send, status: int) -> None:
    """Answer without a body."""
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
