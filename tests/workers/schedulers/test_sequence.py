"""Sequences: slots, backlog, order, time and cancellation, with both strategies, in tables of decisions."""

from collections.abc import Sequence

import pytest

from tensorhub.errors import InvalidArgument
from tensorhub.requests import InferRequest, Tensor
from tensorhub.tensors import DataType
from tensorhub.workers.schedulers.port import Run
from tensorhub.workers.schedulers.sequence import SequenceScheduler

from .requests import MS, described, enqueue
from .sequences import IDLE_NS, scheduler, step, values

OLDEST = "oldest { max_candidate_sequences: 2 }"
ALONE = pytest.mark.parametrize("strategy", ["", "oldest { max_candidate_sequences: 1 }"], ids=["direct", "oldest"])
BOTH = pytest.mark.parametrize("strategy", ["", OLDEST], ids=["direct", "oldest"])


def _run(found: SequenceScheduler, now_ns: int = 0) -> Sequence[InferRequest]:
    """What runs next, on the only instance; it is done at once."""
    (decision,) = found.poll(now_ns)
    assert isinstance(decision, Run)
    found.release(decision.instance)
    return decision.requests


@BOTH
def test_steps_of_a_sequence_run_one_after_the_other(strategy: str) -> None:
    found = scheduler(strategy)
    enqueue(found, 0, step(1, "a", "s"), step(1, "b"), step(1, "c", "e"))
    assert found.waiting == 3
    assert [item.request_id for _ in range(3) for item in _run(found)] == ["a", "b", "c"]
    assert found.poll(0) == []
    assert found.waiting == 0
    assert found.next_deadline_ns() is None


@BOTH
def test_the_model_is_told_of_the_sequence(strategy: str) -> None:
    found = scheduler(strategy)
    told = []
    for item in (step(7, "a", "s"), step(7, "b"), step(7, "c", "e"), step(-1 % 2**64, "d", "se")):
        enqueue(found, 0, item)
        _run(found)
        told.append([values(item, name)[0] for name in ("START", "END", "READY", "CORRID")])
        assert item.inputs["START"].shape == (1, 1)
    assert told == [[1, 0, 1, 7], [0, 0, 1, 7], [0, 1, 1, 7], [1, 1, 1, -1]]


