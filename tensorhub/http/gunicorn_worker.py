"""Gunicorn's ASGI worker with three repairs, two of what happens between the requests of one connection.

1. A client may send its next request the moment it has the whole reply. Gunicorn (27.0) gets back to its connection
   one turn of the loop later, and uvloop reads from sockets first. Whatever arrives in that turn goes to a parser that
   keeps 64 KiB of it, and a connection with more is closed: every other large request of a fast client fails. Here it
   waits outside of the parser.
2. At shutdown Gunicorn waits for idle connections too, until graceful_timeout. Here they are closed at once.
3. Gunicorn serves without encryption if it cannot use the certificate. Here it ends.

It relies on names of Gunicorn that are not public. If they are not what is expected, the worker is Gunicorn's own, and
says so.
"""

import weakref
from collections import deque
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.workers import gasgi

_EXPECTED = (
    "_check_h1c_protocol_available",
    "_close_transport",
    "_keepalive_timeout",
    "_pause_reading",
    "_resume_reading",
    "data_received",
)

_TAIL_SIZE = 16 * 1024
"""Bytes that are left to the parser to keep: small requests, which then cost nothing more. It can keep 64 KiB."""


class PatientProtocol(ASGIProtocol):  # type: ignore[misc]
    """A connection on which early requests wait."""

    def __init__(self, worker: Any) -> None:
        super().__init__(worker)
        self._early: deque[bytes] = deque()

    def connection_made(self, transport: Any) -> None:
        self.worker.connections.add(self)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the current request, or set aside those of the next one."""
        if self._early or (self._is_answering and len(data) + len(self._callback_parser.remaining()) > _TAIL_SIZE):
            self._early.append(data)
            self._pause_reading()
        else:
            super().data_received(data)

    @property
    def _is_answering(self) -> bool:
        """The request has been received and its parser not yet been made ready for another."""
        parser = self._callback_parser
        return parser is not None and parser.is_complete

    def _resume_reading(self) -> None:
        # Gunicorn calls this between two requests (and while a body is read); the parser is ready when it next waits.
        if self._early:
            self.worker.loop.call_soon(self._replay)
        else:
            super()._resume_reading()

    def _replay(self) -> None:
        while self._early and not self._closed and not self._is_answering:
            super().data_received(self._early.popleft())
        if not self._early and not self._closed and not self._is_answering:
            super()._resume_reading()


class Worker(gasgi.ASGIWorker):  # type: ignore[misc]
    """See the module."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connections: weakref.WeakSet[PatientProtocol] = weakref.WeakSet()

    def init_process(self) -> None:
        """Serve with our protocol: Gunicorn has no setting for it, so its name is rebound in this process."""
        missing = [name for name in _EXPECTED if not hasattr(ASGIProtocol, name)]
        if missing:
            self.log.warning("this version of gunicorn is not known (no %s); its own worker serves", ", ".join(missing))
        else:
            # It keeps what it knows of its C parser on the class that it is asked on, and looks for it on its own.
            ASGIProtocol._check_h1c_protocol_available()
            gasgi.ASGIProtocol = PatientProtocol
        super().init_process()

    def _get_ssl_context(self) -> Any:
        context = super()._get_ssl_context()
        if context is None and self.cfg.is_ssl:
            # Gunicorn has logged why. This status is its word for a worker that there is no use in starting again.
            raise SystemExit(Arbiter.WORKER_BOOT_ERROR)
        return context

    async def _shutdown(self) -> None:
        for connection in list(self.connections):
            if connection._awaiting_request and not connection._early:
                connection._keepalive_timeout()
        await super()._shutdown()
