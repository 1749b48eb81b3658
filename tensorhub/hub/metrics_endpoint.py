"""The metrics endpoint: `GET /metrics` on a port of its own, in threads of the hub.

The page is made by the hub's loop; a thread here asks for it and waits. Requests that come while a page is being made
get that page, so that many scrapers cost as much as one. Answers are Triton's: any other path is an empty 200, any
other method a 405.
"""

import logging
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, TimeoutError
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tensorhub.protocol.exposition import CONTENT_TYPE

log = logging.getLogger(__name__)

CONNECTIONS_LIMIT = 16
"""Connections at a time; each has a thread. Others wait to be accepted."""

CLIENT_TIMEOUT_S = 5.0
"""Silence after which a connection is closed."""

PAGE_TIMEOUT_S = 5.0
"""The hub answers within a second or so, or is not well."""

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


class _Server(ThreadingHTTPServer):
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


class _Handler(BaseHTTPRequestHandler):
    """One connection, one request."""

    protocol_version = "HTTP/1.1"
    server_version = "tensorhub"
    sys_version = ""
    timeout = CLIENT_TIMEOUT_S

    def page(self) -> str:
        raise NotImplementedError

    def parse_request(self) -> bool:
        """Read the request; all methods but GET are answered here, known or not."""
        if not super().parse_request():
            return False
        if self.command != "GET":
            self._answer(405, b"")
            return False
        return True

    def do_GET(self) -> None:
        """Answer."""
        if self.path.partition("?")[0] not in ("/metrics", "/metrics/"):
            self._answer(200, b"")
            return
        try:
            page = self.page()
        except TimeoutError:
            self._answer(503, b"")
            return
        self._answer(200, page.encode(), CONTENT_TYPE)

    def _answer(self, status: int, body: bytes, content_type: str = "") -> None:
        self.close_connection = True
        self.send_response(status)
        if content_type:
            self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: who scrapes, scrapes often."""
