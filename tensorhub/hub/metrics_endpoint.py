"""The metrics endpoint: `GET /metrics` on a port of its own, in threads of the hub.

The page is made by the hub's loop; a thread here asks for it and waits. Requests that come while a page is being made
get that page, so that many scrapers cost as much as one. Answers are Triton's: any other path is an empty 200, any
other method a 405. The parser is the HTTP frontend's; `http.server`, with what it imports, is 3.4 MB in a process that
has no other use for it.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, TimeoutError
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

import gunicorn_h1c

from tensorhub.protocol.exposition import CONTENT_TYPE

log = logging.getLogger(__name__)

CONNECTIONS_LIMIT = 16
"""Connections at a time; each has a thread. Others wait to be accepted."""

CLIENT_TIMEOUT_S = 5.0
"""Silence after which a connection is closed."""

PAGE_TIMEOUT_S = 5.0
"""The hub answers within a second or so, or is not well."""

_HEAD_LIMIT_BYTES = 1 << 16
"""What the lines before a request's body may have in all."""

_REASONS = {200: "OK", 400: "Bad Request", 405: "Method Not Allowed", 503: "Service Unavailable"}

Pages = Callable[["Future[str]"], None]
"""Have the page made and put into the future."""


class MetricsEndpoint:
    """Listens from its making on, answers from `start` on.

    Raises:
        OSError: the port is taken, or the address is not one of this host.
    """

    def __init__(self, address: str, port: int, ask: Pages) -> None:
        pages = _SharedPages(ask)

        class Handler(_Handler):
            def page(self) -> str:
                return pages.get()

        class Server(_Server):
            address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

        self._server = Server((address.strip("[]"), port), Handler)
        # It waits for clients, and for nothing else: `close` wakes it up.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(None,), name="metrics", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening. Not to be called from the loop that makes pages while `start` has not been called."""
        if self._thread.is_alive():
            self._server.socket.shutdown(socket.SHUT_RDWR)
            self._server.shutdown()
        self._server.server_close()


class _SharedPages:
    """At most one page in the making."""

    def __init__(self, ask: Pages) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._coming: Future[str] | None = None

    def get(self) -> str:
        with self._lock:
            coming = self._coming
            if coming is None or coming.done():
                coming = self._coming = Future()
                self._ask(coming)
        return coming.result(PAGE_TIMEOUT_S)


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, *args: Any) -> None:
        self._slots = threading.BoundedSemaphore(CONNECTIONS_LIMIT)
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._slots.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a client of the metrics endpoint went away", exc_info=True)


class _Handler(BaseRequestHandler):
    """One connection, one request."""

    request: socket.socket

    def page(self) -> str:
        raise NotImplementedError

    def handle(self) -> None:
        """Answer."""
        self.request.settimeout(CLIENT_TIMEOUT_S)
        try:
            asked = self._read()
        except gunicorn_h1c.ParseError:
            self._answer(400, b"")
            return
        if asked is None:
            return
        if asked["method"] != b"GET":
            self._answer(405, b"")
        elif asked["path"].partition(b"?")[0] not in (b"/metrics", b"/metrics/"):
            self._answer(200, b"")
        else:
            self._answer_page()

    def _answer_page(self) -> None:
        try:
            page = self.page()
        except TimeoutError:
            self._answer(503, b"")
            return
        self._answer(200, page.encode(), CONTENT_TYPE)

    def _read(self) -> dict[str, Any] | None:
        """Return the head of the request as gunicorn_h1c does; None: the client has gone before its end.

        Raises:
            ParseError: it is not one of HTTP/1.x, or too large.
        """
        data = b""
        while len(data) < _HEAD_LIMIT_BYTES:
            piece = self.request.recv(_HEAD_LIMIT_BYTES - len(data))
            if not piece:
                return None
            known, data = len(data), data + piece
            try:
                found: dict[str, Any] = gunicorn_h1c.parse_request(data, known, permit_unconventional_http_method=True)
            except gunicorn_h1c.IncompleteError:
                continue
            return found
        raise gunicorn_h1c.ParseError(f"a request has more than {_HEAD_LIMIT_BYTES} bytes")

    def _answer(self, status: int, body: bytes, content_type: str = "") -> None:
        lines = [
            f"HTTP/1.1 {status} {_REASONS[status]}",
            f"Date: {time.strftime('%a, %d %b %Y %H:%M:%S GMT', time.gmtime())}",
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        if content_type:
            lines.append(f"Content-Type: {content_type}")
        self.request.sendall("\r\n".join([*lines, "", ""]).encode() + body)
