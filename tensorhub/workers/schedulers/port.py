"""What a scheduler is, and what it decides.

A scheduler belongs to one loaded model version. It knows which instances are busy because it is told: `poll` makes one
busy, `release` frees it. The caller holds the model's lock around every call and carries the decisions out after it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from tensorhub.errors import TensorhubError, Unavailable
from tensorhub.protocol.infer_validation import prefix
from tensorhub.requests import InferRequest

QUEUE_LIMIT = 65_536
"""Requests that wait for one model. The bound of the frontends is met long before; this one keeps a worker alive."""


class Closed(Enum):
    """Why a batch was closed and not grown further."""

    FULL = "full"
    """It has max_batch_size rows, or the next request does not fit in what is left."""
    PREFERRED = "preferred"
    """It has a preferred size."""
    DELAY = "delay"
    """The oldest request in it has waited as long as requests may."""
    SHAPE = "shape"
    """The next request has other shapes, or other inputs."""
    QUEUE_EMPTY = "queue_empty"
    """Nothing else waited, and there is nothing to wait for."""


@dataclass(frozen=True, slots=True)
class Run:
    """Execute these requests together on that instance.

    Attributes:
        closed: why there are not more of them; None where requests are not gathered.
        padded: there may be null requests among them, which belong to nobody: those without a correlation id.
    """

    instance: int
    requests: Sequence[InferRequest]
    closed: Closed | None = None
    padded: bool = False


@dataclass(frozen=True, slots=True)
class Reject:
    """Answer this request, which has been waiting, with an error."""

    request: InferRequest
    error: TensorhubError


Decision = Run | Reject


class Scheduler(Protocol):
    """A policy.

    Attributes:
        gathers: it can make use of requests that come together: take what has arrived already before `poll`.
        repeats: a model may ask for a request again (`release`).
    """

    gathers: bool
    repeats: bool

    def enqueue(self, request: InferRequest, now_ns: int) -> None:
        """Take a request.

        Raises:
            TensorhubError: it cannot be queued, and was not taken.
        """

    def poll(self, now_ns: int) -> list[Decision]:
        """Return what can start now, and who has waited too long; the instances named are busy from here on."""

    def release(self, instance: int, again: Sequence[InferRequest] = ()) -> None:
        """An instance has finished its run.

        Args:
            again: requests of the run that the model wants to see once more, unanswered.
        """

    def cancel(self, request: InferRequest) -> Sequence[InferRequest]:
        """The client of a request has gone. Return what was taken out of the queue for that, to be answered."""

    def next_deadline_ns(self) -> int | None:
        """When `poll` must be called at the latest although nothing happens; None for never."""

    @property
    def delays_only(self) -> bool:
        """The deadline is the end of a batch's delay, and no request is to be rejected then."""

    @property
    def waiting(self) -> int:
        """Requests in the queue."""

    @property
    def batches_closed(self) -> Mapping[Closed, int]:
        """How many batches were closed for each reason."""


def queue_full(request: InferRequest) -> Unavailable:
    """Return Triton's error for a request that a full queue turns away."""
    return Unavailable(f"{prefix(request.request_id)}Exceeds maximum queue size")


def timed_out() -> Unavailable:
    """Return Triton's error for a request that has waited too long."""
    return Unavailable("Request timeout expired")


def earliest(times_ns: Iterable[int | None]) -> int | None:
    """Return the smallest of the times that there are."""
    return min((time_ns for time_ns in times_ns if time_ns is not None), default=None)
