"""The standard health service: Check and Watch, for the server and for each of its models.

A service that has the name of a model is that model; every other name, the empty one included, is the whole server, as
in Triton, which has no Watch and no models here. So load balancers that ask for any name of theirs go on working.
Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

import threading
from collections.abc import Sequence
from typing import Any

from tensorhub.errors import TensorhubError
from tensorhub.frontend.catalog import Catalog
from tensorhub.frontend.port import GatewayPort
from tensorhub.grpc.answering import parse, status_details
from tensorhub.grpc.engine import NOT_ONE_MESSAGE, UNAVAILABLE, UNIMPLEMENTED, Stream, StreamCall
from tensorhub.protocol import messages

SERVICE = "grpc.health.v1.Health"

SERVING = "SERVING"
NOT_SERVING = "NOT_SERVING"

_Request = messages.message_class("grpc.health.v1.HealthCheckRequest")
_Response = messages.message_class("grpc.health.v1.HealthCheckResponse")


def status_of(catalog: Catalog, service: str) -> str:
    """Return SERVING or NOT_SERVING; never raises."""
    if not catalog.connected or catalog.stopping:
        return NOT_SERVING
    model = catalog.models.get(service)
    ready = catalog.ready if model is None else bool(model.ready_versions)
    return SERVING if ready else NOT_SERVING


def asked(catalog: Catalog, request: Any) -> Sequence[int]:
    """Return the loads that have to be asked for Check; Watch tells what the server knows without asking."""
    if status_of(catalog, request.service) != SERVING:
        return ()
    model = catalog.models.get(request.service)
    if model is None:
        return catalog.asked_when_ready
    newest = model.versions[model.ready_versions[-1]]
    return (newest.load_id,) if newest.asks_ready else ()


def check(catalog: Catalog, request: Any, agreed: bool) -> Any:
    """Answer Check."""
    catalog.check_serving()
    return _Response(status=status_of(catalog, request.service) if agreed else NOT_SERVING)


class Watch:
    """The method: the status now, and each new one."""

    def __init__(self, gateway: GatewayPort) -> None:
        self._gateway = gateway

    def __call__(self, call: StreamCall) -> Stream:
        call.read()
        return _Watcher(call, self._gateway)


class _Watcher:
    """One call; see engine.Stream. It is told of new catalogs on the gateway's thread."""

    def __init__(self, call: StreamCall, gateway: GatewayPort) -> None:
        self._call = call
        self._gateway = gateway
        self._lock = threading.Lock()
        self._service: str | None = None  # None until the client has said which
        self._status = ""
        self._over = False

    def on_message(self, message: bytes) -> None:
        try:
            request = parse(_Request, message)
        except TensorhubError as error:
            self._finish(error.grpc_status, status_details(error.message))
            return
        if self._service is None:
            self._service = request.service
            self._gateway.observe(self._look)
            if self._over:  # since just now, so that it may have been too early to forget
                self._gateway.forget(self._look)
            self._look()
        self._call.read()

    def _look(self) -> None:
        with self._lock:
            status = status_of(self._gateway.catalog, self._service or "")
            if status != self._status:
                self._status = status
                self._call.send(_Response(status=status).SerializeToString())

    def on_half_close(self) -> None:
        """The client has asked and listens."""
        if self._service is None:
            self._finish(UNIMPLEMENTED, NOT_ONE_MESSAGE)

    def on_gone(self) -> None:
        self._over = True
        self._gateway.forget(self._look)

    def on_caught_up(self) -> None:
        """Changes are rare."""

    def on_stopping(self) -> None:
        self._finish(UNAVAILABLE, "Server exiting")

    def _finish(self, status: int, details: str) -> None:
        self.on_gone()
        self._call.finish(status, details)
