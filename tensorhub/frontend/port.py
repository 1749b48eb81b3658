"""What an edge (HTTP, gRPC) needs of the rest of the server: the port, and the values that cross it.

An edge decodes a client's bytes, calls one verb here, and encodes what comes back. `frontend.gateway.Gateway` is the
real thing; the tests of the edges use a small fake that passes the same contract.

Threads: `infer`, `control` and `cancel` may be called from any thread. `on_reply` runs on the gateway's own reply
thread (gRPC) or on the event loop (HTTP); it must not block and must not raise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tensorhub.errors import TensorhubError
from tensorhub.frontend.catalog import Catalog, ServedVersion
from tensorhub.ipc.arena import ALIGNMENT
from tensorhub.ipc.wire import INLINE_LIMIT

__all__ = [
    "ALIGNMENT",
    "INLINE_LIMIT",
    "GatewayPort",
    "InferReply",
    "OnControl",
    "OnReply",
    "PlacedInput",
    "Reservation",
]


class Reservation(Protocol):
    """A piece of this process's arena: write the tensor into `view`, then pass it to `infer`, or `free` it."""

    @property
    def view(self) -> memoryview: ...

    def free(self) -> None:
        """Give the piece back; does nothing the second time."""


@dataclass(frozen=True, slots=True)
class PlacedInput:
    """An input whose bytes lie in a reservation and not in the message."""

    index: int
    reservation: Reservation
    offset: int
    byte_size: int


class InferReply:
    """One answer to an infer call.

    Either `error` is set, or `response` is a serialised `inference.ModelInferResponse`. With `outputs` None its
    raw_output_contents are inside it; otherwise they were left out of it and `outputs` holds them, in order: views that
    are valid until `release`.

    Attributes:
        final: no other reply follows. Ordinary models send one reply, which is final.
        empty: only the end of a decoupled request: no response comes with it (`response` is b"").
        refused: the error is not the model's: the worker did not take the request.
    """

    __slots__ = ("_release", "empty", "error", "final", "outputs", "refused", "response")

    def __init__(
        self,
        response: bytes = b"",
        outputs: Sequence[bytes | memoryview] | None = None,
        error: TensorhubError | None = None,
        final: bool = True,
        empty: bool = False,
        refused: bool = False,
        release: Callable[[], None] | None = None,
    ) -> None:
        self.response = response
        self.outputs = outputs
        self.error = error
        self.final = final
        self.empty = empty
        self.refused = refused
        self._release = release

    def release(self) -> None:
        """Give the worker its memory back. Call it once the outputs have been copied or written out; idempotent."""
        if self._release is not None:
            release, self._release = self._release, None
            self.outputs = None
            release()


OnReply = Callable[[InferReply], None]

OnControl = Callable[[Any, TensorhubError | None], None]
"""Called with (tensorhub.wire.ControlResult, None), or (None, error)."""


class GatewayPort(Protocol):
    """The verbs of an edge."""

    @property
    def catalog(self) -> Catalog:
        """The newest copy of the server's state; immutable, so take it once for each request."""

    @property
    def tracing(self) -> bool:
        """Some requests are traced, so that it matters whether their clients do."""

    def reserve(self, byte_size: int) -> Reservation:
        """Take a piece of the arena, aligned to ALIGNMENT; the caller owns it until it passes it to `infer`.

        Raises:
            Unavailable: the arena's budget is used up.
        """

    def infer(
        self,
        target: ServedVersion,
        body: bytes,
        on_reply: OnReply,
        *,
        flags: int = 0,
        placed: Sequence[PlacedInput] = (),
        deadline_ns: int = 0,
        owner: str = "",
        traceparent: str = "",
    ) -> int:
        """Send one request to a worker that serves `target`; answers come to `on_reply`.

        Args:
            target: what `catalog.find` returned.
            body: a serialised `inference.ModelInferRequest`. For an input in `placed` it has no contents; the others
                have theirs in raw_input_contents (one entry for each input that is neither placed nor in a region, in
                order) or, on gRPC, in `contents`.
            flags: wire.FLAG_*. With FLAG_STREAM a decoupled model sends no more than wire.STREAM_WINDOW answers without
                `credit` for them.
            placed: inputs in the arena. Their reservations belong to the gateway from this call on, whatever happens.
            deadline_ns: CLOCK_MONOTONIC; 0 for none.
            traceparent: the client's header of this name, asked for only while `tracing`; "" if it sent none.
            owner: whose regions the request may name; see `tensorhub.ownership`.

        Returns:
            The request's number, for `cancel`.

        Raises:
            Unavailable: no worker is left, or it has too many requests in flight; `on_reply` will not be called.
        """

    def cancel(self, request_id: int) -> None:
        """The client has gone: nobody waits for this request. `on_reply` is not called any more."""

    def credit(self, request_id: int, count: int) -> None:
        """The client has taken `count` answers of a FLAG_STREAM request that were not final; does nothing once the
        request is over."""

    def observe(self, on_change: Callable[[], None]) -> None:
        """Have `on_change` called after each change of `catalog`, where replies come; it must not block or raise."""

    def forget(self, on_change: Callable[[], None]) -> None:
        """Take an observer off; one that has been forgotten before does no harm."""

    def control(self, operation: Any, on_result: OnControl) -> None:
        """Ask the hub for a `tensorhub.wire.Control` operation; `on_result` is called exactly once."""
