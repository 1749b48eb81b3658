"""The plain engine: grpcio's public `grpc.server` with a pool of threads. Slower than the reactor, and nothing private.

A unary call holds a thread of the pool until it is answered; a stream holds one, and a second one while it reads.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from tensorhub.grpc.credentials import server_credentials
from tensorhub.grpc.engine import (
    CAUGHT_UP,
    HANDLER_FAILED,
    INTERNAL,
    OK,
    UNSENT_LIMIT,
    Endpoint,
    Mail,
    Metadata,
    Methods,
    Stream,
    StreamMethod,
    UnaryMethod,
)

log = logging.getLogger(__name__)

MAX_THREADS = 128
"""Calls that wait for an answer at one time; further ones queue. A waiting thread costs little but its stack."""

_CANCEL_WAIT_S = 5.0
_NEVER_S = 1e9
"""A call without a deadline has one at the end of time."""

_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


class _ContextCall:
    """What unary calls and streams have in common: the context of grpcio."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._open = True  # neither answered nor given up
        self._status = OK
        self._details = ""
        self.initial_metadata: Metadata = ()
        self.trailing_metadata: Metadata = ()

    @property
    def peer(self) -> str:
        return str(self._context.peer())

    @property
    def metadata(self) -> Metadata:
        return tuple((item.key, item.value) for item in self._context.invocation_metadata())

    @property
    def deadline_ns(self) -> int:
        remaining_s = self._context.time_remaining()
        if remaining_s is None or remaining_s > _NEVER_S:
            return 0
        return max(1, time.monotonic_ns() + int(remaining_s * 1e9))

    def tell_of_stop(self) -> None:
        """A unary call ends by itself."""

    def _claim(self) -> bool:
        """Whether the caller is the one that ends the call."""
        with self._lock:
            claimed, self._open = self._open, False
        return claimed

    def _send_metadata(self) -> None:
        if self.initial_metadata:
            self._context.send_initial_metadata(self.initial_metadata)

    def _close(self) -> None:
        """Give grpcio the trailing metadata and the status; raises if that is not OK, as grpcio wants it."""
        if self.trailing_metadata:
            self._context.set_trailing_metadata(self.trailing_metadata)
        if self._status != OK:
            self._context.abort(_STATUS_CODES.get(self._status, grpc.StatusCode.UNKNOWN), self._details)


