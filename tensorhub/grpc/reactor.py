"""The fast engine: gRPC's C core, driven by one loop over one completion queue. No other module knows that layer.

grpcio's public servers hand each call through several threads or through asyncio. The same core, used through grpcio's
own Cython layer (`grpc._cython.cygrpc`, which is private: `self_test.py` sees whether it still has this shape), needs
one thread and no hand-over, and an answer may be sent from the thread that has it.

A call's life is a few batches of operations, and each batch's end is an event. A tag is a bound method: the loop calls
`event.tag(event)`. A quick unary call takes three events:

    arrived -> [receive message] -> received, handler -> [initial metadata, message, status, receive close] -> answered

To learn that a client gave up, the core wants a `receive close` pending. For a call that is answered at once, that
would be a fourth event for nothing, so it goes with the answer; a call that is still open after WATCH_AFTER_S gets one
of its own ("watched"). Streams have one from the start.

Ownership: a core call lives as long as its Python object. It is dropped (`_event = None`) when its last batch is over
or the client has gone, whoever else still holds our call object; otherwise a forgotten one would keep its connection.

Locking: one lock for the few fields that decide who ends a call. Nothing is called while it is held.
"""

import logging
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from grpc._cython import cygrpc

from tensorhub.grpc import core_poll
from tensorhub.grpc.credentials import server_credentials
from tensorhub.grpc.engine import (
    CAUGHT_UP,
    HANDLER_FAILED,
    INTERNAL,
    NOT_ONE_MESSAGE,
    OK,
    RESOURCE_EXHAUSTED,
    TOO_MANY_CALLS,
    UNIMPLEMENTED,
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

WATCH_AFTER_S = 0.02
"""How long a unary call may be open before the loop looks out for its cancellation."""

PREFILL = 64
"""Calls that the core may hand over before the loop asks for the next."""

_NEVER_S = 1e9
"""A call without a deadline has one at the end of time, and one that is decades away is none."""

_NOW_S = 0.0
"""CLOCK_REALTIME; a poll that ends then does not wait."""

_EVENTS_BETWEEN_MAIL = 24
"""Of some eight calls. A busy loop sees answers so often, and sends what it has gathered for the workers."""

_FIRST_LOOK_S = 0.002
_IDLE_S = 0.2
_UNNOTICED_S = 0.05
"""How often the loop looks at the core unasked, when it does not wait inside of it: what the core does on threads of
its own (it cancels a call whose deadline is over, or hands the rest of a long read over to itself) wakes only who waits
there. Soon after something has happened, then half as often each time; with calls in progress more often than idle."""

_OTHERS_POLL = 30
"""Events found by looking, more than there were that woke the loop, after which it is clear that other threads poll
the core's sockets: the loop waits inside of the core from then on."""

_STOPPING_POLL_S = 0.05
_CANCEL_WAIT_S = 5.0
"""After the grace is over, for the core to cancel what is left."""

_NO_FLAGS = 0
_DO_NOT_COMPRESS = cygrpc.WriteFlag.no_compress

_ReceiveMessage = cygrpc.ReceiveMessageOperation
_ReceiveClose = cygrpc.ReceiveCloseOnServerOperation
_SendInitialMetadata = cygrpc.SendInitialMetadataOperation
_SendMessage = cygrpc.SendMessageOperation
_SendStatus = cygrpc.SendStatusFromServerOperation


class _CoreCall:
    """What unary calls and streams have in common: the core's call and what it tells about the client."""

    __slots__ = ("_engine", "_event", "_open", "_write_flags", "initial_metadata", "trailing_metadata")

    def __init__(self, engine: "ReactorEngine", event: Any, compress: bool) -> None:
        self._engine = engine
        self._event = event  # None once the core's call is over
        self._open = True  # neither answered nor given up
        self._write_flags = _NO_FLAGS if compress else _DO_NOT_COMPRESS
        self.initial_metadata: Metadata = ()
        self.trailing_metadata: Metadata = ()

    @property
    def peer(self) -> str:
        event = self._event
        return "" if event is None else event.call.peer().decode("ascii", "replace")

    @property
    def metadata(self) -> Metadata:
        event = self._event
        return () if event is None else event.invocation_metadata

    @property
    def deadline_ns(self) -> int:
        event = self._event
        if event is None:
            return 0
        remaining_s = event.call_details.deadline - time.time()
        if remaining_s > _NEVER_S:
            return 0
        return max(1, time.monotonic_ns() + int(remaining_s * 1e9))

    def tell_of_stop(self) -> None:
        """A unary call ends by itself."""

    def _claim(self) -> bool:
        """Whether the caller is the one that ends the call."""
        with self._engine.lock:
            claimed, self._open = self._open, False
        return claimed


class _UnaryCall(_CoreCall):
    """See engine.Call.

    It is in the engine's `live` until its last batch is over. The loop alone sets `_watching` and `_answered`.
    """

    __slots__ = ("_answered", "_handle", "_on_gone", "_watched", "_watching", "opened_s")

    def __init__(self, engine: "ReactorEngine", event: Any, method: UnaryMethod) -> None:
        super().__init__(engine, event, method.compress)
        self._handle = method.handle
        self._on_gone: Callable[[], None] | None = None
        self._watched = False  # a `receive close` of its own has been started
        self._watching = False  # and is not over
        self._answered = False  # the batch with the answer is over
        self.opened_s = 0.0  # CLOCK_MONOTONIC; since when it waits for an answer

    def begin(self) -> None:
        """Ask for the request."""
        self._event.call.start_server_batch((_ReceiveMessage(_NO_FLAGS),), self._on_received)

    def _on_received(self, event: Any) -> None:
        message = event.batch_operations[0].message()
        if message is None:
            self.fail(UNIMPLEMENTED, NOT_ONE_MESSAGE)
            return
        try:
            self._handle(self, message)
        except Exception:
            log.exception("the handler of a call failed")
            self.fail(INTERNAL, HANDLER_FAILED)
        if self._open:
            self.opened_s = time.monotonic()
            self._engine.unwatched[self] = None

    def watch(self, on_gone: Callable[[], None]) -> None:
        self._on_gone = on_gone

    def look_out(self) -> None:
        """Have the core tell when the client goes. Only the loop calls it."""
        with self._engine.lock:
            if not self._open:
                return
            self._watched = True
        self._watching = True
        self._event.call.start_server_batch((_ReceiveClose(_NO_FLAGS),), self._on_closed)

    def _on_closed(self, event: Any) -> None:
        self._watching = False
        if event.batch_operations[0].cancelled() and self._claim():
            on_gone = self._on_gone
            self._release()
            if on_gone is not None:
                on_gone()
        elif self._answered:
            self._release()

    def reply(self, message: bytes) -> None:
        if self._claim():
            self._finish(_SendMessage(message, self._write_flags), _SendStatus(self.trailing_metadata, OK, b"", 0))

    def fail(self, status: int, details: str) -> None:
        if self._claim():
            text = details.encode("utf-8", "replace")
            self._finish(_SendStatus(self.trailing_metadata, status, text, _NO_FLAGS))

    def _finish(self, *answer: Any) -> None:
        """Send the answer; only who has claimed the call may."""
        self._engine.unwatched.pop(self, None)
        greeting = _SendInitialMetadata(self.initial_metadata, _NO_FLAGS)
        operations = (greeting, *answer) if self._watched else (greeting, *answer, _ReceiveClose(_NO_FLAGS))
        try:
            error = self._event.call.start_server_batch(operations, self._on_answered)
        except Exception:
            self._release()
            raise
        if error:
            self._release()
            raise RuntimeError(f"gRPC's core refused an answer, error {error}")

    def _on_answered(self, event: Any) -> None:
        self._answered = True
        if not self._watching:
            self._release()

    def _release(self) -> None:
        self._event = None
        self._on_gone = None
        self._engine.live.discard(self)


class _StreamCall(_CoreCall):
    """See engine.StreamCall.

    At most one batch sends at a time; messages wait in `_queue`. It is in the engine's `live` while one of its batches
    is not over; `_due` counts them, guarded by the engine's lock.
    """

    __slots__ = ("_behind", "_due", "_ending", "_greeted", "_queue", "_sending", "_stream")

    def __init__(self, engine: "ReactorEngine", event: Any, method: StreamMethod) -> None:
        super().__init__(engine, event, method.compress)
        self._stream: Stream | None = None
        self._queue: deque[bytes] = deque()
        self._ending: tuple[int, bytes] | None = None
        self._greeted = False  # the initial metadata has been sent
        self._sending = False
        self._behind = False  # `unsent` was above UNSENT_LIMIT
        self._due = 0

    @property
    def unsent(self) -> int:
        return len(self._queue) + self._sending

    def begin(self, open_stream: Callable[["_StreamCall"], Stream]) -> None:
        """Look out for the client's end, and let the handler begin."""
        self._start((_ReceiveClose(_NO_FLAGS),), self._on_closed)
        try:
            self._stream = open_stream(self)
        except Exception:
            log.exception("the handler of a stream failed")
            self.finish(INTERNAL, HANDLER_FAILED)
        if self._engine.stopping:
            self.tell_of_stop()

    def tell_of_stop(self) -> None:
        stream = self._stream
        if stream is not None:
            stream.on_stopping()

    def read(self) -> None:
        self._start((_ReceiveMessage(_NO_FLAGS),), self._on_received)

    def send(self, message: bytes) -> None:
        with self._engine.lock:
            if not self._open or self._ending is not None:
                return
            self._queue.append(message)
            if self._sending:
                self._behind = self._behind or len(self._queue) >= UNSENT_LIMIT
                return
            self._sending = True
        self._send_next()

    def finish(self, status: int = OK, details: str = "") -> None:
        with self._engine.lock:
            if not self._open or self._ending is not None:
                return
            self._ending = (status, details.encode("utf-8", "replace"))
            if self._sending:
                return
            self._sending = True
        self._send_next()

    def _send_next(self) -> None:
        """Send a message, or the status, or both. Only who has set `_sending` may call it."""
        operations: list[Any] = []
        with self._engine.lock:
            if not self._open:
                return
            if self._queue:
                operations.append(_SendMessage(self._queue.popleft(), self._write_flags))
            ending = None if self._queue else self._ending
            if ending is not None:
                self._open = False
        if not self._greeted:
            self._greeted = True
            operations.insert(0, _SendInitialMetadata(self.initial_metadata, _NO_FLAGS))
        if ending is not None:
            operations.append(_SendStatus(self.trailing_metadata, *ending, _NO_FLAGS))
        self._start(tuple(operations), self._on_sent)

    def _start(self, operations: tuple[Any, ...], tag: Callable[[Any], None]) -> None:
        """Start a batch, unless the call is over; its end comes to `tag` on the loop's thread."""
        with self._engine.lock:
            event = self._event
            if event is None:
                return
            self._due += 1
        try:
            error = event.call.start_server_batch(operations, tag)
        except Exception:
            self._batch_over()
            raise
        if error:
            self._batch_over()
            raise RuntimeError(f"gRPC's core refused a part of a stream, error {error}")

    def _batch_over(self) -> None:
        with self._engine.lock:
            self._due -= 1
            over = not self._due and not self._open
            if over:
                self._event = None
        if over:
            self._stream = None
            self._engine.live.discard(self)

    def _on_received(self, event: Any) -> None:
        stream = self._stream
        message = event.batch_operations[0].message()
        self._batch_over()
        if stream is None or not self._open:
            return
        try:
            if message is None:
                stream.on_half_close()
            else:
                stream.on_message(message)
        except Exception:
            log.exception("the handler of a stream failed")
            self.finish(INTERNAL, HANDLER_FAILED)
            stream.on_gone()

    def _on_sent(self, event: Any) -> None:
        self._batch_over()
        with self._engine.lock:
            if not self._open or not (self._queue or self._ending):
                self._sending = False
                return
            caught_up = self._behind and len(self._queue) <= CAUGHT_UP
            if caught_up:
                self._behind = False
        self._send_next()
        stream = self._stream
        if caught_up and stream is not None:
            stream.on_caught_up()

    def _on_closed(self, event: Any) -> None:
        cancelled = event.batch_operations[0].cancelled()
        stream = self._stream
        gone = cancelled and self._claim()
        if cancelled:
            self._queue.clear()
        self._batch_over()
        if gone and stream is not None:
            stream.on_gone()


class ReactorEngine:
    """See engine.Engine.

    Attributes:
        lock: see the module.
        live: the calls in progress.
        unwatched: those of them whose cancellation nobody would notice yet, oldest first.
        stopping: streams that begin now have to be told.
    """

    def __init__(self, methods: Methods, endpoint: Endpoint, mail: Mail | None = None) -> None:
        self.lock = threading.Lock()
        self._mail = mail or _NoMail()
        self.live: set[_CoreCall] = set()
        self.unwatched: dict[_UnaryCall, None] = {}
        self._methods = {name.encode(): method for name, method in methods.items()}
        self._endpoint = endpoint
        self._max_calls = endpoint.max_calls
        self._queue = cygrpc.CompletionQueue()
        self._server = cygrpc.Server(endpoint.core_options(), False)
        self._server.register_completion_queue(self._queue)
        self._requested = 0  # calls that the core has been asked for and has not handed over
        self.stopping = False
        self._shut_down = False  # by the core: it listens no more, and its connections are closed
        self._look_s = 0.0  # CLOCK_MONOTONIC; when to look for slow calls again
        self._look_after_s = _FIRST_LOOK_S
        self._both: select.epoll | None = None  # readable if the core has something to do, or there is mail
        self._core_fd = -1
        self._wait = self._wait_for_calls
        self._unnoticed = 0  # see _OTHERS_POLL
        self._thread = threading.Thread(target=self._run, name="grpc-loop", daemon=True)

    def __repr__(self) -> str:
        return f"<ReactorEngine {self._endpoint.address}, {len(self.live)} calls>"

    @property
    def calls(self) -> int:
        """See Engine."""
        return len(self.live)

    def start(self) -> int:
        """See Engine."""
        address = self._endpoint.address.encode()
        tls = self._endpoint.tls
        try:
            if tls is None:
                port = self._server.add_http2_port(address)
            else:
                port = self._server.add_http2_port(address, server_credentials(tls)._credentials)
        except RuntimeError as exc:
            raise self._endpoint.refused(exc) from exc
        if not port:
            raise self._endpoint.refused()
        self._server.start()
        for _ in range(PREFILL):
            self._ask()
        core = core_poll.find(port)
        if core is not None and self._mail.fd is not None:
            self._both = select.epoll()
            self._both.register(core, select.EPOLLIN)
            self._both.register(self._mail.fd, select.EPOLLIN)
            self._core_fd = core
            self._wait = self._wait_for_both
        self._thread.start()
        return int(port)

    def stop(self, grace_s: float) -> None:
        """See Engine."""
        if self.stopping:
            return
        self.stopping = True
        self._server.shutdown(self._queue, self._on_shut_down)
        for call in list(self.live):
            call.tell_of_stop()
        self._thread.join(grace_s)
        if self._thread.is_alive():
            self._server.cancel_all_calls()
            self._thread.join(_CANCEL_WAIT_S)
        if self._thread.is_alive():
            # SAFETY: the core's objects stay, since the loop still uses them.
            log.error("%d calls do not end", len(self.live))
            return
        if self._both is not None:
            self._both.close()
        self._server.destroy()
        self._queue.shutdown()
        while self._queue.poll().completion_type != cygrpc.CompletionType.queue_shutdown:
            pass

    def _ask(self) -> None:
        """Ask the core for one more call."""
        self._server.request_call(self._queue, self._queue, self._on_arrived)
        self._requested += 1

    def _run(self) -> None:
        poll, mail = self._queue.poll, self._mail
        handled = 0  # events since the mail was looked at
        mail.hold()
        while not (self._shut_down and not self._requested and not self.live):
            try:
                event = poll(_NOW_S)
                tag = event.tag
                if tag is None and handled:
                    # After a batch was started the core does not look at its sockets the first time.
                    event = poll(_NOW_S)
                    tag = event.tag
                if tag is None:
                    mail.send()
                    event = self._wait(self._wake_s())
                    handled = 1
                    tag = event.tag
                    if self.unwatched:
                        self._look_for_the_slow()
                if tag is not None:
                    tag(event)
                    handled += 1
                if handled > _EVENTS_BETWEEN_MAIL:
                    handled = 1
                    mail.send()
                    mail.read()
                    if self.unwatched:
                        self._look_for_the_slow()
            except Exception:
                log.exception("the loop goes on after an error")
            # The last reference to a call may be in here, and it must not wait for the next event.
            event = tag = None
        mail.send()
        mail.release()

    def _wait_for_both(self, until_s: float | None) -> Any:
        """Wait for an event or for mail, and read the mail; return the event, which may be that there is none."""
        wait_s = min(self._look_after_s, _UNNOTICED_S if self.live else _IDLE_S)
        if until_s is not None:
            wait_s = max(0.0, min(wait_s, until_s - time.time()))
        ready = [fd for fd, _ in self._both.poll(wait_s, 2)]  # type: ignore[union-attr]
        if self._mail.fd in ready:
            self._mail.read()
        event = self._queue.poll(_NOW_S)
        if ready or event.tag is not None:
            self._look_after_s = _FIRST_LOOK_S
        else:
            self._look_after_s = min(2 * self._look_after_s, _IDLE_S)
        if event.tag is not None:
            if not ready:
                self._was_unnoticed()
            elif self._core_fd in ready and self._unnoticed:
                self._unnoticed -= 1
        return event

    def _was_unnoticed(self) -> None:
        """An event has been found by looking."""
        self._unnoticed += 1
        if self._unnoticed == _OTHERS_POLL and self._both is not None:
            log.info("gRPC's core polls its sockets on threads of its own; the loop waits inside of it")
            self._both.close()
            self._both = None
            self._wait = self._wait_for_calls

    def _wait_for_calls(self, until_s: float | None) -> Any:
        """Wait for an event; who has the turn meanwhile reads the mail."""
        self._mail.release()
        try:
            return self._queue.poll(until_s)
        finally:
            self._mail.hold()

    def _wake_s(self) -> float | None:
        """When the next poll must end without an event, CLOCK_REALTIME; None: never."""
        if self.stopping:
            return time.time() + _STOPPING_POLL_S
        if self.unwatched:
            return time.time() + WATCH_AFTER_S
        return None

    def _look_for_the_slow(self) -> None:
        now_s = time.monotonic()
        if now_s < self._look_s and not self.stopping:
            return
        self._look_s = now_s + WATCH_AFTER_S / 2
        # `list`, because answers on other threads take their calls out meanwhile.
        for call in list(self.unwatched):
            if now_s - call.opened_s < WATCH_AFTER_S and not self.stopping:
                return
            self.unwatched.pop(call, None)
            call.look_out()

    def _on_shut_down(self, event: Any) -> None:
        self._shut_down = True

    def _on_arrived(self, event: Any) -> None:
        self._requested -= 1
        if not event.success:
            return
        if not self.stopping:
            try:
                self._ask()
            except ValueError:
                log.debug("the server began to stop just now")
        method = self._methods.get(event.call_details.method)
        if method is None:
            self._refuse(event, UNIMPLEMENTED, "")
        elif len(self.live) >= self._max_calls:
            self._refuse(event, RESOURCE_EXHAUSTED, TOO_MANY_CALLS)
        elif isinstance(method, UnaryMethod):
            call = _UnaryCall(self, event, method)
            self.live.add(call)
            call.begin()
        else:
            stream = _StreamCall(self, event, method)
            self.live.add(stream)
            stream.begin(method.open)

    def _refuse(self, event: Any, status: int, details: str) -> None:
        call = _UnaryCall(self, event, _REFUSED)
        self.live.add(call)
        call.fail(status, details)


class _NoMail:
    """Nothing but calls."""

    fd = None

    def hold(self) -> None:
        pass

    def release(self) -> None:
        pass

    def send(self) -> None:
        pass

    def read(self) -> None:
        pass


_REFUSED = UnaryMethod(lambda call, message: None)
