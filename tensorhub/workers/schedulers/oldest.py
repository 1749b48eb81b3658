"""The oldest strategy: the next requests of the candidate sequences go through a dynamic batcher. Pure.

A sequence has at most one request in the batcher or at work, so its steps never overtake each other, and the place of
a request in a batch means nothing. Source: OldestSequenceBatch in Triton's core.
"""

from collections import Counter
from collections.abc import Mapping

from tensorhub.requests import InferRequest
from tensorhub.workers.schedulers.controls import Controls
from tensorhub.workers.schedulers.dynamic import BatchRules, DynamicBatcher
from tensorhub.workers.schedulers.grouping import Grouping
from tensorhub.workers.schedulers.port import Closed, Run, earliest
from tensorhub.workers.schedulers.sequence import LiveSequence


class OldestStrategy:
    """See Strategy.

    Args:
        candidates: sequences of each instance that take part at a time.
    """

    frees_early = False

    def __init__(
        self,
        instances: int,
        candidates: int,
        controls: Controls,
        rules: BatchRules,
        grouping: Grouping | None = None,
    ) -> None:
        self.slots = candidates
        self._controls = controls
        self._batchers = [DynamicBatcher((instance,), rules, grouping) for instance in range(instances)]
        self._ready: dict[LiveSequence, None] = {}

    @property
    def batches_closed(self) -> Mapping[Closed, int]:
        """See Scheduler."""
        return sum((Counter(batcher.batches_closed) for batcher in self._batchers), Counter())

    def place(self, sequence: LiveSequence) -> None:
        """See Strategy: a candidate needs nothing but its instance."""

    def remove(self, sequence: LiveSequence) -> None:
        """See Strategy."""
        self._ready.pop(sequence, None)

    def changed(self, sequence: LiveSequence) -> None:
        """See Strategy."""
        if sequence.queue and sequence.running is None:
            self._ready[sequence] = None

    def poll(self, now_ns: int) -> list[Run]:
        """See Strategy."""
        ready, self._ready = self._ready, {}
        for sequence in ready:
            if sequence.queue and sequence.running is None:
                self._batchers[sequence.instance].enqueue(sequence.take(self._controls), now_ns)
        # The scheduler takes out what is late before, with the rest of its sequence.
        return [run for batcher in self._batchers for run in batcher.poll(now_ns) if isinstance(run, Run)]

    def release(self, instance: int) -> None:
        """See Strategy."""
        self._batchers[instance].release(instance)

    def withdraw(self, sequence: LiveSequence, request: InferRequest) -> bool:
        """See Strategy."""
        return bool(self._batchers[sequence.instance].cancel(request))

    def next_deadline_ns(self) -> int | None:
        """See Scheduler."""
        return earliest(batcher.next_deadline_ns() for batcher in self._batchers)
