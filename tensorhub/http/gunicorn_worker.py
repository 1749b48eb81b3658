"""Gunicorn's ASGI worker, with connections of our own (`gunicorn_protocol`) and three repairs.

1. At shutdown Gunicorn waits for idle connections too, until graceful_timeout. Here they are closed when no connection
   has a request any more. Until then, who asks on one hears that the server is not ready, and it is closed after that.
2. It sees that it is to shut down at its next heartbeat, within a second. Here it begins at once.
3. Gunicorn serves without encryption if it cannot use the certificate. Here it ends.

It relies on names of Gunicorn that are not public. If they are not what is expected, the worker is Gunicorn's own, and
says so.
"""

import asyncio
import weakref
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.workers import gasgi

from tensorhub.http.direct import DirectInfer
from tensorhub.http.gunicorn_protocol import EXPECTED, Connection, DirectParser, goes_direct

_LOOK_INTERVAL_S = 0.05
"""Between two looks at the connections while some of them have requests and the worker shuts down."""


class Worker(gasgi.ASGIWorker):  # type: ignore[misc]
    """See the module."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self.direct: DirectInfer | None = None
        self.direct_parser: DirectParser | None = None
        self._resting: asyncio.Task[Any] | None = None  # what waits for the next heartbeat

    def init_process(self) -> None:
        """Serve with our connections: Gunicorn has no setting for them, so their name is rebound in this process."""
        missing = [name for name in EXPECTED if not hasattr(ASGIProtocol, name)]
        if missing:
            self.log.warning("this version of gunicorn is not known (no %s); its own worker serves", ", ".join(missing))
        else:
            # It keeps what it knows of its C parser on the class that it is asked on, and looks for it on its own.
            has_c_parser = ASGIProtocol._check_h1c_protocol_available()
            if has_c_parser and goes_direct(self.cfg, self.log):
                self.direct_parser = DirectParser(self.cfg)
            gasgi.ASGIProtocol = Connection
        super().init_process()

    def _get_ssl_context(self) -> Any:
        context = super()._get_ssl_context()
        if context is None and self.cfg.is_ssl:
            # Gunicorn has logged why. This status is its word for a worker that there is no use in starting again.
            raise SystemExit(Arbiter.WORKER_BOOT_ERROR)
        return context

    def load_wsgi(self) -> None:
        """Load the app; ours can be called directly."""
        super().load_wsgi()
        if self.direct_parser is not None:
            self.direct = getattr(self.asgi, "direct", None)

    def notify(self) -> None:
        """A heartbeat: the loop that makes them is going to wait, and to shut down when that is cancelled."""
        super().notify()
        self._resting = asyncio.current_task()

    def handle_exit_signal(self) -> None:
        """SIGTERM."""
        super().handle_exit_signal()
        resting, self._resting = self._resting, None
        if resting is not None:
            resting.cancel()

    async def _shutdown(self) -> None:
        self._resting = None  # it has other reasons than SIGTERM as well, and one that follows does not cut it short
        closing = None if self._close_the_idle() else asyncio.ensure_future(self._close_the_idle_later())
        try:
            await super()._shutdown()
        finally:
            if closing is not None:
                closing.cancel()

    async def _close_the_idle_later(self) -> None:
        while not self._close_the_idle():
            await asyncio.sleep(_LOOK_INTERVAL_S)

    def _close_the_idle(self) -> bool:
        """Close all connections if none has a request; whether that is so."""
        connections = list(self.connections)
        if any(connection.is_busy for connection in connections):
            return False
        for connection in connections:
            connection.close_if_idle()
        return True
