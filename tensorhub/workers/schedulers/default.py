"""Without a scheduling choice in the config: each request alone, first come first served, to any free instance.

Of timeouts only the client's own deadline counts here, as in Triton: a request whose client has stopped waiting does
not run.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush

from tensorhub.requests import InferRequest
from tensorhub.workers.schedulers.port import QUEUE_LIMIT, Closed, Decision, Reject, Run, queue_full, timed_out


class DefaultScheduler:
    """See Scheduler."""

    gathers = False
    repeats = False
    delays_only = False
    batches_closed: Mapping[Closed, int] = {}

    def __init__(self, instances: int, queue_limit: int = QUEUE_LIMIT) -> None:
        self._free = deque(range(instances))
        self._queue: deque[InferRequest] = deque()
        self._queue_limit = queue_limit
        self._deadlines: list[tuple[int, int, InferRequest]] = []
        self._entered = 0

    def __repr__(self) -> str:
        return f"<DefaultScheduler {len(self._queue)} waiting, {len(self._free)} instances free>"

    def enqueue(self, request: InferRequest, now_ns: int) -> None:
        """See Scheduler."""
        if len(self._queue) >= self._queue_limit:
            raise queue_full(request)
        self._queue.append(request)
        if request.deadline_ns and (not self._free or request.deadline_ns <= now_ns):
            self._note_deadline(request)

    def _note_deadline(self, request: InferRequest) -> None:
        """Have a request looked at when its time is over; those that have left the queue are dropped in time."""
        if len(self._deadlines) > 2 * len(self._queue) + 64:
            waiting = set(self._queue)
            self._deadlines = [entry for entry in self._deadlines if entry[2] in waiting]
            heapify(self._deadlines)
        self._entered += 1
        heappush(self._deadlines, (request.deadline_ns, self._entered, request))

    def poll(self, now_ns: int) -> list[Decision]:
        """See Scheduler."""
        decisions: list[Decision] = []
        if self._deadlines:
            self._reject_late(now_ns, decisions)
        while self._queue and self._free:
            decisions.append(Run(self._free.popleft(), (self._queue.popleft(),)))
        return decisions

    def maybe_take(self) -> int | None:
        """Return a free instance for a request that has not been queued, which is busy from here on; or None."""
        return self._free.popleft() if self._free and not self._queue else None

    def _reject_late(self, now_ns: int, decisions: list[Decision]) -> None:
        while self._deadlines and self._deadlines[0][0] <= now_ns:
            request = heappop(self._deadlines)[2]
            if self._remove(request):
                decisions.append(Reject(request, timed_out()))

    def release(self, instance: int, again: Sequence[InferRequest] = ()) -> None:
        """See Scheduler."""
        self._free.appendleft(instance)

    def cancel(self, request: InferRequest) -> Sequence[InferRequest]:
        """See Scheduler."""
        return (request,) if self._remove(request) else ()

    def _remove(self, request: InferRequest) -> bool:
        for index, waiting in enumerate(self._queue):
            if waiting is request:
                del self._queue[index]
                return True
        return False

    def next_deadline_ns(self) -> int | None:
        """See Scheduler."""
        if not self._queue:
            self._deadlines.clear()
        return self._deadlines[0][0] if self._deadlines else None

    @property
    def waiting(self) -> int:
        """See Scheduler."""
        return len(self._queue)
