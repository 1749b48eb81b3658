"""Under any interleaving, the steps of a sequence run once each, in order, one at a time, or are answered otherwise."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tensorhub.errors import InvalidArgument
from tensorhub.requests import FLAG_SEQUENCE_START, InferRequest
from tensorhub.workers.schedulers.port import Reject
from tensorhub.workers.schedulers.sequence import SequenceScheduler

from .requests import MS
from .sequences import scheduler, step

_STRATEGIES = (
    "",
    "direct { max_queue_delay_microseconds: 3000 minimum_slot_utilization: 0.7 }",
    "oldest { max_candidate_sequences: 1 }",
    "oldest { max_candidate_sequences: 3 preferred_batch_size: [ 2 ] max_queue_delay_microseconds: 2000 }",
)
_steps = st.one_of(
    st.tuples(
        st.just("enqueue"),
        st.tuples(
            st.integers(1, 5), st.sampled_from(["s", "s", "", "", "", "e", "se"]), st.sampled_from([0, 0, 0, 5_000])
        ),
    ),
    st.tuples(st.just("time"), st.sampled_from([1, 2, 10, 400])),
    st.tuples(st.just("release"), st.integers(0, 5)),
    st.tuples(st.just("cancel"), st.integers(0, 20)),
)


class _Model:
    """A model whose runs end when they are told to; it keeps the books."""

    def __init__(self, found: SequenceScheduler) -> None:
        self.scheduler = found
        self.now_ns = 0
        self.numbers = 0
        self.busy: dict[int, list[InferRequest]] = {}
        self.waiting: set[InferRequest] = set()
        self.entered: list[InferRequest] = []
        self.ended: list[InferRequest] = []
        self.last_run: dict[object, int] = {}

    def enqueue(self, sequence: int, flags: str, timeout_us: int) -> None:
        self.numbers += 1
        item = step(sequence, str(self.numbers), flags, timeout_us=timeout_us)
        try:
            self.scheduler.enqueue(item, self.now_ns)
        except InvalidArgument:
            assert not item.flags & FLAG_SEQUENCE_START
            return
        self.entered.append(item)
        self.waiting.add(item)
        self.poll()

    def poll(self) -> None:
        for decision in self.scheduler.poll(self.now_ns):
            if isinstance(decision, Reject):
                self.leave(decision.request)
                continue
            assert decision.instance not in self.busy
            real = [item for item in decision.requests if item.correlation_id]
            assert real
            assert len(decision.requests) <= 3
            self.busy[decision.instance] = real
            for item in real:
                self.leave(item)

    def leave(self, item: InferRequest) -> None:
        self.waiting.remove(item)
        self.ended.append(item)

    def advance(self, by_ms: int) -> None:
        end_ns = self.now_ns + by_ms * MS
        while (due_ns := self.scheduler.next_deadline_ns()) is not None and due_ns <= end_ns:
            assert due_ns > self.now_ns or not self.now_ns, "a poll that was due did nothing"
            self.now_ns = due_ns
            self.poll()
        self.now_ns = end_ns

    def release(self, which: int) -> None:
        if self.busy:
            instance = sorted(self.busy)[which % len(self.busy)]
            del self.busy[instance]
            self.scheduler.release(instance)
            self.poll()

    def cancel(self, which: int) -> None:
        if self.entered:
            for item in self.scheduler.cancel(self.entered[which % len(self.entered)]):
                self.leave(item)
            self.poll()


@settings(max_examples=200)
@given(st.sampled_from(_STRATEGIES), st.integers(1, 2), st.lists(_steps, max_size=60))
def test_steps_run_once_and_in_order(strategy: str, instances: int, steps: list[tuple[str, object]]) -> None:
    model = _Model(scheduler(strategy, instances=instances))
    runs: list[InferRequest] = []
    for name, argument in steps:
        if name == "enqueue":
            model.enqueue(*argument)  # type: ignore[misc]
        elif name == "time":
            model.advance(argument)  # type: ignore[arg-type]
        else:
            getattr(model, name)(argument)
        assert model.scheduler.waiting == len(model.waiting)
        for batch in model.busy.values():
            runs += [item for item in batch if item not in runs]
    for _ in range(len(model.entered) + 1):
        model.release(0)
        model.release(1)
        model.advance(1_100)
    assert model.waiting == set()
    assert len(model.ended) == len(set(model.ended)) == len(model.entered)
    assert model.scheduler.next_deadline_ns() is None
    _check_order(model, runs)


def _check_order(model: _Model, runs: list[InferRequest]) -> None:
    """Within one life of a sequence (from a START on), steps run in the order in which they came."""
    life: dict[InferRequest, tuple[object, int]] = {}
    lives: dict[object, int] = {}
    for item in model.entered:
        if item.flags & FLAG_SEQUENCE_START:
            lives[item.correlation_id] = lives.get(item.correlation_id, 0) + 1
        life[item] = (item.correlation_id, lives[item.correlation_id])
    order: dict[tuple[object, int], list[int]] = {}
    for item in runs:
        order.setdefault(life[item], []).append(int(item.request_id))
    assert all(numbers == sorted(numbers) for numbers in order.values())
