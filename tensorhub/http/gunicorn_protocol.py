"""Gunicorn's ASGI connection with three additions.

1. A client may send its next request the moment it has the whole reply, or sooner. Gunicorn (27.0) gets back to its
   connection one turn of the loop later, and uvloop reads from sockets first. Whatever arrives until then goes to a
   parser that keeps 64 KiB of it, and a connection with more is closed: every other large request of a fast client
   fails. Here it waits outside of the parser.
2. A small infer call that has arrived whole, on a connection where nothing else is under way, is answered without ASGI
   (`direct`). Gunicorn's own task waits for a request meanwhile and does not notice. The head is read by the same C
   parser. Where Gunicorn would do something with each request (access log, hooks), nothing goes this way.
3. A connection that has ended is forgotten. Gunicorn's and the C parser hold each other for ever: 10 KB of each.

It relies on names of Gunicorn that are not public; `EXPECTED` lists them for `gunicorn_worker` to check.
"""

import asyncio
import functools
import time
from collections import deque
from collections.abc import Callable, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from gunicorn.asgi.protocol import ASGIProtocol

from tensorhub.http.asgi import WRITTEN_HEADERS, Headers
from tensorhub.http.direct import MAX_REQUEST_SIZE, DirectCall, DirectInfer

EXPECTED = (
    "_arm_keepalive_timer",
    "_build_http_scope",
    "_check_h1c_protocol_available",
    "_close_transport",
    "_feed_callback_parser",
    "_keepalive_timeout",
    "_on_body",
    "_on_headers_complete",
    "_pause_reading",
    "_resume_reading",
    "_safe_write",
    "data_received",
)

_TAIL_SIZE = 16 * 1024
"""Bytes that are left to the parser to keep: small requests, which then cost nothing more. It can keep 64 KiB."""

_FEED_SIZE = 48 * 1024
"""Bytes that the parser is given at once, unless they are all of one body: it can keep what is left of them."""

_PIECE_SIZE = 128 * 1024
"""Bytes of a large reply that are written at a time, with a wait for the socket between them."""

_TURN_SIZE = 64 * 1024
"""A piece of a body after which other connections have their turn."""

_DIRECT_START = b"POST /v2/models/"


class DirectParser:
    """Reads whole requests with Gunicorn's C parser; one for all connections of a process."""

    def __init__(self, cfg: Any) -> None:
        from gunicorn_h1c import H1CProtocol

        self._body: list[bytes] = []
        self._parser = H1CProtocol(
            on_body=self._body.append,
            limit_request_line=cfg.limit_request_line or 1 << 20,
            limit_request_fields=cfg.limit_request_fields,
            limit_request_field_size=cfg.limit_request_field_size,
        )

    def parse(self, data: bytes) -> tuple[bytes, list[tuple[bytes, bytes]], bytes] | None:
        """Return path, headers and body of the one request that `data` is, or None if it is anything else."""
        parser = self._parser
        try:
            parser.feed(data)
            if (
                parser.is_complete
                and not parser.remaining()
                and parser.method == b"POST"
                and parser.http_version == (1, 1)
                and parser.should_keep_alive
                and not parser.is_chunked
            ):
                return parser.path, parser.asgi_headers, b"".join(self._body)
        except Exception:
            # Whatever is wrong with it: Gunicorn finds it again and answers.
            return None
        finally:
            self._body.clear()
            parser.reset()
        return None


