"""Keeps the requests of a sequence together: one instance, in order, one at a time. Pure.

A sequence begins with a request that carries START and ends with one that carries END, or when it has been idle for too
long. While it lives it owns a slot of an instance; when all slots are taken, new sequences wait in a backlog, in the
order in which they came, and no longer than the timeout of their first request. How requests become batches is the
strategy's part (`direct`, `oldest`).

An iterative sequence is one request that the model sees again and again until it answers it; it needs no correlation
id.

Source: SequenceBatchScheduler in Triton's core.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Any, Protocol

from tensorhub.errors import Cancelled, InvalidArgument, Unavailable
from tensorhub.requests import FLAG_SEQUENCE_END, FLAG_SEQUENCE_START, InferRequest
from tensorhub.workers.schedulers.controls import Controls
from tensorhub.workers.schedulers.deadlines import Deadlines
from tensorhub.workers.schedulers.port import (
    QUEUE_LIMIT,
    Closed,
    Decision,
    Reject,
    Run,
    earliest,
    queue_full,
    timed_out,
)
from tensorhub.workers.schedulers.states import SequenceState, StateSpec

CorrelationId = int | str

_NS_PER_US = 1_000
_OWN_IDS = 1 << 63
"""Correlation ids of iterative sequences without one begin here."""


class LiveSequence:
    """One sequence, from its START until nothing of it is left.

    Attributes:
        queue: its requests that the strategy has not taken, with the times at which they came.
        ended: its last request has come, or it is over for another reason; nothing more will be queued.
        running: the request of it that the strategy has taken and that has not finished.
        instance, slot: where it lives; -1 in the backlog.
        touched_ns: when its last request came, or when it got its slot after that.
    """

    __slots__ = ("correlation_id", "ended", "instance", "queue", "running", "slot", "state", "touched_ns")

    def __init__(self, correlation_id: CorrelationId, states: Sequence[StateSpec]) -> None:
        self.correlation_id = correlation_id
        self.queue: deque[tuple[InferRequest, int]] = deque()
        self.ended = False
        self.running: InferRequest | None = None
        self.instance = self.slot = -1
        self.touched_ns = 0
        self.state = SequenceState(states)

    def take(self, controls: Controls) -> InferRequest:
        """Take the next request out of the queue, to be run, with its controls and states."""
        request = self.running = self.queue.popleft()[0]
        if request.flags & FLAG_SEQUENCE_START:
            self.state.begin()
        controls.fill(request)
        self.state.fill(request)
        return request


class Strategy(Protocol):
    """How the requests of sequences that have a slot become runs.

    Attributes:
        slots: of each instance.
        frees_early: a slot is free as soon as the last request of its sequence runs, and not when that has finished.
    """

    slots: int
    frees_early: bool

    def place(self, sequence: LiveSequence) -> None:
        """A sequence has got its slot."""

    def remove(self, sequence: LiveSequence) -> None:
        """A sequence gives its slot back."""

    def changed(self, sequence: LiveSequence) -> None:
        """A sequence with a slot may have something to run: its queue has grown, or its last step has finished."""

    def poll(self, now_ns: int) -> list[Run]:
        """Return what can start now; see Scheduler. What runs has been taken from its sequence."""

    def release(self, instance: int) -> None:
        """An instance has finished its run."""

    def withdraw(self, sequence: LiveSequence, request: InferRequest) -> bool:
        """Give back a request that was taken and does not run yet; False if it runs."""

    def next_deadline_ns(self) -> int | None:
        """See Scheduler."""

    @property
    def batches_closed(self) -> Mapping[Closed, int]:
        """See Scheduler."""


@dataclass(frozen=True, slots=True)
class SequenceRules:
    """Of one model.

    Attributes:
        idle_ns: a sequence ends when no request of it has come for so long.
        iterative: requests may be run again, and need no correlation id.
        states: what the server keeps for each sequence.
    """

    model: str
    idle_ns: int
    iterative: bool = False
    states: tuple[StateSpec, ...] = ()

    @staticmethod
    def from_config(config: Any, states: tuple[StateSpec, ...]) -> "SequenceRules":
        """Read a complete `inference.ModelConfig` with `sequence_batching`."""
        batching = config.sequence_batching
        return SequenceRules(
            config.name, batching.max_sequence_idle_microseconds * _NS_PER_US, batching.iterative_sequence, states
        )


class SequenceScheduler:
    """See the module, and Scheduler."""

    gathers = True
    delays_only = False

    def __init__(
        self, instances: int, rules: SequenceRules, strategy: Strategy, queue_limit: int = QUEUE_LIMIT
    ) -> None:
        self._rules = rules
        self.repeats = rules.iterative
        self._strategy = strategy
        self._queue_limit = queue_limit
        self._live: dict[CorrelationId, LiveSequence] = {}
        self._owners: dict[InferRequest, LiveSequence] = {}
        self._running: dict[int, list[InferRequest]] = {}
        self._backlog: deque[LiveSequence] = deque()
        self._free = [(slot, instance) for slot in range(strategy.slots) for instance in range(instances)]
        self._idle: list[tuple[int, int, LiveSequence]] = []
        self._expiries: list[tuple[int, int, LiveSequence]] = []
        self._deadlines = Deadlines()
        self._taken_back: list[InferRequest] = []  # with a deadline, which may have been over while they ran
        self._changed: deque[LiveSequence] = deque()
        self._numbers = count(1)
        self._waiting = 0

    def __repr__(self) -> str:
        return f"<SequenceScheduler {len(self._live)} sequences, {len(self._backlog)} in the backlog>"

    @property
    def waiting(self) -> int:
        """See Scheduler."""
        return self._waiting

    @property
    def batches_closed(self) -> Mapping[Closed, int]:
        """See Scheduler."""
        return self._strategy.batches_closed

    def has_place_for(self, request: InferRequest) -> bool:
        """Whether its sequence is here, or begins, and need not wait for a slot."""
        begins = request.flags & FLAG_SEQUENCE_START and bool(self._free)
        return begins or request.correlation_id in self._live

    def enqueue(self, request: InferRequest, now_ns: int) -> None:
        """See Scheduler."""
        self._check(request)
        sequence = self._sequence_of(request, now_ns)
        sequence.queue.append((request, now_ns))
        sequence.touched_ns = now_ns
        self._owners[request] = sequence
        self._waiting += 1
        if request.deadline_ns:
            self._deadlines.add(request, self._owners)
        if request.flags & FLAG_SEQUENCE_END:
            self._end(sequence)
        self._changed.append(sequence)

    def _check(self, request: InferRequest) -> None:
        model = self._rules.model
        if request.batch_size > 1:
            raise InvalidArgument(
                f"inference request to model '{model}' must specify batch-size 1 due to requirements of sequence "
                "batcher"
            )
        if not request.correlation_id and not self._rules.iterative:
            raise InvalidArgument(
                f"inference request to model '{model}' must specify a non-zero or non-empty correlation ID"
            )
        if self._waiting >= self._queue_limit:
            raise queue_full(request)

    def _sequence_of(self, request: InferRequest, now_ns: int) -> LiveSequence:
        """Return the sequence that a request belongs to, a new one if it starts one."""
        if not request.correlation_id:
            request.correlation_id = _OWN_IDS + next(self._numbers)
            request.flags |= FLAG_SEQUENCE_START
        correlation_id = request.correlation_id
        sequence = self._live.get(correlation_id)
        if sequence is not None and sequence.slot >= 0 and sequence.touched_ns + self._rules.idle_ns <= now_ns:
            # It is over, although nobody has come to look at it since.
            self._end(sequence)
            self._changed.append(sequence)
            sequence = None
        if sequence is not None:
            return sequence
        if not request.flags & FLAG_SEQUENCE_START:
            raise InvalidArgument(
                f"inference request for sequence {correlation_id} to model '{self._rules.model}' must specify the "
                "START flag on the first request of the sequence"
            )
        sequence = self._live[correlation_id] = LiveSequence(correlation_id, self._rules.states)
        heappush(self._idle, (now_ns + self._rules.idle_ns, next(self._numbers), sequence))
        if self._free:
            self._settle(sequence, now_ns)
        else:
            self._backlog.append(sequence)
            if request.timeout_us:
                expires_ns = now_ns + request.timeout_us * _NS_PER_US
                heappush(self._expiries, (expires_ns, next(self._numbers), sequence))
        return sequence

    def _settle(self, sequence: LiveSequence, now_ns: int) -> None:
        sequence.slot, sequence.instance = heappop(self._free)
        sequence.touched_ns = now_ns  # in the backlog it is the server that lets the sequence wait
        self._strategy.place(sequence)

    def _end(self, sequence: LiveSequence) -> None:
        """Let nothing more come to a sequence; another one may begin with its id."""
        sequence.ended = True
        if self._live.get(sequence.correlation_id) is sequence:
            del self._live[sequence.correlation_id]

    def poll(self, now_ns: int) -> list[Decision]:
        """See Scheduler."""
        decisions: list[Decision] = []
        self._expire(now_ns, decisions)
        while True:
            self._look_at_changed(now_ns)
            found = self._strategy.poll(now_ns)
            for run in found:
                self._started(run)
            decisions += found
            if not self._changed:
                return decisions

    def _look_at_changed(self, now_ns: int) -> None:
        """Tell the strategy which sequences have changed; those that are over make room for the backlog."""
        while self._changed:
            sequence = self._changed.popleft()
            if sequence.slot < 0:
                continue
            if not sequence.ended or sequence.queue or (sequence.running is not None and not self._frees_early):
                self._strategy.changed(sequence)
                continue
            self._strategy.remove(sequence)
            heappush(self._free, (sequence.slot, sequence.instance))
            sequence.slot = sequence.instance = -1
            if self._backlog:
                follower = self._backlog.popleft()
                self._settle(follower, now_ns)
                self._changed.append(follower)

    @property
    def _frees_early(self) -> bool:
        return self._strategy.frees_early and not self._rules.iterative

    def _started(self, run: Run) -> None:
        mine = self._running[run.instance] = [request for request in run.requests if request in self._owners]
        self._waiting -= len(mine)
        if self._frees_early:
            self._changed += [sequence for request in mine if (sequence := self._owners[request]).ended]

    def _expire(self, now_ns: int, decisions: list[Decision]) -> None:
        """End the sequences that have been idle for too long, have waited for a slot for too long, or lose a step.

        A client that has stopped waiting for a step may not have said so.
        """
        late = [request for request in self._taken_back if request.deadline_ns <= now_ns]
        self._taken_back.clear()
        while (request := self._deadlines.pop_late(now_ns)) is not None:
            late.append(request)
        for request in late:
            decisions += [
                Reject(item, timed_out() if item is request else Cancelled("")) for item in self.cancel(request)
            ]
        while self._idle and self._idle[0][0] <= now_ns:
            sequence = heappop(self._idle)[2]
            due_ns = sequence.touched_ns + self._rules.idle_ns
            if sequence.ended:
                continue
            if sequence.slot < 0 or due_ns > now_ns:
                due_ns = max(due_ns, now_ns + self._rules.idle_ns) if sequence.slot < 0 else due_ns
                heappush(self._idle, (due_ns, next(self._numbers), sequence))
                continue
            self._end(sequence)
            self._changed.append(sequence)
        while self._expiries and self._expiries[0][0] <= now_ns:
            sequence = heappop(self._expiries)[2]
            if sequence.slot < 0 and sequence.queue:
                self._end(sequence)
                self._backlog.remove(sequence)
                error = Unavailable("timeout of the corresponding sequence has been expired")
                decisions += [Reject(request, error) for request in self._clear(sequence)]

    def _clear(self, sequence: LiveSequence) -> list[InferRequest]:
        """Take everything out of a sequence's queue."""
        requests = [request for request, _ in sequence.queue]
        sequence.queue.clear()
        for request in requests:
            del self._owners[request]
        self._waiting -= len(requests)
        return requests

    def release(self, instance: int, again: Sequence[InferRequest] = ()) -> None:
        """See Scheduler."""
        self._strategy.release(instance)
        for request in self._running.pop(instance):
            sequence = self._owners[request]
            sequence.running = None
            sequence.state.advance(request)
            if request in again:
                self._take_back(sequence, request)
            else:
                del self._owners[request]
                if self._rules.iterative and not sequence.queue:
                    self._end(sequence)
            self._changed.append(sequence)

    def _take_back(self, sequence: LiveSequence, request: InferRequest) -> None:
        """Let the model see a request of an iterative sequence once more; it is its start no longer."""
        request.rescheduled = request.deferred = False
        request.next_states = {}
        request.flags = 0
        sequence.queue.appendleft((request, sequence.touched_ns))
        self._waiting += 1
        if request.deadline_ns:
            self._taken_back.append(request)

    def cancel(self, request: InferRequest) -> Sequence[InferRequest]:
        """See Scheduler. A sequence that lacks a step makes no sense: what waits of it goes too, and it ends."""
        sequence = self._owners.get(request)
        if sequence is None:
            return ()
        taken_out = []
        running = sequence.running
        if running is not None and self._strategy.withdraw(sequence, running):
            taken_out.append(running)
            sequence.running = None
            del self._owners[running]
            self._waiting -= 1
        elif running is request:
            return ()
        taken_out += self._clear(sequence)
        self._end(sequence)
        if sequence.slot < 0:
            self._backlog.remove(sequence)
        self._changed.append(sequence)
        return taken_out

    def next_deadline_ns(self) -> int | None:
        """See Scheduler."""
        while self._idle and self._idle[0][2].ended:
            heappop(self._idle)
        while self._expiries and (self._expiries[0][2].slot >= 0 or not self._expiries[0][2].queue):
            heappop(self._expiries)
        idle_ns = self._idle[0][0] if self._idle else None
        expiry_ns = self._expiries[0][0] if self._expiries else None
        return earliest(
            (idle_ns, expiry_ns, self._deadlines.earliest_ns(self._owners), self._strategy.next_deadline_ns())
        )
