"""Calls an ASGI app without a server: one request, given in the pieces in which a server would deliver it."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """A response; header names are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


async def call(
    app: Any,
    method: str,
    path: str,
    body: bytes | Sequence[bytes] = b"",
    headers: Iterable[tuple[str, str]] = (),
    client: tuple[str, int] | None = ("127.0.0.1", 50000),
    server: tuple[str, int] | None = ("127.0.0.1", 8000),
) -> Answer:
    """Run one request. A body of bytes has a Content-Length, one in pieces is chunked."""
    chunks = [body] if isinstance(body, bytes) else list(body)
    sent = [(name.lower().encode(), value.encode()) for name, value in headers]
    if isinstance(body, bytes):
        sent.append((b"content-length", str(len(body)).encode()))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path.partition("?")[0],
        "raw_path": path.partition("?")[0].encode(),
        "query_string": path.partition("?")[2].encode(),
        "root_path": "",
        "headers": sent,
        "client": client,
        "server": server,
    }
    events = [
        {"type": "http.request", "body": chunk, "more_body": index < len(chunks) - 1}
        for index, chunk in enumerate(chunks)
    ]
    gone = asyncio.Event()

    async def receive() -> Any:
        if events:
            return events.pop(0)
        await gone.wait()
        return {"type": "http.disconnect"}

    received: list[Any] = []

    async def send(message: Any) -> None:
        received.append(message)

    await app(scope, receive, send)
    start = received[0]
    return Answer(
        start["status"],
        {name.decode().lower(): value.decode() for name, value in start["headers"]},
        b"".join(bytes(message.get("body", b"")) for message in received[1:]),
    )


def ask(app: Any, *args: Any, **kwargs: Any) -> Answer:
    """`call`, in an event loop of its own."""
    return asyncio.run(call(app, *args, **kwargs))
