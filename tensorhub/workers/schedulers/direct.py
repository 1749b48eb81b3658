"""The direct strategy: every sequence has a place of its own in the batches of its instance. Pure.

The place of a request in a batch is the slot of its sequence, for as long as the sequence lives, so that a model can
keep what belongs to it under that number. A slot without a request, below the highest that has one, is filled with a
null request: inputs of zeros, and controls that say that nobody is there.

Source: DirectSequenceBatch in Triton's core.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence

from tensorhub.requests import InferRequest, InferResponse, Tensor
from tensorhub.tensors import DataType, element_count
from tensorhub.workers.schedulers.controls import Controls
from tensorhub.workers.schedulers.grouping import Grouping
from tensorhub.workers.schedulers.port import Closed, Run
from tensorhub.workers.schedulers.sequence import LiveSequence
from tensorhub.workers.schedulers.states import SequenceState, StateSpec

_EMPTY_STRING = bytes(4)


class DirectStrategy:
    """See Strategy.

    Args:
        slots: of each instance; also the largest batch.
        delay_ns, utilization: a batch waits so long for requests, unless that share of the slots has one; 0: not at
            all.
    """

    frees_early = True

    def __init__(
        self,
        instances: int,
        slots: int,
        controls: Controls,
        grouping: Grouping | None = None,
        states: Sequence[StateSpec] = (),
        *,
        delay_ns: int = 0,
        utilization: float = 0.0,
    ) -> None:
        self.slots = slots
        self._controls = controls
        self._grouping = grouping or Grouping()
        self._no_state = SequenceState(states)
        self._delay_ns = delay_ns if utilization > 0 else 0
        self._utilization = utilization
        self._slots: list[list[LiveSequence | None]] = [[None] * slots for _ in range(instances)]
        self._free = deque(range(instances))
        self._wake_ns: int | None = None
        self._closed: Counter[Closed] = Counter()

    @property
    def batches_closed(self) -> Mapping[Closed, int]:
        """See Scheduler."""
        return self._closed

    def place(self, sequence: LiveSequence) -> None:
        """See Strategy."""
        self._slots[sequence.instance][sequence.slot] = sequence

    def remove(self, sequence: LiveSequence) -> None:
        """See Strategy."""
        self._slots[sequence.instance][sequence.slot] = None

    def changed(self, sequence: LiveSequence) -> None:
        """See Strategy: the slots are looked at when their instance is free."""

    def withdraw(self, sequence: LiveSequence, request: InferRequest) -> bool:
        """See Strategy: what has been taken runs."""
        return False

    def release(self, instance: int) -> None:
        """See Strategy."""
        self._free.appendleft(instance)

    def next_deadline_ns(self) -> int | None:
        """See Scheduler."""
        return self._wake_ns

    def poll(self, now_ns: int) -> list[Run]:
        """See Strategy."""
        runs: list[Run] = []
        self._wake_ns = None
        for instance in list(self._free):
            ready = [sequence for sequence in self._slots[instance] if sequence is not None and sequence.queue]
            closed = self._close(ready, now_ns)
            if closed is not None:
                self._free.remove(instance)
                self._closed[closed] += 1
                runs.append(Run(instance, self._batch(ready), closed, padded=True))
        return runs

    def _close(self, ready: Sequence[LiveSequence], now_ns: int) -> Closed | None:
        """Say why the batch of these sequences runs now; None if it does not."""
        if not ready:
            return None
        if len(ready) == self.slots:
            return Closed.FULL
        if not self._delay_ns:
            return Closed.QUEUE_EMPTY
        if len(ready) >= self._utilization * self.slots:
            return Closed.PREFERRED
        due_ns = min(sequence.queue[0][1] for sequence in ready) + self._delay_ns
        if due_ns <= now_ns:
            return Closed.DELAY
        self._wake_ns = due_ns if self._wake_ns is None else min(self._wake_ns, due_ns)
        return None

    def _batch(self, ready: Sequence[LiveSequence]) -> list[InferRequest]:
        """Take one request of each sequence; one whose shapes are not those of the first waits for the next batch."""
        model_input = ready[0].queue[0][0]
        group = self._grouping.key(model_input)
        inputs = dict(model_input.inputs)
        fitting = {item.slot: item for item in ready if self._grouping.key(item.queue[0][0]) == group}
        return [
            fitting[slot].take(self._controls) if slot in fitting else self._null_request(model_input, inputs)
            for slot in range(max(fitting) + 1)
        ]

    def _null_request(self, like: InferRequest, inputs: Mapping[str, Tensor]) -> InferRequest:
        request = InferRequest(
            like.model, like.version, "", {name: _zeros(item) for name, item in inputs.items()}, responder=_nobody
        )
        self._controls.fill(request, ready=False)
        self._no_state.fill(request)
        return request


def _zeros(tensor: Tensor) -> Tensor:
    count = element_count(tensor.shape)
    is_bytes = tensor.datatype is DataType.BYTES
    data = bytearray(_EMPTY_STRING * count if is_bytes else count * tensor.datatype.item_size)
    return Tensor(tensor.name, tensor.datatype, tensor.shape, data)


def _nobody(request: InferRequest, response: InferResponse | None, final: bool) -> None:
    """The responder of a null request."""
