"""Statistics, and the settings of the log and of traces, as Falcon resources."""

from typing import Any

from falcon.asgi import Request, Response

from tensorhub.errors import TensorhubError
from tensorhub.frontend.catalog import LATEST, parse_version
from tensorhub.http.connection import control
from tensorhub.http.resources import context_of, read_body, send_json
from tensorhub.protocol import json_text, log_settings, messages, statistics, trace_settings
from tensorhub.restrictions import Category


class AllStatistics:
    """GET /v2/models/stats"""

    category = Category.STATISTICS

    async def on_get(self, req: Request, resp: Response) -> None:
        await _answer(req, resp, "", LATEST)


class ModelStatistics:
    """GET /v2/models/<model>[/versions/<version>]/stats"""

    category = Category.STATISTICS

    async def on_get(self, req: Request, resp: Response, model: str, version: str) -> None:
        await _answer(req, resp, model, parse_version(version))


async def _answer(req: Request, resp: Response, model: str, version: int) -> None:
    operation = messages.Control()
    operation.statistics.model = model
    operation.statistics.version = version
    result = await control(context_of(req).gateway, operation)
    send_json(resp, statistics.to_json(result.statistics))


class Logging:
    """GET and POST /v2/logging"""

    category = Category.LOGGING

    async def on_get(self, req: Request, resp: Response) -> None:
        send_json(resp, log_settings.shown(context_of(req).catalog.settings))

    async def on_post(self, req: Request, resp: Response) -> None:
        change, error = log_settings.from_json(json_text.parse(await read_body(req)))
        operation = messages.Control()
        operation.change_log.options.update(change)
        if error is not None:
            operation.change_log.code, operation.change_log.message = 1 + error.code, error.message
        operation.change_log.SetInParent()
        result = await control(context_of(req).gateway, operation)
        send_json(resp, log_settings.shown(result.log_options))


class TraceSetting:
    """GET and POST /v2/trace/setting and /v2/models/<model>/trace/setting"""

    category = Category.TRACE

    async def on_get(self, req: Request, resp: Response, model: str = "") -> None:
        await self._answer(req, resp, model, {})

    async def on_post(self, req: Request, resp: Response, model: str = "") -> None:
        body = await read_body(req)
        try:
            update = trace_settings.from_json(json_text.parse(body))
        except TensorhubError:
            context_of(req).catalog.check_traced(model)
            raise
        await self._answer(req, resp, model, update)

    async def _answer(self, req: Request, resp: Response, model: str, update: trace_settings.Update) -> None:
        operation = messages.Control(change_trace=trace_settings.operation(model, update))
        result: Any = await control(context_of(req).gateway, operation)
        settings = {name: result.trace.settings[name].value for name in trace_settings.order(result.trace.settings)}
        send_json(resp, trace_settings.to_json(settings))
