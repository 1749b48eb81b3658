"""The routes of Triton's HTTP interface, in the order in which it tries them.

The whole path must match, as the client wrote it: percent escapes are not decoded, and a trailing slash matters.
"""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from falcon.asgi import Request, Response

from tensorhub.http import documentation, observation_resources, resources
from tensorhub.http.asgi import decode_path, raw_path
from tensorhub.http.memory_resources import CUDA_MEMORY, SYSTEM_MEMORY, Register, Status, Unregister

_METHODS = ("GET", "POST")
_MODEL = r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[0-9]+))?"

_INFER = re.compile(_MODEL + "/infer")
_GENERATE = re.compile(_MODEL + "/generate(?P<stream>_stream)?")


@functools.lru_cache(maxsize=1024)
def infer_target(raw: bytes) -> tuple[str, str] | None:
    """Return model and version text of the infer route, which no resource serves; None if it is another path."""
    match = _INFER.fullmatch(decode_path(raw))
    return None if match is None else (match["model"], match["version"] or "")


@functools.lru_cache(maxsize=1024)
def generate_target(raw: bytes) -> tuple[str, str, bool] | None:
    """Return model and version text of a generate route, and whether it is the one with a stream; None as above."""
    match = _GENERATE.fullmatch(decode_path(raw))
    return None if match is None else (match["model"], match["version"] or "", match["stream"] is not None)


async def method_not_allowed(req: Request, resp: Response, **segments: str) -> None:
    """Answer what Triton does to any method that an endpoint does not have."""
    resp.status = 405
    resp.data = b'{"error":"Method Not Allowed"}'


class _Responders(dict[str, Callable[..., Any]]):
    """Method to responder; every method has one."""

    def __init__(self, resource: object) -> None:
        super().__init__()
        for method in _METHODS:
            responder = getattr(resource, f"on_{method.lower()}", None)
            if responder is not None:
                self[method] = responder

    def __missing__(self, method: str) -> Callable[..., Any]:
        return method_not_allowed


class Route(NamedTuple):
    """One line of the table."""

    pattern: re.Pattern[str]
    resource: Any
    responders: Mapping[str, Callable[..., Any]]


def _route(pattern: str, resource: Any) -> Route:
    return Route(re.compile(pattern), resource, _Responders(resource))


def routes() -> list[Route]:
    """Make the table."""
    trace = observation_resources.TraceSetting()
    region = r"(?:/region/(?P<region>[^/]+))?"
    return [
        _route(r"/v2/models/stats", observation_resources.AllStatistics()),
        _route(r"/v2/logging", observation_resources.Logging()),
        _route(_MODEL + "/ready", resources.ModelReady()),
        _route(_MODEL + "/config", resources.ModelConfig()),
        _route(_MODEL + "/stats", observation_resources.ModelStatistics()),
        _route(r"/v2/models/(?P<model>[^/]+)/trace/setting", trace),
        _route(_MODEL + r"/openapi\.json", documentation.ModelDocument()),
        _route(_MODEL, resources.ModelMetadata()),
        _route(r"/v2", resources.ServerMetadata()),
        _route(r"/v2/health/live", resources.Live()),
        _route(r"/v2/health/ready", resources.Ready()),
        *(
            _route(rf"/v2/{name}sharedmemory{region}/{operation}", resource(memory))
            for name, memory in (("system", SYSTEM_MEMORY), ("cuda", CUDA_MEMORY))
            for operation, resource in (("status", Status), ("register", Register), ("unregister", Unregister))
        ),
        _route(r"/v2/repository(?:/[^/]+)?/index", resources.RepositoryIndex()),
        _route(r"/v2/repository(?:/(?P<repository>[^/]+))?/models/(?P<model>[^/]+)/load", resources.RepositoryLoad()),
        _route(
            r"/v2/repository(?:/(?P<repository>[^/]+))?/models/(?P<model>[^/]+)/unload", resources.RepositoryUnload()
        ),
        _route(r"/v2/trace/setting", trace),
        _route(r"/v2/openapi\.json", documentation.ServerDocument()),
        _route(r"/v2/docs(?:/(?P<file>[^/]+))?", documentation.Page()),
    ]


class Router:
    """Falcon's router interface over the table."""

    def __init__(self) -> None:
        self._routes = routes()

    def find(
        self, uri: str, req: Request | None = None
    ) -> tuple[Any, Mapping[str, Callable[..., Any]], dict[str, str], str] | None:
        """Return (resource, responders by method, path segments, template), or None if no route matches."""
        path = uri if req is None else raw_path(req.scope)
        for pattern, resource, responders in self._routes:
            match = pattern.fullmatch(path)
            if match is not None:
                segments = {name: value or "" for name, value in match.groupdict().items()}
                return resource, responders, segments, pattern.pattern
        return None
