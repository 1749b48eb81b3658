"""What drives gRPC calls, as the handlers see it: the calls, the table of methods, the engine itself. Vocabulary only.

An engine owns a listening port, takes calls off it, hands each to the handler of its method as serialised bytes, and
sends back what the handler answers. It knows no message and no model. There are two: `reactor` (the C core, driven by
one loop) and `threads` (grpcio's public server); the same tests run on both.

Threads: a handler is called on a thread of the engine's and must not block it. It answers from wherever it likes: the
methods of Call and StreamCall may be called from any thread.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Metadata = Sequence[tuple[str, str | bytes]]
"""Lower-case keys; a value is bytes exactly if its key ends in "-bin"."""

OK = 0
CANCELLED = 1
RESOURCE_EXHAUSTED = 8
UNIMPLEMENTED = 12
INTERNAL = 13
UNAVAILABLE = 14
"""Numbers of google.rpc.Code, as far as an engine itself uses them."""

MAX_MESSAGE_SIZE = 2**31 - 1
"""Bytes; what gRPC can carry, and Triton's limit in both directions."""

MAX_REQUESTS_PER_READ = 1_000
"""New calls of one connection that the core takes from what it has read at a time; the core's own limit is 32. The rest
it would hand over to another thread, which costs more than to go on: a client with many calls in progress on one
channel sends that many at a time."""

DEFAULT_MAX_CALLS = 16_384
"""Calls in progress at one time. Each holds some kilobytes of the core's memory; further ones are refused at once."""

UNSENT_LIMIT = 256
"""Messages of a stream that wait for the network; a client that is further behind is slow."""

CAUGHT_UP = 64
"""As many of them are left when a slow client has caught up."""

HANDLER_FAILED = "the server failed to handle the call; its log has the reason"
TOO_MANY_CALLS = "the server has as many calls in progress as it takes; try again"
NOT_ONE_MESSAGE = "the method takes exactly one request message"


class Call(Protocol):
    """A unary call. It is answered once, by `reply` or `fail`; what comes later, or after cancellation, is ignored.

    Attributes:
        initial_metadata, trailing_metadata: sent with the answer; set them before it.
    """

    initial_metadata: Metadata
    trailing_metadata: Metadata

    @property
    def peer(self) -> str:
        """The client's address in gRPC's form: ipv4:127.0.0.1:4711, ipv6:%5B::1%5D:4711, unix:."""

    @property
    def metadata(self) -> Metadata:
        """What the client sent along; read it before the answer."""

    @property
    def deadline_ns(self) -> int:
        """When the client gives up, CLOCK_MONOTONIC; 0 for never. Read it before the answer."""

    def watch(self, on_gone: Callable[[], None]) -> None:
        """Have `on_gone` called, once, if the client gives up (cancels, dies, times out) before the answer.

        It may come late by some milliseconds, and on any thread.
        """

    def reply(self, message: bytes) -> None:
        """Answer with a serialised message."""

    def fail(self, status: int, details: str) -> None:
        """Answer with a status other than OK."""


class StreamCall(Protocol):
    """A call in which both sides send any number of messages. `finish` ends it; what is sent after that is ignored.

    Attributes:
        initial_metadata: sent with the first message or the status. trailing_metadata: sent with the status.
    """

    initial_metadata: Metadata
    trailing_metadata: Metadata

    @property
    def peer(self) -> str:
        """See Call."""

    @property
    def metadata(self) -> Metadata:
        """See Call."""

    @property
    def deadline_ns(self) -> int:
        """See Call."""

    @property
    def unsent(self) -> int:
        """Messages that wait for the network: how far behind the client is."""

    def read(self) -> None:
        """Ask for the next message. One `read` gives one `on_message` or the `on_half_close`, and no second is allowed
        before that."""

    def send(self, message: bytes) -> None:
        """Send a serialised message, after those sent before."""

    def finish(self, status: int = OK, details: str = "") -> None:
        """End the call, after everything that was sent."""


