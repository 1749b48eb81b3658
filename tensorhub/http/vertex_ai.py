"""The endpoint for Vertex AI: two routes that the environment names, and a header that redirects. An ASGI app.

    GET  <AIP_HEALTH_ROUTE>      is the server ready?
    POST <AIP_PREDICT_ROUTE>     inference of the default model
    POST <AIP_PREDICT_ROUTE>     with X-Vertex-Ai-Triton-Redirect: v2/..., what that path of the ordinary interface does

Only what reads can be redirected to, and inference: loading models and registering memory is refused with 403. Any
other path is answered with 400. Source: vertex_ai_server.cc of Triton's server.
"""

import asyncio
import http.client
import os
import re

from tensorhub.errors import InvalidArgument, TensorhubError
from tensorhub.frontend.catalog import Catalog
from tensorhub.hosting import VertexEnvironment
from tensorhub.http.app import App
from tensorhub.http.asgi import JSON_TYPE, Receive, Scope, Send, raw_path, send_body
from tensorhub.http.hosted import ServedApp, rewritten, send_empty, with_binary_length
from tensorhub.protocol.json_text import error_body

MIME = b"application/vnd.vertex-ai-triton.binary+json;json-header-size="
REDIRECT = b"x-vertex-ai-triton-redirect"

_MODEL = r"/v2/models/[^/]+(?:/versions/[0-9]+)?"
_REDIRECTED: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), method)
    for pattern, method in (
        (r"/v2/models/stats", "GET"),
        (_MODEL + "/infer", "POST"),
        (_MODEL + "(?:/(?:ready|config|stats))?", "GET"),
        (r"/v2", "GET"),
        (r"/v2/health/(?:live|ready)", "GET"),
        (r"/v2/(?:system|cuda)sharedmemory(?:/region/[^/]+)?/status", "GET"),
        (r"/v2/repository(?:/[^/]+)?/index", "POST"),
    )
)
"""Where a redirection may lead, and the method that is asked with there."""

_FORBIDDEN = re.compile(
    r"/v2/(?:system|cuda)sharedmemory(?:/region/[^/]+)?/(?:register|unregister)"
    r"|/v2/repository(?:/[^/]+)?/models/[^/]+/(?:load|unload)"
)
_METRICS_TIMEOUT_S = 5.0
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


class VertexAiApp:
    """See the module."""

    def __init__(self, app: ServedApp, environment: VertexEnvironment, default_model: str = "") -> None:
        """Args: default_model: "" for the one of --vertex-ai-default-model, or the only one that there is."""
        self._app = app
        self._environment = environment
        self._default_model = default_model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = raw_path(scope)
        try:
            if path == self._environment.health_route:
                await self._app(rewritten(scope, scope["method"], "/v2/health/ready"), receive, send)
            elif path != self._environment.predict_route:
                await send_empty(send, 400)
            elif REDIRECT in (headers := dict(scope["headers"])):
                await self._redirect("/" + headers[REDIRECT].decode("latin-1"), scope, receive, send)
            else:
                model = await self._model()
                await self._app(with_binary_length(scope, f"/v2/models/{model}/infer", MIME), receive, send)
        except TensorhubError as exc:
            await send_body(send, exc.http_status, [JSON_TYPE], error_body(exc.message))

    async def _redirect(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await send_empty(send, 405)
            return
        if path == "/metrics":
            await self._metrics(send)
            return
        method = next((method for pattern, method in _REDIRECTED if pattern.fullmatch(path)), None)
        if method is not None:
            inner = with_binary_length(scope, path, MIME)
            await self._app({**inner, "method": method}, receive, send)
        else:
            await send_empty(send, 403 if _FORBIDDEN.fullmatch(path) else 400)

    async def _catalog(self) -> Catalog:
        connection = self._app.connection
        gateway = connection.gateway or await connection.open()
        gateway.catalog.check_serving()
        return gateway.catalog

    async def _model(self) -> str:
        """Return the name of the model of requests that name none.

        Raises:
            TensorhubError: there is no such model, or no server.
        """
        catalog = await self._catalog()
        name = self._default_model or catalog.settings.get("vertex-ai-default-model", "")
        ready = [model.name for model in catalog.models.values() if model.ready_versions]
        if not name and len(ready) != 1:
            raise InvalidArgument(
                "Expect the model repository contains only a single model if default model is not specified"
            )
        if name and name not in ready:
            raise InvalidArgument(f"Expect the default model '{name}' is loaded")
        return name or ready[0]

    async def _metrics(self, send: Send) -> None:
        """Answer with the page of the metrics endpoint, which is another process's."""
        settings = (await self._catalog()).settings
        if settings.get("allow-metrics", "true") != "true":
            await send_empty(send, 400)
            return
        address = settings.get("metrics-address", "") or settings.get("http-address", "")
        place = _ANY_ADDRESS.get(address.strip("[]"), address.strip("[]")), int(settings["metrics-port"])
        try:
            status, kind, page = await asyncio.to_thread(_fetch, *place)
        except (OSError, http.client.HTTPException):
            await send_empty(send, 400)
            return
        await send_body(send, status, [(b"content-type", kind.encode("latin-1"))], page)


def _fetch(host: str, port: int) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=_METRICS_TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        return answer.status, answer.headers.get("Content-Type", "text/plain"), answer.read()
    finally:
        connection.close()


def create() -> VertexAiApp:
    """Return the app of this process, as the environment describes it; what Gunicorn calls."""
    return VertexAiApp(App(), VertexEnvironment.read(os.environ))