class Connection(ASGIProtocol):  # type: ignore[misc]
    """See the module."""

    def __init__(self, worker: Any) -> None:
        super().__init__(worker)
        self._early: deque[bytes] = deque()
        self._untouched = True  # Gunicorn's parser has been given nothing of the next request
        self._body_left = 0  # bytes of the body that its parser is in, as announced
        self._call: DirectCall | None = None
        self._is_unanswered = False  # the request that went the short way last
        self._idle_since = 0.0
        self._direct: DirectInfer | None = worker.direct
        self._parser: DirectParser = worker.direct_parser

    def _build_http_scope(self, request: Any, sockname: Any, peername: Any) -> Any:
        scope = super()._build_http_scope(request, sockname, peername)
        # Not a copy: the parser makes a list for each request. Requests of HTTP/2 have names in lower case only.
        written = getattr(self._callback_parser, "headers", None)
        if written:
            scope[WRITTEN_HEADERS] = written
        return scope

    def connection_made(self, transport: Any) -> None:
        self.worker.connections.add(self)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the current request, or set aside those of the next one."""
        if self._call is not None or self._early or (self._is_answering and self._waits(data)):
            self._early.append(data)
            self._pause_reading()
        elif not (self._direct is not None and data.startswith(_DIRECT_START) and self._begin(data)):
            self._feed(data)
            if len(data) >= _TURN_SIZE and not self._is_answering and self._has_body_waiting:
                # libuv reads from a connection up to 32 times before it looks at the others. Gunicorn reads on when
                # the app has taken this piece of the body.
                self._pause_reading()

    def _feed(self, data: bytes) -> None:
        """Give Gunicorn the bytes of one request, and set aside those of the next ones that its parser cannot keep."""
        start = 0
        while start < len(data) and not self._closed:
            if start and self._is_answering:
                self._early.appendleft(data[start:])
                self._pause_reading()
                return
            end = start + max(_FEED_SIZE, self._body_left)
            super().data_received(data[start:end])
            start = end

    def _on_headers_complete(self) -> Any:
        skip = super()._on_headers_complete()
        self._body_left = self._current_request.content_length
        return skip

    def _on_body(self, chunk: bytes) -> None:
        self._body_left -= len(chunk)
        super()._on_body(chunk)

    @property
    def _has_body_waiting(self) -> bool:
        """The app is going to take a piece of the body, and reading goes on then."""
        receiver = self._body_receiver
        return receiver is not None and receiver.buffered > 0

    def _waits(self, data: bytes) -> bool:
        """Whether what arrives before the parser is ready is better kept here: too much for it, or a direct call."""
        if self._direct is not None and data.startswith(_DIRECT_START):
            return True
        return len(data) + len(self._callback_parser.remaining()) > _TAIL_SIZE

    @property
    def _is_answering(self) -> bool:
        """The request has been received and its parser not yet been made ready for another."""
        parser = self._callback_parser
        return parser is not None and parser.is_complete

    @property
    def is_idle(self) -> bool:
        """No request is under way, and none has begun to arrive."""
        return self._awaiting_request and self._untouched and not self._early and self._call is None

    @property
    def is_busy(self) -> bool:
        """A request is under way, or has begun to arrive, on a connection that is still there."""
        return not self._closed and not self.is_idle

    def _feed_callback_parser(self, data: bytes) -> Any:
        if self._closed:  # what was pipelined by a client that has gone
            return False
        self._untouched = False
        return super()._feed_callback_parser(data)

    def _resume_reading(self) -> None:
        # Gunicorn calls this between two requests (and while a body is read); the parser is ready when it next waits.
        if self._is_answering:
            self._untouched = True
        if self._early:
            self.worker.loop.call_soon(self._replay)
        else:
            super()._resume_reading()

    def _replay(self) -> None:
        while self._early and not self._closed and not self._is_answering and self._call is None:
            data = self._early.popleft()
            if not (self._direct is not None and data.startswith(_DIRECT_START) and self._begin(data)):
                self._feed(data)
        if not self._early and not self._closed and not self._is_answering:
            # Also while a call is under way: its client may leave.
            super()._resume_reading()

    # The short way

    def _begin(self, data: bytes) -> bool:
        """Begin to answer a request, if it can go the short way."""
        if not self.is_idle or len(data) > MAX_REQUEST_SIZE or self._finishing_calls:
            return False
        request = self._parser.parse(data)
        if request is None:
            return False
        assert self._direct is not None
        self._is_unanswered = True
        call = self._direct.begin(*request, self._answer, self._ends)
        if call is None:
            return False
        if self._is_unanswered:  # also by an error that is there already, and is too large to have been written
            self._call = call
        return True

    def _ends(self) -> dict[str, Any]:
        """Return what the scope of a request has of the connection's addresses; a Unix socket has none."""
        asked = {"client": "peername", "server": "sockname"}
        found = {end: self.transport.get_extra_info(name) for end, name in asked.items()}
        return {end: address for end, address in found.items() if isinstance(address, tuple)}

    def _answer(
        self, status: int, headers: Headers, chunks: Sequence[bytes | memoryview], release: Callable[[], None]
    ) -> None:
        """Write an answer; it is what a DirectCall calls."""
        size = 0
        for chunk in chunks:
            size += len(chunk)
        head = response_head(status, headers, size, int(time.time()))
        if size <= MAX_REQUEST_SIZE:
            data = b"".join((head, *chunks))
            release()
            if not self._closed:
                self.transport.write(data)
            self._answered()
        else:
            self.worker.loop.create_task(self._write_large(head, chunks, release))

    async def _write_large(
        self, head: bytes, chunks: Sequence[bytes | memoryview], release: Callable[[], None]
    ) -> None:
        try:
            self._safe_write(head)
            for chunk in chunks:
                for start in range(0, len(chunk), _PIECE_SIZE):
                    await self._flow_control.drain()
                    if self._closed:
                        return
                    # Copied: the transport keeps it for longer than the worker's memory is ours.
                    self.transport.write(bytes(chunk[start : start + _PIECE_SIZE]))
                    await asyncio.sleep(0)  # others have their turn: a socket may take megabytes at once
        finally:
            release()
            self._answered()

    def _answered(self) -> None:
        """Make ready for the next request, as Gunicorn does after its own."""
        self._call = None
        self._is_unanswered = False
        worker = self.worker
        worker.nr += 1
        if worker.nr >= worker.max_requests and worker.alive:
            self.log.info("Autorestarting worker after current request.")
            worker.alive = False
        if self._closed:
            return
        if not worker.alive:
            self._close_now()
            return
        self._idle_since = worker.loop.time()
        if self._keepalive_handle is None:
            super()._arm_keepalive_timer()
        if self._reading_paused:
            worker.loop.call_soon(self._replay)

    def _arm_keepalive_timer(self) -> None:
        self._idle_since = self.worker.loop.time()
        super()._arm_keepalive_timer()

    def _keepalive_timeout(self) -> None:
        # PERF: calls that go the short way do not move the timer; it looks when it fires how long it has been idle.
        idle_s = self.worker.loop.time() - self._idle_since
        if self._call is not None or idle_s < self._keepalive:
            delay_s = max(self._keepalive - idle_s, 1) if self._call is None else self._keepalive
            self._keepalive_handle = self.worker.loop.call_later(delay_s, self._keepalive_timeout)
        else:
            self._close_now()

    def close_if_idle(self) -> None:
        """Close the connection unless a request is under way."""
        if self.is_idle:
            self._close_now()

    def _close_now(self) -> None:
        super()._keepalive_timeout()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what the client no longer waits for."""
        call, self._call = self._call, None
        super().connection_lost(exc)
        if self._flow_control is not None:
            self._flow_control.resume_writing()  # whoever waits for room to write looks whether we are closed
        if call is not None:
            call.cancel()
        if self._task is not None:
            self._task.add_done_callback(self._let_parser_go)

    def _let_parser_go(self, task: Any) -> None:
        # The parser has our methods, and is a C object that the garbage collector does not see through.
        self._callback_parser: Any = None


def goes_direct(cfg: Any, log: Any) -> bool:
    """Whether Gunicorn's configuration lets requests pass it by: nothing is to be done or written for each."""
    settings = cfg.settings
    return (
        cfg.protocol == "http"
        and cfg.http_parser != "python"
        and cfg.proxy_protocol == "off"
        and cfg.keepalive > 0
        and not cfg.root_path
        and not cfg.statsd_host
        and not log.access_log_enabled
        and all(settings[hook].get() is settings[hook].default for hook in ("pre_request", "post_request"))
        and not cfg.permit_unconventional_http_method
        and not cfg.permit_unconventional_http_version
    )


def response_head(status: int, headers: Headers, body_size: int, now_s: int) -> bytes:
    """Return status line and headers of a response with a body of `body_size` bytes."""
    fields = b"".join([b"%b: %b\r\n" % field for field in headers])
    return b"%bcontent-length: %d\r\n%b\r\n" % (_start_of_head(status, now_s), body_size, fields)


@functools.lru_cache(maxsize=64)
def _start_of_head(status: int, now_s: int) -> bytes:
    phrase = HTTPStatus(status).phrase
    return f"HTTP/1.1 {status} {phrase}\r\ndate: {formatdate(now_s, usegmt=True)}\r\n".encode("ascii")
