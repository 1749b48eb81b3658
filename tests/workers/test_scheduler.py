"""The default scheduler and the history of runs: tables, and a property over any interleaving."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorhub.errors import Unavailable
from tensorhub.requests import InferRequest
from tensorhub.workers.history import DISTRUST, QUICK_NS, SLOW_NS, STRIKES, TRIAL_RUNS, RunHistory
from tensorhub.workers.scheduler import DefaultScheduler


def _request(name: str) -> InferRequest:
    return InferRequest("m", 1, name, {})


def test_requests_run_alone_and_in_order_on_free_instances() -> None:
    scheduler = DefaultScheduler(2)
    requests = [_request(str(number)) for number in range(3)]
    for request in requests:
        scheduler.enqueue(request, 0)
    first, second = scheduler.poll(0)
    assert [run.requests for run in (first, second)] == [(requests[0],), (requests[1],)]
    assert {first.instance, second.instance} == {0, 1}
    assert scheduler.poll(0) == []
    scheduler.release(second.instance)
    (third,) = scheduler.poll(0)
    assert (third.instance, third.requests) == (second.instance, (requests[2],))
    assert scheduler.next_deadline_ns() is None


def test_a_full_queue_is_an_error_at_the_door() -> None:
    scheduler = DefaultScheduler(1, queue_limit=1)
    scheduler.enqueue(_request("a"), 0)
    with pytest.raises(Unavailable, match=r"^\[request id: b\] Exceeds maximum queue size$"):
        scheduler.enqueue(_request("b"), 0)
    assert scheduler.waiting == 1


def test_a_waiting_request_can_be_cancelled_a_running_one_not() -> None:
    scheduler = DefaultScheduler(1)
    running, waiting = _request("a"), _request("b")
    scheduler.enqueue(running, 0)
    (run,) = scheduler.poll(0)
    scheduler.enqueue(waiting, 0)
    assert scheduler.cancel(waiting)
    assert not scheduler.cancel(waiting)
    assert not scheduler.cancel(running)
    scheduler.release(run.instance)
    assert scheduler.poll(0) == []


@given(st.lists(st.sampled_from(["enqueue", "poll", "release", "cancel"]), max_size=60), st.integers(1, 3))
def test_no_request_is_lost_or_run_twice(steps: list[str], instances: int) -> None:
    scheduler = DefaultScheduler(instances)
    waiting: list[InferRequest] = []
    ran: list[InferRequest] = []
    cancelled: list[InferRequest] = []
    busy: set[int] = set()
    entered: list[InferRequest] = []
    for step in [*steps, *["poll", "release"] * len(steps)]:
        if step == "enqueue":
            request = _request(str(len(entered)))
            entered.append(request)
            waiting.append(request)
            scheduler.enqueue(request, 0)
        elif step == "poll":
            for run in scheduler.poll(0):
                assert run.instance not in busy
                busy.add(run.instance)
                ran.extend(run.requests)
                for request in run.requests:
                    waiting.remove(request)
        elif step == "release" and busy:
            scheduler.release(busy.pop())
        elif step == "cancel" and waiting:
            request = waiting.pop()
            assert scheduler.cancel(request)
            cancelled.append(request)
    assert scheduler.waiting == len(waiting) == 0
    assert sorted(map(id, ran + cancelled)) == sorted(map(id, entered))
    assert [request for request in entered if request in ran] == ran


def _trusted() -> RunHistory:
    history = RunHistory()
    for _ in range(TRIAL_RUNS - 1):
        history.observe(QUICK_NS)
        assert not history.quick
    history.observe(QUICK_NS)
    assert history.quick
    return history


def test_a_model_is_trusted_after_quick_runs_and_distrusted_after_a_slow_one() -> None:
    history = _trusted()
    history.observe(SLOW_NS)
    for _ in range(DISTRUST - 1):
        history.observe(0)
        assert not history.quick
    history.observe(0)
    assert history.quick


def test_runs_that_are_somewhat_slow_cost_trust_only_together() -> None:
    history = _trusted()
    for _ in range(STRIKES * 3):
        history.observe(QUICK_NS + 1)
        assert history.quick
        for _ in range(100):
            history.observe(0)
    for _ in range(STRIKES - 1):
        history.observe(QUICK_NS + 1)
        assert history.quick
    history.observe(QUICK_NS + 1)
    assert not history.quick


def test_slow_runs_do_not_let_trust_build_up() -> None:
    history = RunHistory()
    for _ in range(TRIAL_RUNS * 2):
        history.observe(QUICK_NS * 2)
        history.observe(0)
    assert not history.quick
