"""A loaded model version, as the worker's loop and those who call it see it: the port."""

from collections.abc import Callable
from typing import Any, Protocol

from tensorhub.errors import Unavailable
from tensorhub.protocol.model_spec import ModelSpec
from tensorhub.requests import InferRequest, InferResponse
from tensorhub.workers.decode import RequestDecoder
from tensorhub.workers.encode import ResponseEncoder


class Retired(Unavailable):
    """The load takes no more requests; its model may be served by another one."""


class NoPlace(Retired):
    """The step of a sequence that is not here, or cannot begin here now; another worker may have it."""


class Opinion(Protocol):
    """What a model itself says of its readiness; see `readiness.Readiness`."""

    def ask(self, on_answer: Callable[[bool], None]) -> None:
        """Find out whether it is ready; `on_answer` is told on another thread, however long that takes."""


class ServingModel(Protocol):
    """One version, from its load to its unload. Thread-safe but for `start` and `unload`."""

    @property
    def load_id(self) -> int:
        """Names this load in every message."""

    @property
    def news(self) -> Any:
        """The `tensorhub.wire.ModelVersion` that the hub is told."""

    @property
    def decoder(self) -> RequestDecoder:
        """Turns messages and calls into requests for it."""

    @property
    def encoder(self) -> ResponseEncoder:
        """Turns its responses into messages."""

    @property
    def decoupled(self) -> bool:
        """A request may have other than one response."""

    @property
    def readiness(self) -> Opinion | None:
        """Whom to ask whether it is ready; None: it is."""

    @property
    def spec(self) -> ModelSpec:
        """What its requests and responses look like."""

    @property
    def quick(self) -> bool:
        """A run of it may be on any thread."""

    def start(self) -> None:
        """Begin to serve."""

    def has_place_for(self, request: InferRequest) -> bool:
        """Whether a step of a sequence can be taken: its sequence is here, or begins, and need not wait for a slot."""

    def submit(self, request: InferRequest, inline_runs: int = ...) -> None:
        """Take a request; it may have been answered when this returns.

        Args:
            inline_runs: how many runs may be on this thread, if the model is quick. A thread that is not the loop's
                has other things to do than to run what happens to wait for the model as well.

        Raises:
            Unavailable: the queue is full, or (Retired) the model is being unloaded; the request was not taken.
        """

    @property
    def gathers(self) -> bool:
        """After `submit`, take what else has arrived, and then `poll`."""

    def poll(self, inline_runs: int = ...) -> None:
        """Start what can start; `inline_runs` as for `submit`."""

    def poll_on_loop(self) -> int | None:
        """Start what can start; return when the loop is to do so again, on CLOCK_MONOTONIC, or None.

        A quick model's batch that waits for more is the loop's to begin: no other thread wakes up for it.
        """

    def cancel(self, request: InferRequest) -> None:
        """Nobody wants the answer any more: drop the request if it waits, else tell who runs it."""

    def observe_response(
        self, request: InferRequest, response: InferResponse | None, output_start_ns: int, now_ns: int
    ) -> None:
        """Count a response of a decoupled model; see StatisticsRecorder."""

    def statistics(self, now_ns: int, epoch_offset_ns: int) -> Any:
        """Return what has been counted, as `tensorhub.wire.LoadStatistics`, or None if it is what it was last time."""

    def report_all(self) -> None:
        """Have the next `statistics` return everything: whoever had the last one is dead."""

    def closed(self) -> None:
        """A request that was submitted has been answered finally."""

    def hold(self) -> bool:
        """Keep it loaded, and have it take requests, until `release`; False if it takes none now."""

    def release(self) -> None:
        """End a `hold`."""

    def drain(self, on_drained: Callable[[], None]) -> None:
        """Take no more requests, and call `on_drained` once when the last one has been answered."""

    def unload(self) -> None:
        """Let the model go; it has been drained."""