class Stream(Protocol):
    """The handler's side of a StreamCall. Its methods are never called concurrently, but for `on_gone`,
    `on_caught_up` and `on_stopping`."""

    def on_message(self, message: bytes) -> None:
        """The message that `read` asked for."""

    def on_half_close(self) -> None:
        """The client sends no more. It listens still, or it has gone: then `on_gone` follows, unless `finish` is called
        before that."""

    def on_gone(self) -> None:
        """The client gave up before `finish`, or a method of this object raised and the engine has ended the call:
        nothing that is sent arrives any more."""

    def on_caught_up(self) -> None:
        """`unsent` was above UNSENT_LIMIT, and has fallen to CAUGHT_UP."""

    def on_stopping(self) -> None:
        """The engine is about to stop, and waits for this call: finish it as soon as what has begun is done."""


@dataclass(frozen=True, slots=True)
class UnaryMethod:
    """Attributes: handle: is called with the call and the request's bytes. compress: see Endpoint.compression_level."""

    handle: Callable[[Call, bytes], None]
    compress: bool = False


@dataclass(frozen=True, slots=True)
class StreamMethod:
    """Attributes: open: is called with the new call and returns who deals with it. compress: as in UnaryMethod."""

    open: Callable[[StreamCall], Stream]
    compress: bool = False


Methods = Mapping[str, UnaryMethod | StreamMethod]
"""By full name: /package.Service/Method. Other names are answered with UNIMPLEMENTED and no text, as Triton does."""


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM texts. With `mutual` the client must show a certificate that `root` vouches for."""

    certificate: bytes
    key: bytes
    root: bytes | None = None
    mutual: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an engine listens, and how.

    Attributes:
        address: in gRPC's form, such as 127.0.0.1:8001 or [::]:8001; port 0: any free one.
        channel_options: of gRPC's core, by their names.
        compression_level: 0 none, 1 low, 2 medium, 3 high: of the answers of methods with `compress`, with an algorithm
            that the client accepts.
        tls: None: in clear.
        max_calls: calls in progress at one time. One connection may have three quarters of them, so that a client which
            has very many, or does not read how they end, leaves room for the others.
    """

    address: str
    channel_options: tuple[tuple[str, int], ...] = ()
    compression_level: int = 0
    tls: Tls | None = None
    max_calls: int = DEFAULT_MAX_CALLS

    def core_options(self) -> list[tuple[str, int]]:
        """Return all options of gRPC's core."""
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_SIZE),
            ("grpc.max_send_message_length", MAX_MESSAGE_SIZE),
            ("grpc.http2.max_requests_per_read", MAX_REQUESTS_PER_READ),
            ("grpc.max_concurrent_streams", self.max_calls - self.max_calls // 4),
            *self.channel_options,
        ]
        if self.compression_level:
            options.append(("grpc.default_compression_level", self.compression_level))
        return options

    def refused(self, reason: object = "") -> "ListenError":
        """Return the error for a port that gRPC's core does not open, for this reason or for none that it tells."""
        text = f"cannot listen on {self.address}"
        if self.tls is not None:
            text += " with this certificate and key: they must be PEM texts that belong together"
        return ListenError(f"{text}: {reason}" if reason else text)


class ListenError(Exception):
    """The port cannot be opened; the message is one line for the person who started the process."""


class EngineUnfit(Exception):
    """An engine does not work with this grpcio; the message is the reason, on one line."""


class Mail(Protocol):
    """What else than calls the process reads: the answers to them. Somebody reads it who has the turn.

    An engine with a loop of its own holds the turn while it is busy, and sends and reads between calls.
    """

    @property
    def fd(self) -> int | None:
        """A descriptor that is readable while there is mail; None: there is none to wait for."""

    def hold(self) -> None:
        """Take the turn, when the thread that has it is done."""

    def release(self) -> None:
        """Give the turn back, for as long as the loop waits."""

    def send(self) -> None:
        """Send what was sent since the last time; the turn holds it back so that it leaves together."""

    def read(self) -> None:
        """Deal with what has come."""


class Engine(Protocol):
    """A server. It is started once, and stopped once; what is stopped stays so."""

    @property
    def calls(self) -> int:
        """Calls in progress."""

    def start(self) -> int:
        """Open the port, begin to serve on threads of its own, and return the port's number.

        Raises:
            ListenError: the port cannot be opened.
        """

    def stop(self, grace_s: float) -> None:
        """Take no new call, wait up to `grace_s` for those in progress, cancel what is left, and return after that."""
