"""The dynamic batcher: how batches are cut, who is rejected and when, in tables of what was decided at which time."""

import pytest

from tensorhub.errors import Unavailable
from tensorhub.protocol.messages import ModelConfig
from tensorhub.workers.schedulers.dynamic import BatchRules, DynamicBatcher
from tensorhub.workers.schedulers.grouping import Grouping
from tensorhub.workers.schedulers.port import Closed
from tensorhub.workers.schedulers.queue_policy import QueuePolicies, QueuePolicy

from .requests import MS, described, enqueue, request

DELAY_NS = 10 * MS
TIMEOUT = "Request timeout expired"


def _batcher(
    *preferred: int,
    max_rows: int = 8,
    delay_ns: int = 0,
    instances: int = 1,
    grouping: Grouping | None = None,
    policies: QueuePolicies | None = None,
) -> DynamicBatcher:
    return DynamicBatcher(
        range(instances), BatchRules(max_rows, preferred or (max_rows,), delay_ns), grouping, policies
    )


@pytest.mark.parametrize(
    ("rows", "preferred", "batches"),
    [
        pytest.param([1], (8,), ["a (queue_empty)"], id="one"),
        pytest.param([1] * 8, (8,), ["a b c d e f g h (full)"], id="exactly full"),
        pytest.param([1] * 9, (8,), ["a b c d e f g h (full)", "i (queue_empty)"], id="one too many"),
        pytest.param([3, 3, 3], (8,), ["a b (full)", "c (queue_empty)"], id="rows count, not requests"),
        pytest.param([8, 1], (8,), ["a (full)", "b (queue_empty)"], id="a full request alone"),
        pytest.param([1] * 6, (4,), ["a b c d (preferred)", "e f (queue_empty)"], id="preferred size"),
        pytest.param([1] * 7, (2, 6), ["a b c d e f (preferred)", "g (queue_empty)"], id="largest preferred"),
        pytest.param([1] * 3, (2, 6), ["a b (preferred)", "c (queue_empty)"], id="smaller preferred"),
        pytest.param([1] * 3, (4,), ["a b c (queue_empty)"], id="no preferred reached"),
        pytest.param([3, 3, 1], (4,), ["a (full)", "b c (preferred)"], id="cut where the largest preferred is passed"),
    ],
)
def test_batches_without_a_delay(rows: list[int], preferred: tuple[int, ...], batches: list[str]) -> None:
    batcher = _batcher(*preferred)
    enqueue(batcher, 0, *(request(name, size) for name, size in zip("abcdefghi", rows, strict=False)))
    found = []
    while decisions := described(batcher.poll(0)):
        found += [line.removeprefix("0: ") for line in decisions]
        batcher.release(0)
    assert found == batches
    assert sum(batcher.batches_closed.values()) == len(batches)


def test_a_batch_waits_for_others_until_the_delay_of_its_oldest_is_over() -> None:
    batcher = _batcher(4, delay_ns=DELAY_NS)
    enqueue(batcher, 0, request("a"))
    assert batcher.poll(0) == []
    assert batcher.next_deadline_ns() == DELAY_NS
    enqueue(batcher, 4 * MS, request("b"))
    assert batcher.poll(4 * MS) == []
    assert batcher.next_deadline_ns() == DELAY_NS
    assert described(batcher.poll(DELAY_NS)) == ["0: a b (delay)"]
    assert batcher.next_deadline_ns() is None


def test_a_preferred_size_ends_the_wait() -> None:
    batcher = _batcher(2, 4, max_rows=16, delay_ns=DELAY_NS)
    enqueue(batcher, 0, request("a"))
    assert batcher.poll(0) == []
    enqueue(batcher, 1, request("b"))
    assert described(batcher.poll(1)) == ["0: a b (preferred)"]
    assert batcher.batches_closed == {Closed.PREFERRED: 1}


def test_after_the_delay_everything_that_fits_runs() -> None:
    batcher = _batcher(4, max_rows=6, delay_ns=DELAY_NS)
    enqueue(batcher, 0, *map(request, "abcdefg"))
    assert described(batcher.poll(DELAY_NS)) == ["0: a b c d e f (full)"]


