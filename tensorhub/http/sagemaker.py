"""The endpoint for SageMaker. An ASGI app.

    GET    /ping                 is the server ready (or live, by SAGEMAKER_TRITON_PING_MODE)?
    POST   /invocations          inference of SAGEMAKER_TRITON_DEFAULT_MODEL_NAME
    /models...                   endpoints with several models, see `sagemaker_models`
    POST   /models/<name>/invoke inference of one of those

Any other path is answered with 400. The length of a body's JSON part is in the content type, both ways. Source:
sagemaker_server.cc of Triton's server, and AWS's contract for multi-model endpoints.
"""

import os
import re

from tensorhub.errors import TensorhubError
from tensorhub.hosting import SagemakerEnvironment
from tensorhub.http.app import App
from tensorhub.http.asgi import JSON_TYPE, Event, Headers, Receive, Scope, Send, raw_path, send_body
from tensorhub.http.hosted import (
    HEADER_LENGTH,
    ServedApp,
    changing_start,
    rewritten,
    send_empty,
    with_binary_length,
)
from tensorhub.http.sagemaker_models import TARGET_MODEL, SagemakerModels, is_out_of_memory
from tensorhub.protocol.json_text import error_body

MIME = b"application/vnd.sagemaker-triton.binary+json;json-header-size="

_MODELS = re.compile(r"/models/?(?:(?P<name>[^/]+)(?P<invoke>/invoke)?)?")
_BAD_REQUEST = 400
_OUT_OF_MEMORY = 507


class SagemakerApp:
    """See the module."""

    def __init__(self, app: ServedApp, environment: SagemakerEnvironment, models: SagemakerModels) -> None:
        self._app = app
        self._environment = environment
        self._models = models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = raw_path(scope)
        environment = self._environment
        try:
            if path == "/ping":
                inner = rewritten(scope, scope["method"], f"/v2/health/{environment.ping_mode}")
                await self._app(inner, receive, send)
            elif path == "/invocations":
                target = f"/v2/models/{environment.default_model}/{environment.inference_type}"
                await self._infer(scope, target, receive, send)
            elif (match := _MODELS.fullmatch(path)) is not None:
                await self._model(match["name"] or "", bool(match["invoke"]), scope, receive, send)
            else:
                await send_empty(send, _BAD_REQUEST)
        except TensorhubError as exc:
            await send_body(send, exc.http_status, [JSON_TYPE], error_body(exc.message))

    async def _infer(self, scope: Scope, path: str, receive: Receive, send: Send) -> None:
        await self._app(with_binary_length(scope, path, MIME), receive, changing_start(send, _binary_type))

    async def _model(self, name: str, invoke: bool, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST" and invoke:
            await self._invoke(name, scope, receive, send)
            return
        status, body = await self._models.serve(scope, receive, name)
        await send_body(send, status, [JSON_TYPE] if body else [], body)

    async def _invoke(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Run a model; SageMaker's contract has 400 for all errors but one."""
        target = dict(scope["headers"]).get(TARGET_MODEL, name.encode("latin-1")).decode("latin-1")
        if not self._models.has(name) or "/" in target:
            await send_empty(send, 404)
            return
        try:
            await self._infer(scope, f"/v2/models/{target}/infer", receive, _Refusals(send).send)
        except TensorhubError as exc:
            status = _OUT_OF_MEMORY if is_out_of_memory(exc.message) else _BAD_REQUEST
            await send_body(send, status, [JSON_TYPE], error_body(exc.message))


class _Refusals:
    """Holds an error back until its text is known, which decides about the status; other responses go through."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._held: Event | None = None
        self._text = b""

    async def send(self, event: Event) -> None:
        """Take the place of `send`."""
        if event["type"] == "http.response.start" and event["status"] not in (200, 403, 405):
            self._held = event
            return
        if self._held is not None:
            self._text += event.get("body", b"")
            if event.get("more_body"):
                return
            status = _OUT_OF_MEMORY if is_out_of_memory(self._text.decode("utf-8", "replace")) else _BAD_REQUEST
            await self._send({**self._held, "status": status})
            event = {"type": "http.response.body", "body": self._text}
        await self._send(event)


def _binary_type(status: int, headers: Headers) -> tuple[int, Headers]:
    """Put the length of the JSON part into the content type."""
    length = dict(headers).get(HEADER_LENGTH)
    if length is None:
        return status, headers
    kept = [item for item in headers if item[0] not in (HEADER_LENGTH, b"content-type")]
    return status, [*kept, (b"content-type", MIME + length)]


def create() -> SagemakerApp:
    """Return the app of this process, as the environment describes it; what Gunicorn calls."""
    app = App()
    return SagemakerApp(app, SagemakerEnvironment.read(os.environ), SagemakerModels(app.connection))
