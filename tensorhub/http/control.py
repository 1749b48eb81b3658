"""The Falcon application for everything but inference, and what all of its requests have in common.

A body of which the client has sent a part only is nothing to act on, and what nobody wants of one is read all the same,
so that the client gets to see the answer (see `body`). Falcon does neither: to it, a body ends with the connection.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import falcon
import falcon.asgi
from falcon.asgi import Request, Response

from tensorhub.errors import TensorhubError
from tensorhub.http.asgi import Disconnected, Event, Receive, Scope, Send
from tensorhub.http.body import BodyReader
from tensorhub.http.connection import Connection
from tensorhub.http.resources import ControlContext
from tensorhub.http.routes import Router
from tensorhub.protocol.json_text import error_body


class Restricted(Exception):
    """The request lacks the header that a restricted API asks for."""


class Gate:
    """Falcon middleware: a server there must be, and the operation must be allowed. Runs for matched routes only."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def process_resource(self, req: Request, resp: Response, resource: Any, params: dict[str, Any]) -> None:
        """Fill in the context, or refuse."""
        gateway = self._connection.gateway or await self._connection.open()
        catalog = gateway.catalog
        catalog.check_serving()
        settings = self._connection.settings(catalog.settings)
        denial = settings.restrictions.denial(resource.category, req.scope["headers"])
        if denial is not None:
            raise Restricted(denial)
        req.context.server = ControlContext(gateway, catalog, settings)


async def _on_error(req: Request, resp: Response, error: TensorhubError, params: dict[str, Any]) -> None:
    _refuse(resp, error.http_status, error.message)


async def _on_restricted(req: Request, resp: Response, error: Restricted, params: dict[str, Any]) -> None:
    _refuse(resp, 403, str(error))


async def _on_http_error(req: Request, resp: Response, error: falcon.HTTPError, params: dict[str, Any]) -> None:
    _refuse(resp, error.status_code, "Not Found" if error.status_code == 404 else error.title or "Bad Request")


async def _on_disconnected(req: Request, resp: Response, error: Disconnected, params: dict[str, Any]) -> None:
    raise error


def _refuse(resp: Response, status: int, message: str) -> None:
    resp.status = status
    resp.content_type = "application/json"
    resp.data = error_body(message)


def control_app(connection: Connection) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Make the application."""
    # Falcon's types know its own router only; what it asks of another one is `find`.
    router: Any = Router()
    app: Any = falcon.asgi.App(router=router, middleware=[Gate(connection)])
    app.add_error_handler(TensorhubError, _on_error)
    app.add_error_handler(Restricted, _on_restricted)
    app.add_error_handler(falcon.HTTPError, _on_http_error)
    app.add_error_handler(Disconnected, _on_disconnected)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        reader = BodyReader(receive, held_back=b"expect" in dict(scope["headers"]))

        async def send_when_received(event: Event) -> None:
            if event["type"] == "http.response.start":
                await reader.drain()
            await send(event)

        try:
            await app(scope, reader.event, send_when_received)
        except Disconnected:
            await reader.tell_if_incomplete(send)

    return serve