def test_nothing_waits_for_a_delay_while_all_instances_are_busy() -> None:
    batcher = _batcher(4, delay_ns=DELAY_NS)
    enqueue(batcher, 0, *map(request, "abcd"))
    assert described(batcher.poll(0)) == ["0: a b c d (preferred)"]
    enqueue(batcher, 0, request("e"))
    assert batcher.poll(0) == []
    assert batcher.next_deadline_ns() is None
    batcher.release(0)
    assert described(batcher.poll(2 * DELAY_NS)) == ["0: e (delay)"]


def test_a_batch_that_waits_for_its_turn_grows() -> None:
    batcher = DynamicBatcher(range(1), BatchRules(4), Grouping(by_shape=frozenset("x")))
    first = request("a", x=1)
    enqueue(batcher, 0, first)
    assert described(batcher.poll(0)) == ["0: a (queue_empty)"]
    assert batcher.grow([first]) == []
    enqueue(batcher, 0, request("b", x=1), request("c", x=2), request("d", x=1))
    assert [item.request_id for item in batcher.grow([first])] == ["b"]
    assert batcher.waiting == 2
    large = request("e", 3, x=2)
    assert [item.request_id for item in batcher.grow([large])] == ["c"]
    assert batcher.grow([large, large]) == []
    assert batcher.waiting == 1


def test_instances_share_the_queue() -> None:
    batcher = _batcher(max_rows=2, instances=2)
    enqueue(batcher, 0, *map(request, "abcde"))
    assert described(batcher.poll(0)) == ["0: a b (full)", "1: c d (full)"]
    batcher.release(1)
    assert described(batcher.poll(0)) == ["1: e (queue_empty)"]


def test_other_shapes_close_a_batch_unless_they_may_be_ragged() -> None:
    requests = [request("a", x=2, y=1), request("b", x=2, y=5), request("c", x=3, y=1), request("d", x=2, y=1)]
    batcher = _batcher(grouping=Grouping(frozenset("x")))
    enqueue(batcher, 0, *requests)
    lines = []
    for _ in range(3):
        lines += described(batcher.poll(0))
        batcher.release(0)
    assert lines == ["0: a b (shape)", "0: c (shape)", "0: d (queue_empty)"]


def test_other_optional_inputs_and_other_shape_tensors_close_a_batch() -> None:
    batcher = _batcher(grouping=Grouping(by_presence=True))
    enqueue(batcher, 0, request("a", x=2), request("b", x=3), request("c", x=2, y=2))
    assert described(batcher.poll(0)) == ["0: a b (shape)"]
    batcher = _batcher(grouping=Grouping(by_value=frozenset("x")))
    other = request("b", x=1)
    other.inputs["x"].data = b"\1"
    enqueue(batcher, 0, request("a", x=1), other)
    assert described(batcher.poll(0)) == ["0: a (shape)"]


def test_a_batch_of_another_shape_is_not_waited_for() -> None:
    batcher = _batcher(4, delay_ns=DELAY_NS, grouping=Grouping(frozenset("x")))
    enqueue(batcher, 0, request("a", x=1), request("b", x=1))
    assert batcher.poll(0) == []
    enqueue(batcher, 1, request("c", x=2))
    assert described(batcher.poll(1)) == ["0: a b (shape)"]


def test_higher_priorities_go_first_and_fill_up_with_lower_ones() -> None:
    batcher = _batcher(max_rows=3, policies=QueuePolicies(levels=3, default_level=2))
    enqueue(
        batcher,
        0,
        request("low", priority=3),
        request("unset"),
        request("beyond", priority=9),
        request("high", priority=1),
        request("level 2", priority=2),
    )
    assert described(batcher.poll(0)) == ["0: high unset beyond (full)"]
    batcher.release(0)
    assert described(batcher.poll(0)) == ["0: level 2 low (queue_empty)"]


def test_priorities_mean_nothing_without_levels() -> None:
    batcher = _batcher()
    enqueue(batcher, 0, request("a", priority=5), request("b", priority=1))
    assert described(batcher.poll(0)) == ["0: a b (queue_empty)"]


def _busy(policy: QueuePolicy) -> DynamicBatcher:
    """A batcher of one row a batch, whose instance is at work."""
    batcher = _batcher(max_rows=1, policies=QueuePolicies(policy))
    enqueue(batcher, 0, request("first"))
    batcher.poll(0)
    return batcher


