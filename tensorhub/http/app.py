"""The app: one object that any ASGI or WSGI server can call.

app(scope, receive, send)      ASGI 3: what the shipped Gunicorn configuration uses
app(scope)(receive, send)      ASGI 2: servers that see no coroutine function in this object
app(environ, start_response)   WSGI, through an adapter with an event loop in a thread: slower, but complete
"""

import functools
import logging
import re
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from tensorhub.errors import TensorhubError
from tensorhub.http.asgi import Receive, Scope, Send
from tensorhub.http.connection import Connection, GatewayFactory, join_server
from tensorhub.http.control import control_app
from tensorhub.http.direct import DirectInfer
from tensorhub.http.generate import GenerateEndpoint
from tensorhub.http.infer import InferEndpoint
from tensorhub.http.routes import generate_target, infer_target

log = logging.getLogger(__name__)

_ORIGIN = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


class App:
    """The HTTP frontend. It joins the server when it is started (ASGI lifespan), or with its first request.

    Attributes:
        connection: to the server.
        direct: the way past ASGI, for servers that know it (`gunicorn_worker`).
    """

    def __init__(self, gateway_factory: GatewayFactory = join_server) -> None:
        self.connection = Connection(gateway_factory)
        self._infer = InferEndpoint(self.connection)
        self._generate = GenerateEndpoint(self.connection)
        self.direct = DirectInfer(self.connection)
        self._control = control_app(self.connection)
        self._wsgi: Callable[..., Any] | None = None
        self._wsgi_lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<tensorhub.http.App {self.connection!r}>"

    def __call__(self, *call: Any) -> Any:
        """Serve one request, or the lifespan; see the module for the three forms."""
        if len(call) == 3:
            return self._serve(*call)
        if len(call) == 1:
            return functools.partial(self._serve, *call)
        environ, start_response = call
        return self._serve_wsgi(environ, start_response)

    def _serve(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            if not scope["path"].startswith("/"):
                _to_origin_form(scope)
            path = scope.get("raw_path") or scope["path"].encode()
            target = infer_target(path)
            if target is not None:
                return self._infer.serve(scope, receive, send, *target)
            generate = generate_target(path)
            if generate is not None:
                return self._generate.serve(scope, receive, send, *generate)
            return self._control(scope, receive, send)
        if scope["type"] == "lifespan":
            return self._live(receive, send)
        return _close_websocket(receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            event = await receive()
            if event["type"] == "lifespan.startup":
                try:
                    await self.connection.open()
                except TensorhubError as exc:
                    # Not fatal: it is tried again with each request, which gets a clear error meanwhile.
                    log.warning("starting without a server: %s", exc.message)
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.connection.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _serve_wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        with self._wsgi_lock:
            if self._wsgi is None:
                # Not at the top: ASGI servers need no adapter.
                from tensorhub.http.wsgi import WsgiApp

                self._wsgi = WsgiApp(self._serve, self.connection)
        return self._wsgi(environ, start_response)


def _to_origin_form(scope: Scope) -> None:
    """Make "/path" of "http://host/path", as clients of a proxy write it; servers must take it (RFC 9112, 3.2.2)."""
    scope["path"] = _ORIGIN.sub("", scope["path"], count=1) or "/"
    if "raw_path" in scope:
        raw = scope["raw_path"].decode("latin-1")
        scope["raw_path"] = (_ORIGIN.sub("", raw, count=1) or "/").encode("latin-1")


async def _close_websocket(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close"})
