"""Without a scheduling choice in the config: each request alone, first come first served, to any free instance.

Of timeouts only the client's own deadline counts here, as in Triton: a request whose client has stopped waiting does
not run.
"""

from collections import deque
from collections.abc import Mapping, Sequence

from tensorhub.requests import InferRequest
from tensorhub.workers.schedulers.deadlines import Deadlines
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
        self._deadlines = Deadlines()

    def __repr__(self) -> str:
        return f"<DefaultScheduler {len(self._queue)} waiting, {len(self._free)} instances free>"

    def enqueue(self, request: InferRequest, now_ns: int) -> None:
        """See Scheduler."""
        if len(self._queue) >= self._queue_limit:
            raise queue_full(request)
        self._queue.append(request)
        if request.deadline_ns and (not self._free or request.deadline_ns <= now_ns):
            self._deadlines.add(request, self._queue)

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
        while (request := self._deadlines.pop_late(now_ns)) is not None:
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
        return self._deadlines.first_ns

    @property
    def waiting(self) -> int:
        """See Scheduler."""
        return len(self._queue)
