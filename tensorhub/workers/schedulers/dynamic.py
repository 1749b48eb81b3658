"""Gathers requests into batches, as Triton's dynamic batcher does. Pure.

When an instance is free, the queue is walked from the front and requests are gathered as long as the batch has room and
they fit together (`grouping`). Then, in this order:

1. if a preferred size was met on the way, and nobody has waited too long, the batch is cut there, at the largest;
2. if the batch cannot grow (it has as many rows as any preferred size, or the next request does not fit), it runs;
3. if its oldest request has waited for max_queue_delay, or there is no such delay, it runs;
4. else it waits for more, at most until that delay is over.

A request counts its rows and is never split. Source: GetDynamicBatch in Triton's dynamic_batch_scheduler. Different
from Triton, a batch is not cut before an instance is free to run it, so that it can grow to a larger preferred size.

Strategy: while a batch waits for more, it is known how many rows it takes to change that, so that a request that comes
meanwhile costs one comparison and not another walk.
"""

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tensorhub.requests import InferRequest
from tensorhub.workers.schedulers.grouping import Grouping
from tensorhub.workers.schedulers.port import QUEUE_LIMIT, Closed, Decision, Run, earliest
from tensorhub.workers.schedulers.queue_policy import PriorityQueue, QueuePolicies, Waiting

_NS_PER_US = 1_000


@dataclass(frozen=True, slots=True)
class BatchRules:
    """How large batches are to be, and how long they may take to gather.

    Attributes:
        max_rows: at least 1.
        preferred: sizes in rows, ascending.
        delay_ns: how long a request may wait for others; 0: not at all.
    """

    max_rows: int
    preferred: Sequence[int] = ()
    delay_ns: int = 0

    @staticmethod
    def from_config(batcher: Any, max_batch_size: int) -> "BatchRules":
        """Read a ModelDynamicBatching or a StrategyOldest; a model that does not batch has batches of one."""
        return BatchRules(
            max(1, max_batch_size),
            sorted(set(batcher.preferred_batch_size)),
            batcher.max_queue_delay_microseconds * _NS_PER_US,
        )


class _Batch(NamedTuple):
    """What has been gathered; with `closed` None it waits for more."""

    members: list[Waiting]
    closed: Closed | None
    wake_ns: int = 0
    wanted_rows: int = 0


