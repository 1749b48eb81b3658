"""Who waits, in which order, and for how long: the queue of a batcher with its priority levels. Pure.

Source: PriorityQueue and PolicyQueue in Triton's core, and ModelQueuePolicy in its configuration. Level 1 is served
first. Each level has a policy of its own: how many may wait in it, how long, and what becomes of a request that has
waited too long. REJECT answers it with an error; DELAY puts it behind all others of its level, where it stays.

Different from Triton, time is not looked at only when the batcher walks over the queue: the earliest expiry is known
(`next_expiry_ns`), so that a request is rejected when its time is over although every instance is busy.

Strategy: a request that leaves from the middle is only marked, and passed over when the walk comes to it; so cancelling
and expiring cost nothing that grows with the queue. What is marked is dropped when it comes to the front.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Any

from tensorhub.requests import InferRequest
from tensorhub.workers.schedulers.port import QUEUE_LIMIT, Reject, queue_full, timed_out

_NS_PER_US = 1_000


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """Of one priority level; the fields of ModelQueuePolicy.

    Attributes:
        delays: an expired request goes behind the others; else it is rejected.
        default_timeout_us: 0 for none.
        allows_override: a request's own timeout counts, if it is shorter than the default.
        max_queue_size: requests that may wait, 0 for any number.
    """

    delays: bool = False
    default_timeout_us: int = 0
    allows_override: bool = False
    max_queue_size: int = 0

    @staticmethod
    def from_config(policy: Any, sharing: int = 1) -> "QueuePolicy":
        """Read an `inference.ModelQueuePolicy`.

        Args:
            sharing: queues that the model has. Each has its part of max_queue_size, rounded up.
        """
        return QueuePolicy(
            policy.timeout_action == policy.DELAY,
            policy.default_timeout_microseconds,
            policy.allow_timeout_override,
            -(-policy.max_queue_size // max(1, sharing)),
        )

    def timeout_us(self, request: InferRequest) -> int:
        """Return how long a request may wait, 0 for ever. Triton: its own timeout can only shorten the default."""
        own = request.timeout_us
        return own if self.allows_override and 0 < own < self.default_timeout_us else self.default_timeout_us


@dataclass(frozen=True, slots=True)
class QueuePolicies:
    """Of all levels.

    Attributes:
        levels: 0 if requests have no priorities.
        default_level: of a request without a priority, or with one that there is not.
        special: level to its own policy; the others have `default`.
    """

    default: QueuePolicy = QueuePolicy()
    levels: int = 0
    default_level: int = 0
    special: Mapping[int, QueuePolicy] = field(default_factory=dict)

    @staticmethod
    def from_config(batching: Any, sharing: int = 1) -> "QueuePolicies":
        """Read an `inference.ModelDynamicBatching`; `sharing` as for QueuePolicy."""
        return QueuePolicies(
            QueuePolicy.from_config(batching.default_queue_policy, sharing),
            batching.priority_levels,
            batching.default_priority_level,
            {
                level: QueuePolicy.from_config(policy, sharing)
                for level, policy in batching.priority_queue_policy.items()
            },
        )

    def level_of(self, request: InferRequest) -> int:
        """Return the level in which a request waits."""
        return request.priority if 1 <= request.priority <= self.levels else self.default_level if self.levels else 0

    def policy_of(self, level: int) -> QueuePolicy:
        """Return the policy of a level."""
        return self.special.get(level, self.default) if self.levels else self.default


class Waiting:
    """A request in the queue.

    Attributes:
        queued_ns: when it came.
        group: equal for requests that may run in one batch.
        gone: it has left the queue.
    """

    __slots__ = ("gone", "group", "level", "queued_ns", "request")

    def __init__(self, request: InferRequest, queued_ns: int, group: object, level: "_Level") -> None:
        self.request = request
        self.queued_ns = queued_ns
        self.group = group
        self.level = level
        self.gone = False


class _Level:
    """A priority level: those in time, then those that were delayed."""

    __slots__ = ("delayed", "in_time", "policy", "size")

    def __init__(self, policy: QueuePolicy) -> None:
        self.policy = policy
        self.in_time: deque[Waiting] = deque()
        self.delayed: deque[Waiting] = deque()
        self.size = 0


class PriorityQueue:
    """The queue of one scheduler.

    Attributes:
        rows: of all requests in it.
    """

    def __init__(self, policies: QueuePolicies, queue_limit: int = QUEUE_LIMIT) -> None:
        self._policies = policies
        self._queue_limit = queue_limit
        self._levels: dict[int, _Level] = {}
        self._order: list[_Level] = []
        self._entries: dict[InferRequest, Waiting] = {}
        self._expiries: list[tuple[int, int, bool, Waiting]] = []
        self._entered = 0
        self.rows = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Waiting]:
        """Walk over all, in the order in which they are to be served; the queue must not change meanwhile."""
        for level in self._order:
            for line in (level.in_time, level.delayed):
                while line and line[0].gone:
                    line.popleft()
                for waiting in line:
                    if not waiting.gone:
                        yield waiting

    def add(self, request: InferRequest, group: object, now_ns: int) -> None:
        """Let a request wait; `group` is what it must have in common with others in its batch.

        Raises:
            Unavailable: its level is full.
        """
        policies = self._policies
        level = self._level(policies.level_of(request) if policies.levels else 0)
        policy = level.policy
        entries = self._entries
        if (policy.max_queue_size and level.size >= policy.max_queue_size) or len(entries) >= self._queue_limit:
            raise queue_full(request)
        waiting = entries[request] = Waiting(request, now_ns, group, level)
        level.in_time.append(waiting)
        level.size += 1
        self.rows += request.batch_size
        if policy.default_timeout_us:
            self._note_expiry(now_ns + policy.timeout_us(request) * _NS_PER_US, policy.delays, waiting)
        if request.deadline_ns:
            self._note_expiry(request.deadline_ns, False, waiting)

    def _level(self, number: int) -> _Level:
        level = self._levels.get(number)
        if level is None:
            level = self._levels[number] = _Level(self._policies.policy_of(number))
            self._order = [self._levels[key] for key in sorted(self._levels)]
        return level

    def _note_expiry(self, at_ns: int, delays: bool, waiting: Waiting) -> None:
        if len(self._expiries) > 2 * len(self._entries) + 64:
            self._expiries = [entry for entry in self._expiries if not entry[3].gone]
            heapify(self._expiries)
        self._entered += 1
        heappush(self._expiries, (at_ns, self._entered, delays, waiting))

    def remove(self, request: InferRequest) -> bool:
        """Take a request out; False if it is not in the queue."""
        waiting = self._entries.get(request)
        if waiting is None:
            return False
        self.take((waiting,))
        return True

    def take(self, members: Iterable[Waiting]) -> None:
        """Take out some that are in the queue."""
        entries = self._entries
        for waiting in members:
            request = waiting.request
            del entries[request]
            waiting.gone = True
            waiting.level.size -= 1
            self.rows -= request.batch_size

    def expire(self, now_ns: int) -> list[Reject]:
        """Let the time pass: return those to be rejected, which have left, and put those behind that are delayed."""
        rejected = []
        while self._expiries and self._expiries[0][0] <= now_ns:
            _, _, delays, waiting = heappop(self._expiries)
            if waiting.gone:
                continue
            if delays:
                self._delay(waiting)
            else:
                self.remove(waiting.request)
                rejected.append(Reject(waiting.request, timed_out()))
        return rejected

    def _delay(self, waiting: Waiting) -> None:
        """Put a request behind the others of its level; its old place keeps a mark."""
        level = waiting.level
        moved = Waiting(waiting.request, waiting.queued_ns, waiting.group, level)
        waiting.gone = True
        self._entries[waiting.request] = moved
        level.delayed.append(moved)
        if waiting.request.deadline_ns:
            self._note_expiry(waiting.request.deadline_ns, False, moved)

    def next_expiry_ns(self) -> int | None:
        """When `expire` has something to do at the earliest."""
        while self._expiries and self._expiries[0][3].gone:
            heappop(self._expiries)
        return self._expiries[0][0] if self._expiries else None
