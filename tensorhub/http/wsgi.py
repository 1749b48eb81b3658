"""The app for WSGI servers: a loop in a thread serves its requests, and an adapter (a2wsgi) carries them there.

The adapter leaves alone what it has begun when a client goes away, takes the end of a connection for a pause in the
body, and bodies in chunks for empty ones. So it is watched over here. The loop does not hear of the process's end
either; the server is left at exit.
"""

import asyncio
import atexit
import errno
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, cast

from tensorhub.http.asgi import Receive, Scope, Send
from tensorhub.http.connection import Connection
from tensorhub.protocol.json_text import error_body

log = logging.getLogger(__name__)

_NOTICE = (
    "serving through the WSGI adapter, which costs much of the speed. The fast way: 'gunicorn -c "
    "etc/tensorhub/gunicorn.conf.py tensorhub.http:app', or 'gunicorn -k tensorhub.http.gunicorn_worker.Worker "
    "tensorhub.http:app'"
)
_NO_CHUNKS = "the request's body comes in chunks, which this server's WSGI side cannot read. Send a Content-Length"
_TASK = "tensorhub.task"
"""Member of an environ: what serves the request."""

_LEAVE_TIMEOUT_S = 5.0


class WsgiApp:
    """The app as a WSGI server calls it."""

    def __init__(self, serve: Callable[[Scope, Receive, Send], Any], connection: Connection) -> None:
        """Args: serve: the app as an ASGI server calls it; connection: of the app."""
        # Not at the top: ASGI servers need neither the library nor its thread.
        from a2wsgi import ASGIMiddleware

        log.warning(_NOTICE)
        self._serve = serve
        self._connection = connection
        self._adapter = ASGIMiddleware(cast(Any, self._run))
        atexit.register(self._leave)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        """Serve one request."""
        if "HTTP_TRANSFER_ENCODING" in environ and not environ.get("CONTENT_LENGTH"):
            start_response("411 Length Required", [("content-type", "application/json")])
            yield error_body(_NO_CHUNKS)
            return
        if environ.get("wsgi.input") is not None:
            environ["wsgi.input"] = _Input(environ["wsgi.input"])
        try:
            yield from self._adapter(cast(Any, environ), cast(Any, start_response))
        finally:
            task = environ.get(_TASK)
            if task is not None:
                self._adapter.loop.call_soon_threadsafe(task.cancel)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        environ = scope["wsgi_environ"]
        environ[_TASK] = asyncio.current_task()
        _complete_scope(scope, environ)
        await self._serve(scope, receive, send)

    def _leave(self) -> None:
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._connection.close(), self._adapter.loop).result(_LEAVE_TIMEOUT_S)


class _Input:
    """A body that ends too early when its connection does."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def read(self, size: int) -> bytes:
        """Read a piece of what is still to come.

        Raises:
            ConnectionResetError: there is nothing more.
        """
        data: bytes = self._body.read(size)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "the client has gone before the end of its request")
        return data


def _complete_scope(scope: Scope, environ: dict[str, Any]) -> None:
    """Add what the adapter leaves out: the path as it was written, and a client without a port."""
    target = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    if target.startswith("/"):
        scope["raw_path"] = target.encode("latin-1")
    if "client" not in scope and environ.get("REMOTE_ADDR"):
        scope["client"] = (environ["REMOTE_ADDR"], 0)
