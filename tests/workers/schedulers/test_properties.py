"""Under any interleaving, no request is lost, run twice, both run and rejected, or run after its time."""

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from tensorhub.errors import Unavailable
from tensorhub.requests import InferRequest
from tensorhub.workers.schedulers.default import DefaultScheduler
from tensorhub.workers.schedulers.dynamic import BatchRules, DynamicBatcher
from tensorhub.workers.schedulers.grouping import Grouping
from tensorhub.workers.schedulers.port import Reject, Scheduler
from tensorhub.workers.schedulers.queue_policy import QueuePolicies, QueuePolicy

from .requests import request

_US = 1_000
MAX_ROWS = 4

_policies = st.builds(
    QueuePolicy,
    delays=st.booleans(),
    default_timeout_us=st.sampled_from([0, 5, 50]),
    allows_override=st.booleans(),
    max_queue_size=st.sampled_from([0, 0, 2]),
)


@dataclass(frozen=True)
class _Case:
    """A scheduler to be made, and the policies that it has to keep."""

    make: Callable[[int], Scheduler]
    policies: QueuePolicies


def _batcher(
    preferred: set[int], delay_us: int, policy: QueuePolicy, special: QueuePolicy, levels: int, by_shape: bool
) -> _Case:
    rules = BatchRules(MAX_ROWS, sorted(preferred), delay_us * _US)
    grouping = Grouping(frozenset("x") if by_shape else frozenset())
    policies = QueuePolicies(policy, levels, min(levels, 1), {2: special})
    return _Case(lambda instances: DynamicBatcher(range(instances), rules, grouping, policies), policies)


_cases = st.one_of(
    st.just(_Case(DefaultScheduler, QueuePolicies())),
    st.builds(
        _batcher,
        st.sets(st.integers(1, MAX_ROWS), min_size=1),
        st.sampled_from([0, 3, 30]),
        _policies,
        _policies,
        st.sampled_from([0, 3]),
        st.booleans(),
    ),
)
_requests = st.tuples(
    st.integers(1, MAX_ROWS),
    st.integers(0, 4),
    st.sampled_from([0, 0, 2, 20]),
    st.sampled_from([0, 0, 0, 10, 40]),
    st.integers(1, 2),
)
_steps = st.one_of(
    st.tuples(st.just("enqueue"), _requests),
    st.tuples(st.just("time"), st.integers(1, 30)),
    st.tuples(st.just("release"), st.integers(0, 10)),
    st.tuples(st.just("cancel"), st.integers(0, 10)),
    st.tuples(st.just("poll"), st.just(0)),
)


class _Model:
    """A model whose instances run until they are told to finish; it keeps the books."""

    def __init__(self, case: _Case, instances: int) -> None:
        self.scheduler = case.make(instances)
        self.policies = case.policies
        self.expiries: dict[InferRequest, int] = {}
        self.now_ns = 0
        self.busy: list[int] = []
        self.free = set(range(instances))
        self.entered: list[InferRequest] = []
        self.waiting: set[InferRequest] = set()
        self.ended: list[InferRequest] = []

    def enqueue(self, given: tuple[int, int, int, int, int]) -> None:
        rows, priority, timeout_us, deadline_us, length = given
        deadline_ns = self.now_ns + deadline_us * _US if deadline_us else 0
        item = request("", rows, priority=priority, timeout_us=timeout_us, deadline_ns=deadline_ns, x=length)
        try:
            self.scheduler.enqueue(item, self.now_ns)
        except Unavailable:
            return
        self.entered.append(item)
        self.waiting.add(item)
        policy = self.policies.policy_of(self.policies.level_of(item))
        timeout = policy.timeout_us(item)
        if timeout and not policy.delays:
            self.expiries[item] = self.now_ns + timeout * _US
        self.poll()

    def poll(self) -> None:
        for decision in self.scheduler.poll(self.now_ns):
            if isinstance(decision, Reject):
                self.leave(decision.request)
                continue
            assert decision.instance in self.free
            self.free.remove(decision.instance)
            self.busy.append(decision.instance)
            assert decision.requests
            assert sum(item.batch_size for item in decision.requests) <= MAX_ROWS
            for item in decision.requests:
                assert not 0 < item.deadline_ns <= self.now_ns, "served after its deadline"
                assert self.now_ns < self.expiries.get(item, self.now_ns + 1), "served after its timeout"
                self.leave(item)

    def leave(self, item: InferRequest) -> None:
        self.waiting.remove(item)
        self.ended.append(item)

    def advance(self, by_us: int) -> None:
        """Let time pass as an alarm clock would have it: whatever falls due on the way is polled then."""
        end_ns = self.now_ns + by_us * _US
        while (due_ns := self.scheduler.next_deadline_ns()) is not None and due_ns <= end_ns:
            assert due_ns > self.now_ns or self.now_ns == 0, "a poll that was due did nothing"
            self.now_ns = max(due_ns, self.now_ns)
            self.poll()
        self.now_ns = end_ns

    def release(self, which: int) -> None:
        if self.busy:
            instance = self.busy.pop(which % len(self.busy))
            self.free.add(instance)
            self.scheduler.release(instance)
            self.poll()

    def cancel(self, which: int) -> None:
        if not self.entered:
            return
        item = self.entered[which % len(self.entered)]
        taken_out = self.scheduler.cancel(item)
        assert list(taken_out) == ([item] if item in self.waiting else [])
        for other in taken_out:
            self.leave(other)


@settings(max_examples=300)
@given(_cases, st.integers(1, 3), st.lists(_steps, max_size=60))
def test_no_request_is_lost_or_served_twice_or_too_late(
    case: _Case, instances: int, steps: list[tuple[str, object]]
) -> None:
    model = _Model(case, instances)
    actions: dict[str, Callable[..., None]] = {
        "enqueue": model.enqueue,
        "time": model.advance,
        "release": model.release,
        "cancel": model.cancel,
        "poll": lambda _: model.poll(),
    }
    for name, argument in steps:
        actions[name](argument)
        assert model.scheduler.waiting == len(model.waiting)
    for _ in range(len(model.entered) + 1):
        model.release(0)
        model.advance(100)
    assert model.waiting == set()
    assert model.scheduler.next_deadline_ns() is None
    assert len(model.ended) == len(set(model.ended)) == len(model.entered)