class DynamicBatcher:
    """See the module, and Scheduler."""

    gathers = True
    repeats = False

    def __init__(
        self,
        instances: Collection[int],
        rules: BatchRules,
        grouping: Grouping | None = None,
        policies: QueuePolicies | None = None,
        queue_limit: int = QUEUE_LIMIT,
    ) -> None:
        self._rules = rules
        self._grouping = None if grouping is None or grouping.trivial else grouping
        self._preferred = frozenset(rules.preferred)
        self._largest_preferred = max(rules.preferred, default=0)
        self._queue = PriorityQueue(policies or QueuePolicies(), queue_limit)
        self._free = deque(instances)
        self._wake_ns: int | None = None
        self._wanted_rows = 0
        self._closed: Counter[Closed] = Counter()

    def __repr__(self) -> str:
        return f"<DynamicBatcher {len(self._queue)} waiting, {len(self._free)} instances free>"

    @property
    def waiting(self) -> int:
        """See Scheduler."""
        return len(self._queue)

    @property
    def batches_closed(self) -> Mapping[Closed, int]:
        """See Scheduler."""
        return self._closed

    def enqueue(self, request: InferRequest, now_ns: int) -> None:
        """See Scheduler."""
        grouping = self._grouping
        self._queue.add(request, None if grouping is None else grouping.key(request), now_ns)

    def poll(self, now_ns: int) -> list[Decision]:
        """See Scheduler."""
        decisions: list[Decision] = []
        expiry_ns = self._queue.next_expiry_ns()
        if expiry_ns is not None and expiry_ns <= now_ns:
            decisions += self._queue.expire(now_ns)
            self._wake_ns = None
        if self._is_waiting_for_more(now_ns):
            return decisions
        while self._free and len(self._queue):
            batch = self._gather(now_ns)
            if batch.closed is None:
                self._wake_ns, self._wanted_rows = batch.wake_ns, batch.wanted_rows
                return decisions
            self._queue.take(batch.members)
            self._closed[batch.closed] += 1
            requests = [waiting.request for waiting in batch.members]
            decisions.append(Run(self._free.popleft(), requests, batch.closed))
        self._wake_ns = None
        return decisions

    def _is_waiting_for_more(self, now_ns: int) -> bool:
        return (
            self._wake_ns is not None
            and now_ns < self._wake_ns
            and self._queue.rows < self._wanted_rows
            and self._grouping is None
        )

    def _gather(self, now_ns: int) -> _Batch:
        """Decide on the batch at the front of the queue, which is not empty."""
        rules = self._rules
        largest, preferred, max_rows = self._largest_preferred, self._preferred, rules.max_rows
        members: list[Waiting] = []
        group: object = None
        rows = cut = 0
        oldest_ns = now_ns
        cut_for = Closed.PREFERRED
        stopped_by: Closed | None = None
        for waiting in self._queue:
            size = waiting.request.batch_size
            if members:
                if rows + size > largest and not cut:
                    cut, cut_for = len(members), Closed.FULL
                if rows + size > max_rows:
                    stopped_by = Closed.FULL
                    break
                if waiting.group != group:
                    stopped_by = Closed.SHAPE
                    break
            else:
                group = waiting.group
            members.append(waiting)
            rows += size
            if waiting.queued_ns < oldest_ns:
                oldest_ns = waiting.queued_ns
            if rows in preferred:
                cut, cut_for = len(members), Closed.PREFERRED
        full = stopped_by or (Closed.FULL if rows >= max_rows else None)
        due_ns = oldest_ns + rules.delay_ns
        overdue = rules.delay_ns > 0 and now_ns >= due_ns
        if cut and not overdue:
            whole = cut == len(members)
            return _Batch(members[:cut], full if whole and full is not None else cut_for)
        if full is not None:
            return _Batch(members, full)
        if rows >= largest > 0:
            return _Batch(members, Closed.PREFERRED)
        if overdue:
            return _Batch(members, Closed.DELAY)
        if rules.delay_ns == 0:
            return _Batch(members, Closed.QUEUE_EMPTY)
        wanted = bisect_right(rules.preferred, rows)
        return _Batch(members, None, due_ns, rules.preferred[wanted] if wanted < len(rules.preferred) else rows + 1)

    def grow(self, requests: Sequence[InferRequest]) -> list[InferRequest]:
        """Take those out of the queue that fit into a batch that was cut and has not begun; it waits for its turn."""
        rows = sum(request.batch_size for request in requests)
        group = self._grouping.key(requests[0]) if self._grouping is not None else None
        joining: list[Waiting] = []
        for waiting in self._queue:
            rows += waiting.request.batch_size
            if rows > self._rules.max_rows or waiting.group != group:
                break
            joining.append(waiting)
        if joining:
            self._queue.take(joining)
            self._wake_ns = None
        return [waiting.request for waiting in joining]

    def release(self, instance: int, again: Sequence[InferRequest] = ()) -> None:
        """See Scheduler."""
        self._free.appendleft(instance)

    def cancel(self, request: InferRequest) -> Sequence[InferRequest]:
        """See Scheduler."""
        if not self._queue.remove(request):
            return ()
        self._wake_ns = None
        return (request,)

    @property
    def delays_only(self) -> bool:
        """See Scheduler."""
        return self._queue.next_expiry_ns() is None

    def next_deadline_ns(self) -> int | None:
        """See Scheduler."""
        return earliest((self._queue.next_expiry_ns(), self._wake_ns if self._free else None))
