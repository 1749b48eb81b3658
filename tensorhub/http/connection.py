"""The app's connection to the server: one gateway, opened in the event loop that serves, at start or when needed."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from tensorhub.errors import InternalError, TensorhubError, Unavailable, error_for
from tensorhub.frontend.catalog import NO_HUB
from tensorhub.frontend.port import GatewayPort
from tensorhub.http.settings import HttpSettings
from tensorhub.run_directory import default_run_dir

log = logging.getLogger(__name__)


class HttpGateway(GatewayPort, Protocol):
    """A gateway whose callbacks run in the event loop."""

    async def close(self) -> None:
        """Leave the server; requests in flight get no answer any more."""


GatewayFactory = Callable[[], Awaitable[HttpGateway]]


async def join_server() -> HttpGateway:
    """Join the server of this process's run directory.

    Raises:
        Unavailable: the run directory cannot be used; the message is for the log.
    """
    # Not at the top: who brings a gateway of his own needs no ZeroMQ.
    from tensorhub.frontend.gateways import open_async_gateway
    from tensorhub.ipc.rundir import RunDirError

    try:
        return await open_async_gateway(default_run_dir(os.environ, os.geteuid()))
    except RunDirError as exc:
        raise Unavailable(str(exc)) from exc


class Connection:
    """The gateway, once there is one, and the settings that go with its catalog."""

    def __init__(self, factory: GatewayFactory) -> None:
        self.gateway: HttpGateway | None = None
        self._factory = factory
        self._opening = asyncio.Lock()
        self._last_failure = ""
        self._settings_of: Mapping[str, str] | None = None
        self._settings = HttpSettings.read({})

    def __repr__(self) -> str:
        return f"<Connection {'open' if self.gateway is not None else 'closed'}>"

    async def open(self) -> HttpGateway:
        """Return the gateway, after opening it if need be.

        Raises:
            Unavailable: it cannot be opened now; the next call tries again.
        """
        async with self._opening:
            if self.gateway is None:
                try:
                    self.gateway = await self._factory()
                except (TensorhubError, OSError) as exc:
                    # It may be mended while we run. Clients learn only that there is no server; the log has the
                    # reason, once.
                    reason = str(exc)
                    if reason != self._last_failure:
                        self._last_failure = reason
                        log.error("cannot join the server: %s", reason)
                    raise Unavailable(NO_HUB) from exc
            return self.gateway

    async def close(self) -> None:
        """Close the gateway, if there is one."""
        gateway, self.gateway = self.gateway, None
        if gateway is not None:
            await gateway.close()

    def settings(self, options: Mapping[str, str]) -> HttpSettings:
        """Return the settings of a catalog, read once for each catalog.

        Raises:
            InternalError: an option cannot be understood; nothing is served then, rather than with less protection.
        """
        if options is not self._settings_of:
            try:
                self._settings = HttpSettings.read(options)
            except TensorhubError as exc:
                raise InternalError(exc.message) from exc
            self._settings_of = options
        return self._settings


async def control(gateway: GatewayPort, operation: Any) -> Any:
    """Run a `tensorhub.wire.Control` operation and return its ControlResult.

    Raises:
        TensorhubError: the hub refused, failed, or is not there.
    """
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def on_result(result: Any, error: TensorhubError | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    gateway.control(operation, on_result)
    result = await done
    if result.code:
        raise error_for(result.code - 1, result.message)
    return result
