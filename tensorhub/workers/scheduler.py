"""Which request runs next, on which instance. Pure: requests and the time in, decisions out.

A scheduler belongs to one loaded model version. It knows which instances are busy because it is told: `poll` makes one
busy, `release` frees it. The caller holds the model's lock around every call and carries the decisions out after it.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tensorhub.errors import Unavailable
from tensorhub.requests import InferRequest

QUEUE_LIMIT = 65_536
"""Requests that wait for one model. The bound of the frontends is met long before; this one keeps a worker alive."""


@dataclass(frozen=True, slots=True)
class Run:
    """Execute these requests together on that instance."""

    instance: int
    requests: Sequence[InferRequest]


class Scheduler(Protocol):
    """A policy."""

    def enqueue(self, request: InferRequest, now_ns: int) -> None:
        """Take a request.

        Raises:
            Unavailable: the queue is full; the request was not taken.
        """

    def poll(self, now_ns: int) -> list[Run]:
        """Return what can start now; the instances named are busy from here on."""

    def release(self, instance: int) -> None:
        """An instance has finished its run."""

    def cancel(self, request: InferRequest) -> bool:
        """Take a request out of the queue; False if it is not there (any more)."""

    def next_deadline_ns(self) -> int | None:
        """When `poll` must be called at the latest although nothing happens; None for never."""

    @property
    def waiting(self) -> int:
        """Requests in the queue."""


class DefaultScheduler:
    """Without a scheduling choice in the config: each request alone, first come first served, to any free instance."""

    def __init__(self, instances: int, queue_limit: int = QUEUE_LIMIT) -> None:
        self._free = deque(range(instances))
        self._queue: deque[InferRequest] = deque()
        self._queue_limit = queue_limit

    def __repr__(self) -> str:
        return f"<DefaultScheduler {len(self._queue)} waiting, {len(self._free)} instances free>"

    def enqueue(self, request: InferRequest, now_ns: int) -> None:
        """See Scheduler."""
        if len(self._queue) >= self._queue_limit:
            raise Unavailable(f"[request id: {request.request_id or '<id_unknown>'}] Exceeds maximum queue size")
        self._queue.append(request)

    def poll(self, now_ns: int) -> list[Run]:
        """See Scheduler."""
        runs = []
        while self._queue and self._free:
            runs.append(Run(self._free.popleft(), (self._queue.popleft(),)))
        return runs

    def release(self, instance: int) -> None:
        """See Scheduler."""
        self._free.appendleft(instance)

    def cancel(self, request: InferRequest) -> bool:
        """See Scheduler."""
        for index, waiting in enumerate(self._queue):
            if waiting is request:
                del self._queue[index]
                return True
        return False

    def next_deadline_ns(self) -> int | None:
        """See Scheduler."""
        return None

    @property
    def waiting(self) -> int:
        """See Scheduler."""
        return len(self._queue)