@BOTH
@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (step(1, ""), "inference request for sequence 1 to model 'm' must specify the START flag on the first request"),
        (step("x", ""), "inference request for sequence x to model 'm' must specify the START flag on the first"),
        (step(0, "", "s"), "inference request to model 'm' must specify a non-zero or non-empty correlation ID"),
        (step("", "", "s"), "inference request to model 'm' must specify a non-zero or non-empty correlation ID"),
    ],
)
def test_wrong_requests(strategy: str, wrong: InferRequest, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        scheduler(strategy).enqueue(wrong, 0)


@BOTH
def test_a_step_has_one_row(strategy: str) -> None:
    item = step(1, "a", "s")
    item.batch_size = 2
    with pytest.raises(InvalidArgument, match="must specify batch-size 1 due to requirements of sequence batcher"):
        scheduler(strategy).enqueue(item, 0)


def test_each_sequence_keeps_its_place_in_the_batch() -> None:
    found = scheduler()
    enqueue(found, 0, step(1, "a", "s"), step(2, "b", "s"), step("three", "c", "s"))
    assert described(found.poll(0)) == ["0: a b c (full)"]
    found.release(0)
    enqueue(found, 0, step("three", "d"), step(1, "e"))
    run = _run(found)
    assert [item.request_id for item in run] == ["e", "", "d"]
    null = run[1]
    assert [values(null, name)[0] for name in ("START", "END", "READY", "CORRID", "x")] == [0, 0, 0, 0, 0]
    null.respond(None)
    enqueue(found, 0, step(1, "f", "e"))
    assert [item.request_id for item in _run(found)] == ["f"]
    enqueue(found, 0, step(4, "g", "s"), step(2, "h"))
    assert [item.request_id for item in _run(found)] == ["g", "h"]


def test_slots_are_spread_over_instances() -> None:
    found = scheduler(rows=2, instances=2)
    enqueue(found, 0, *(step(number, str(number), "s") for number in (1, 2, 3)))
    assert sorted(described(found.poll(0))) == ["0: 1 3 (full)", "1: 2 (queue_empty)"]


def test_other_shapes_wait_for_the_next_batch() -> None:
    found = scheduler()
    enqueue(found, 0, step(1, "a", "s", length=2), step(2, "b", "s", length=3), step(3, "c", "s", length=2))
    assert [item.request_id for item in _run(found)] == ["a", "", "c"]
    assert [item.request_id for item in _run(found)] == ["", "b"]


def test_a_batch_waits_until_enough_slots_have_something() -> None:
    found = scheduler("direct { max_queue_delay_microseconds: 1000 minimum_slot_utilization: 0.5 }", rows=4)
    enqueue(found, 0, step(1, "a", "s"))
    assert found.poll(0) == []
    assert found.next_deadline_ns() == MS
    assert described(found.poll(MS)) == ["0: a (delay)"]
    found.release(0)
    enqueue(found, MS, step(1, "b"), step(2, "c", "s"))
    assert described(found.poll(MS)) == ["0: b c (preferred)"]


@BOTH
def test_sequences_without_a_slot_wait_in_the_backlog(strategy: str) -> None:
    found = scheduler(strategy, rows=2)
    enqueue(found, 0, step(1, "a", "s"), step(2, "b", "s"), step(3, "c", "s"), step(3, "d", "e"), step(4, "e", "s"))
    assert [item.request_id for item in _run(found)] == ["a", "b"]
    assert found.poll(0) == []
    assert found.waiting == 3
    enqueue(found, 0, step(1, "f", "e"))
    assert [item.request_id for item in _run(found)] == ["f"]
    assert [item.request_id for item in _run(found) if item.request_id] == ["c"]
    assert [item.request_id for item in _run(found) if item.request_id] == ["d"]
    assert [item.request_id for item in _run(found) if item.request_id] == ["e"]


@ALONE
def test_an_id_may_have_a_second_life_behind_the_first(strategy: str) -> None:
    found = scheduler(strategy, rows=1)
    enqueue(found, 0, step(1, "a", "s"), step(1, "b", "e"), step(1, "c", "s"), step(1, "d", "e"))
    order = []
    while decisions := found.poll(0):
        order += described(decisions)
        found.release(0)
    assert [line.split()[1] for line in order] == ["a", "b", "c", "d"]


@ALONE
def test_an_idle_sequence_ends_and_makes_room(strategy: str) -> None:
    found = scheduler(strategy, rows=1)
    enqueue(found, 0, step(1, "a", "s"))
    _run(found)
    enqueue(found, MS, step(2, "b", "s"))
    assert found.poll(MS) == []
    assert found.next_deadline_ns() == IDLE_NS
    assert described(found.poll(IDLE_NS))[0].startswith("0: b")
    with pytest.raises(InvalidArgument, match="must specify the START flag"):
        found.enqueue(step(1, "c"), IDLE_NS)


@ALONE
def test_an_idle_sequence_has_ended_although_nobody_has_looked(strategy: str) -> None:
    found = scheduler(strategy, rows=1)
    enqueue(found, 0, step(1, "a", "s"))
    _run(found)
    with pytest.raises(InvalidArgument, match="must specify the START flag"):
        found.enqueue(step(1, "b"), IDLE_NS)
    enqueue(found, IDLE_NS, step(1, "c", "s"), step(1, "d", "e"))
    assert [item.request_id for _ in range(2) for item in _run(found, IDLE_NS)] == ["c", "d"]
    assert found.next_deadline_ns() is None


@BOTH
def test_every_step_puts_the_end_off(strategy: str) -> None:
    found = scheduler(strategy)
    enqueue(found, 0, step(1, "a", "s"))
    _run(found)
    enqueue(found, IDLE_NS - 1, step(1, "b"))
    _run(found, IDLE_NS - 1)
    assert found.poll(IDLE_NS) == []
    assert found.next_deadline_ns() == 2 * IDLE_NS - 1
    found.enqueue(step(1, "c"), 2 * IDLE_NS - 2)


@ALONE
def test_the_wait_for_a_slot_is_no_idle_time(strategy: str) -> None:
    found = scheduler(strategy, rows=1)
    enqueue(found, 0, step(1, "a", "s"), step(2, "b", "s"))
    _run(found)
    enqueue(found, IDLE_NS - MS, step(1, "c"))
    _run(found, IDLE_NS - MS)
    later_ns = 2 * IDLE_NS - 2 * MS
    enqueue(found, later_ns, step(1, "d", "e"))
    assert [item.request_id for _ in range(2) for item in _run(found, later_ns)] == ["d", "b"]
    enqueue(found, later_ns + IDLE_NS - MS, step(2, "e"))
    assert [item.request_id for item in _run(found, later_ns + IDLE_NS - MS)] == ["e"]
    with pytest.raises(InvalidArgument, match="must specify the START flag"):
        found.enqueue(step(2, "f"), later_ns + 2 * IDLE_NS - MS)


@ALONE
def test_a_step_has_a_place_where_its_sequence_is_or_can_begin(strategy: str) -> None:
    found = scheduler(strategy, rows=1)
    assert found.has_place_for(step(1, "", "s"))
    assert not found.has_place_for(step(1, ""))
    enqueue(found, 0, step(1, "", "s"))
    assert found.has_place_for(step(1, ""))
    assert found.has_place_for(step(1, "", "s"))
    assert not found.has_place_for(step("1", ""))
    assert not found.has_place_for(step(2, "", "s"))
    enqueue(found, 0, step(2, "", "s"))
    assert found.has_place_for(step(2, "")), "it waits here"


@ALONE
def test_a_sequence_waits_for_a_slot_as_long_as_its_timeout(strategy: str) -> None:
    found = scheduler(strategy, rows=1)
    enqueue(found, 0, step(1, "a", "s"), step(2, "b", "s", timeout_us=50), step(2, "c"), step(3, "d", "s"))
    assert described(found.poll(0))[0].startswith("0: a")
    assert found.next_deadline_ns() == 50_000
    text = "timeout of the corresponding sequence has been expired"
    assert described(found.poll(50_000)) == [f"reject b: {text}", f"reject c: {text}"]
    with pytest.raises(InvalidArgument, match="must specify the START flag"):
        found.enqueue(step(2, "e"), 50_000)
    assert found.waiting == 1


@BOTH
def test_cancelling_a_step_ends_its_sequence(strategy: str) -> None:
    found = scheduler(strategy)
    first, second, third = step(1, "a", "s"), step(1, "b"), step(1, "c")
    enqueue(found, 0, first)
    assert described(found.poll(0))[0].startswith("0: a")
    enqueue(found, 0, second, third)
    assert list(found.cancel(third)) == [second, third]
    assert found.cancel(first) == ()
    assert found.waiting == 0
    found.release(0)
    assert found.poll(0) == []
    with pytest.raises(InvalidArgument, match="must specify the START flag"):
        found.enqueue(step(1, "d"), 0)


def test_cancelling_reaches_into_the_backlog_and_the_batcher() -> None:
    found = scheduler("oldest { max_candidate_sequences: 2 max_queue_delay_microseconds: 1000 }")
    gathered, behind, later = step(1, "a", "s"), step(2, "b", "s"), step(3, "c", "s")
    enqueue(found, 0, gathered, behind, later)
    assert found.poll(0) == []
    assert list(found.cancel(later)) == [later]
    assert list(found.cancel(gathered)) == [gathered]
    assert described(found.poll(MS)) == ["0: b (delay)"]


def test_candidates_take_part_in_batches_once_at_a_time() -> None:
    found = scheduler(OLDEST)
    enqueue(found, 0, step(1, "a", "s"), step(1, "b"), step(2, "c", "s"), step(3, "d", "se"))
    assert described(found.poll(0)) == ["0: a c (queue_empty)"]
    enqueue(found, 0, step(2, "e", "e"))
    found.release(0)
    assert described(found.poll(0)) == ["0: e b (queue_empty)"]
    found.release(0)
    assert described(found.poll(0)) == ["0: d (queue_empty)"]


STATE = """state [ {
  input_name: "S" output_name: "S_OUT" data_type: TYPE_INT32 dims: [ 2 ]
  initial_state { name: "i" data_type: TYPE_INT32 dims: [ 2 ] data_file: "f" } } ]"""


@pytest.mark.parametrize("strategy", [STATE, f"{OLDEST} {STATE}"], ids=["direct", "oldest"])
def test_a_state_goes_from_step_to_step_and_begins_anew(strategy: str) -> None:
    found = scheduler(strategy, files={"f": bytes([5, 0, 0, 0, 6, 0, 0, 0])})
    seen = []
    for name, flags, answer in (("a", "s", b"\1"), ("b", "", b"\2"), ("c", "s", None), ("d", "e", b"\4")):
        item = step(1, name, flags)
        enqueue(found, 0, item)
        (run,) = found.poll(0)
        seen.append(values(item, "S"))
        if answer is not None:
            item.next_states = {"S_OUT": Tensor("S_OUT", DataType.INT32, (1, 2), answer + bytes(7))}
        assert isinstance(run, Run)
        found.release(run.instance)
    assert seen == [[5, 6], [1, 0], [5, 6], [5, 6]]


@pytest.mark.parametrize(
    ("state", "shape", "data"),
    [
        ("data_type: TYPE_FP32 dims: [ -1, 2 ]", (1, 1, 2), bytes(8)),
        ("data_type: TYPE_STRING dims: [ 2 ]", (1, 2), bytes(8)),
        ("data_type: TYPE_BOOL dims: [ 3 ]", (1, 3), bytes(3)),
    ],
)
def test_a_state_without_an_initial_one_is_zero(state: str, shape: tuple[int, ...], data: bytes) -> None:
    found = scheduler(f'state [ {{ input_name: "S" output_name: "T" {state} }} ]')
    item = step(1, "a", "se")
    enqueue(found, 0, item)
    _run(found)
    tensor = item.inputs["S"]
    assert (tensor.shape, tensor.data) == (shape, data)


def test_an_initial_state_must_be_long_enough() -> None:
    with pytest.raises(InvalidArgument, match="expects 8 bytes, but the data provided from fonly has 7 bytes"):
        scheduler(STATE, files={"f": bytes(7)})


@BOTH
def test_an_iterative_sequence_is_one_request_that_runs_again(strategy: str) -> None:
    found = scheduler(f"iterative_sequence: true {strategy}", rows=1)
    item, other = step(0, "a"), step(0, "b")
    enqueue(found, 0, item, other)
    starts = []
    for _ in range(3):
        (run,) = found.poll(0)
        assert isinstance(run, Run)
        assert run.requests == [item]
        starts.append(values(item, "START")[0])
        item.rescheduled = item.deferred = True
        found.release(0, [item])
        assert not item.rescheduled
        if strategy:  # candidates take turns
            (run,) = found.poll(0)
            assert isinstance(run, Run)
            assert run.requests == [other]
            other.rescheduled = True
            found.release(0, [other])
    assert starts == [1, 0, 0]
    assert item.correlation_id != other.correlation_id
    assert found.waiting == 2
    for expected in (item, other):
        (run,) = found.poll(0)
        assert isinstance(run, Run)
        assert run.requests == [expected]
        found.release(0)
    assert found.poll(0) == []
    assert found.next_deadline_ns() is None


@BOTH
def test_an_iterative_request_runs_no_more_when_its_client_has_stopped_waiting(strategy: str) -> None:
    found = scheduler(f"{strategy} iterative_sequence: true")
    item = step(1, "a", "s")
    item.deadline_ns = 2 * MS
    enqueue(found, 0, item)
    for now_ns in (0, MS):
        assert described(found.poll(now_ns))[0].startswith("0: a")
        found.poll(now_ns)
        if now_ns:
            assert found.poll(3 * MS) == [], "it runs when its time is over"
        found.release(0, [item])
    assert described(found.poll(4 * MS)) == ["reject a: Request timeout expired"]
    assert found.waiting == 0
    assert found.next_deadline_ns() is None
    enqueue(found, 5 * MS, step(1, "b", "s"))
    assert described(found.poll(5 * MS))[0].startswith("0: b")