class _UnaryCall(_ContextCall):
    """See engine.Call."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self._over = threading.Event()
        self._message = b""
        self._gone = False
        self._on_gone: Callable[[], None] | None = None

    def run(self, method: UnaryMethod, message: bytes) -> bytes:
        """Handle the call and return the answer, or raise what grpcio takes for a status."""
        if not self._context.add_callback(self._terminated):
            self._terminated()
        try:
            method.handle(self, message)
        except Exception:
            log.exception("the handler of a call failed")
            self.fail(INTERNAL, HANDLER_FAILED)
        self._over.wait()
        self._on_gone = None
        if not self._gone:
            self._send_metadata()
            self._close()
        return self._message

    def _terminated(self) -> None:
        """The call is over; if nobody has answered it, the client has gone."""
        if not self._claim():
            return
        with self._lock:
            self._gone = True
            on_gone = self._on_gone
        self._over.set()
        if on_gone is not None:
            on_gone()

    def watch(self, on_gone: Callable[[], None]) -> None:
        with self._lock:
            self._on_gone = on_gone
            gone = self._gone
        if gone:
            on_gone()

    def reply(self, message: bytes) -> None:
        if self._claim():
            self._message = message
            self._over.set()

    def fail(self, status: int, details: str) -> None:
        if self._claim():
            self._status, self._details = status, details
            self._over.set()


class _StreamCall(_ContextCall):
    """See engine.StreamCall. None in the queue is the end."""

    def __init__(self, engine: "ThreadsEngine", context: Any, requests: Iterator[bytes]) -> None:
        super().__init__(context)
        self._engine = engine
        self._requests = requests
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._wanted = threading.Semaphore(0)
        self._stream: Stream | None = None
        self._behind = False  # `unsent` was above UNSENT_LIMIT

    @property
    def unsent(self) -> int:
        return self._queue.qsize()

    def run(self, method: StreamMethod) -> Iterator[bytes]:
        """Handle the call and return what to send."""
        if not self._context.add_callback(self._terminated):
            self._terminated()
        try:
            self._stream = method.open(self)
        except Exception:
            log.exception("the handler of a stream failed")
            self.finish(INTERNAL, HANDLER_FAILED)
        if self._open:
            threading.Thread(target=self._read, name="grpc-reader", daemon=True).start()
        if self._engine.stopping:
            self.tell_of_stop()
        greeted = False
        while (message := self._queue.get()) is not None:
            if not greeted:
                self._send_metadata()
                greeted = True
            yield message
            if self._behind and self._queue.qsize() <= CAUGHT_UP and self._stream is not None:
                self._behind = False
                self._stream.on_caught_up()
        if self._context.is_active():
            self._close()

    def tell_of_stop(self) -> None:
        if self._stream is not None:
            self._stream.on_stopping()

    def read(self) -> None:
        self._wanted.release()

    def _read(self) -> None:
        while True:
            self._wanted.acquire()
            stream = self._stream
            if stream is None or not self._open:
                return
            try:
                message = next(self._requests, None)
            except Exception:
                return  # grpcio raises a bare Exception when the client has gone; `_terminated` deals with that
            try:
                if message is None:
                    stream.on_half_close()
                    return
                stream.on_message(message)
            except Exception:
                log.exception("the handler of a stream failed")
                self.finish(INTERNAL, HANDLER_FAILED)
                stream.on_gone()

    def send(self, message: bytes) -> None:
        if self._open:
            self._queue.put(message)
            if self._queue.qsize() > UNSENT_LIMIT:
                self._behind = True

    def finish(self, status: int = OK, details: str = "") -> None:
        if self._claim():
            self._status, self._details = status, details
            self._queue.put(None)
            self._wanted.release()

    def _terminated(self) -> None:
        if self._claim():
            self._queue.put(None)
            self._wanted.release()
            if self._stream is not None:
                self._stream.on_gone()


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The table of methods, as grpcio asks for it."""

    def __init__(self, methods: Methods, engine: "ThreadsEngine") -> None:
        self._engine = engine
        self._handlers = {name: self._handler(method) for name, method in methods.items()}
        self._unknown = grpc.stream_stream_rpc_method_handler(self._refuse)

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler of a method."""
        return self._handlers.get(handler_call_details.method, self._unknown)

    def _handler(self, method: UnaryMethod | StreamMethod) -> Any:
        if isinstance(method, UnaryMethod):
            return grpc.unary_unary_rpc_method_handler(
                lambda message, context: self._engine.run_unary(method, message, context)
            )
        return grpc.stream_stream_rpc_method_handler(
            lambda requests, context: self._engine.run_stream(method, requests, context)
        )

    def _refuse(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "")
        yield b""


class ThreadsEngine:
    """See engine.Engine. Its threads leave the mail to the thread that has it anyway.

    Attributes: stopping: streams that begin now have to be told.
    """

    def __init__(self, methods: Methods, endpoint: Endpoint, mail: Mail | None = None) -> None:
        self._endpoint = endpoint
        self.stopping = False
        self._live: set[_ContextCall] = set()
        self._call_over = threading.Condition()
        self._pool = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="grpc")
        self._server = grpc.server(
            self._pool,
            handlers=(_Handlers(methods, self),),
            options=endpoint.core_options(),
            maximum_concurrent_rpcs=endpoint.max_calls,
        )

    def __repr__(self) -> str:
        return f"<ThreadsEngine {self._endpoint.address}, {len(self._live)} calls>"

    @property
    def calls(self) -> int:
        """See Engine."""
        return len(self._live)

    def start(self) -> int:
        """See Engine."""
        address = self._endpoint.address
        tls = self._endpoint.tls
        try:
            if tls is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, server_credentials(tls))
        except RuntimeError as exc:
            raise self._endpoint.refused(exc) from exc
        if not port:
            raise self._endpoint.refused()
        self._server.start()
        return int(port)

    def stop(self, grace_s: float) -> None:
        """See Engine."""
        self.stopping = True
        stopped = self._server.stop(grace_s)
        for call in list(self._live):
            call.tell_of_stop()
        stopped.wait(grace_s + _CANCEL_WAIT_S)
        with self._call_over:
            # The threads that served cancelled calls need a moment to notice.
            if not self._call_over.wait_for(lambda: not self._live, _CANCEL_WAIT_S):
                log.error("%d calls do not end", len(self._live))
        self._pool.shutdown(wait=False, cancel_futures=True)

    def run_unary(self, method: UnaryMethod, message: bytes, context: Any) -> bytes:
        """Serve a unary call, on a thread of the pool."""
        if not method.compress:
            context.disable_next_message_compression()
        call = _UnaryCall(context)
        self._live.add(call)
        try:
            return call.run(method, message)
        finally:
            self._end(call)

    def run_stream(self, method: StreamMethod, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """Serve a stream, on a thread of the pool."""
        call = _StreamCall(self, context, requests)
        self._live.add(call)
        try:
            for message in call.run(method):
                if not method.compress:
                    context.disable_next_message_compression()
                yield message
        finally:
            self._end(call)

    def _end(self, call: _ContextCall) -> None:
        with self._call_over:
            self._live.discard(call)
            self._call_over.notify_all()