def test_a_request_is_rejected_in_time_although_the_model_runs() -> None:
    batcher = _busy(QueuePolicy(default_timeout_us=1_000))
    enqueue(batcher, 0, request("a"))
    enqueue(batcher, 5, request("b"))
    assert batcher.next_deadline_ns() == MS
    assert batcher.poll(MS - 1) == []
    assert described(batcher.poll(MS)) == [f"reject a: {TIMEOUT}"]
    assert batcher.next_deadline_ns() == MS + 5
    batcher.release(0)
    assert described(batcher.poll(MS + 4)) == ["0: b (full)"]
    assert batcher.next_deadline_ns() is None


@pytest.mark.parametrize(
    ("policy", "own_us", "expires_us"),
    [
        (QueuePolicy(), 5, None),
        (QueuePolicy(default_timeout_us=10), 0, 10),
        (QueuePolicy(default_timeout_us=10), 5, 10),
        (QueuePolicy(default_timeout_us=10, allows_override=True), 5, 5),
        (QueuePolicy(default_timeout_us=10, allows_override=True), 0, 10),
        (QueuePolicy(default_timeout_us=10, allows_override=True), 20, 10),
        (QueuePolicy(allows_override=True), 5, None),
    ],
)
def test_timeouts_of_requests_and_of_their_level(policy: QueuePolicy, own_us: int, expires_us: int | None) -> None:
    batcher = _busy(policy)
    enqueue(batcher, 0, request("a", timeout_us=own_us))
    assert batcher.next_deadline_ns() == (None if expires_us is None else expires_us * 1_000)


def test_delayed_requests_go_behind_the_others_of_their_level_and_stay_there() -> None:
    batcher = _busy(QueuePolicy(delays=True, default_timeout_us=1_000, allows_override=True))
    enqueue(batcher, 0, request("a", timeout_us=10), request("b"), request("c", timeout_us=20))
    assert batcher.poll(30_000) == []
    enqueue(batcher, 30_000, request("d"))
    order = []
    for _ in range(4):
        batcher.release(0)
        order += described(batcher.poll(40_000))
    assert order == ["0: b (full)", "0: d (full)", "0: a (full)", "0: c (full)"]


def test_a_deadline_of_the_client_counts_also_for_delayed_requests() -> None:
    batcher = _busy(QueuePolicy(delays=True, default_timeout_us=10))
    enqueue(batcher, 0, request("a", deadline_ns=MS))
    assert batcher.poll(20_000) == []
    assert batcher.next_deadline_ns() == MS
    assert described(batcher.poll(MS)) == [f"reject a: {TIMEOUT}"]
    assert batcher.waiting == 0


def test_each_level_has_a_policy() -> None:
    policies = QueuePolicies(QueuePolicy(max_queue_size=1), 2, 2, {1: QueuePolicy(default_timeout_us=1)})
    batcher = _batcher(max_rows=1, policies=policies)
    enqueue(batcher, 0, request("first"))
    batcher.poll(0)
    enqueue(batcher, 0, request("a", priority=1), request("b", priority=1), request("c", priority=2))
    with pytest.raises(Unavailable, match=r"^\[request id: d\] Exceeds maximum queue size$"):
        batcher.enqueue(request("d", priority=2), 0)
    assert described(batcher.poll(1_000)) == [f"reject a: {TIMEOUT}", f"reject b: {TIMEOUT}"]


@pytest.mark.parametrize(("size", "sharing", "own"), [(0, 3, 0), (1, 1, 1), (1, 3, 1), (4, 2, 2), (5, 2, 3), (5, 0, 5)])
def test_queues_of_one_model_share_its_limit(size: int, sharing: int, own: int) -> None:
    batching = ModelConfig().dynamic_batching
    batching.default_queue_policy.max_queue_size = size
    batching.priority_queue_policy[2].max_queue_size = size
    policies = QueuePolicies.from_config(batching, sharing)
    assert (policies.default.max_queue_size, policies.special[2].max_queue_size) == (own, own)


def test_a_cancelled_request_does_not_hold_up_the_batch() -> None:
    batcher = _batcher(4, delay_ns=DELAY_NS)
    first, second = request("a"), request("b")
    enqueue(batcher, 0, first)
    enqueue(batcher, MS, second)
    assert batcher.poll(MS) == []
    assert batcher.cancel(first) == (first,)
    assert batcher.cancel(first) == ()
    assert batcher.poll(2 * MS) == []
    assert batcher.next_deadline_ns() == MS + DELAY_NS
    assert described(batcher.poll(MS + DELAY_NS)) == ["0: b (delay)"]
    assert batcher.cancel(second) == ()
