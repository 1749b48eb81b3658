"""The default scheduler: each request alone."""

import pytest

from tensorhub.errors import Unavailable
from tensorhub.workers.schedulers.default import DefaultScheduler

from .requests import described, enqueue, request


def test_requests_run_alone_and_in_order_on_free_instances() -> None:
    scheduler = DefaultScheduler(2)
    enqueue(scheduler, 0, *map(request, "abc"))
    assert described(scheduler.poll(0)) == ["0: a", "1: b"]
    assert scheduler.poll(0) == []
    scheduler.release(1)
    assert described(scheduler.poll(0)) == ["1: c"]
    assert scheduler.next_deadline_ns() is None


def test_a_full_queue_is_an_error_at_the_door() -> None:
    scheduler = DefaultScheduler(1, queue_limit=1)
    scheduler.enqueue(request("a"), 0)
    with pytest.raises(Unavailable, match=r"^\[request id: b\] Exceeds maximum queue size$"):
        scheduler.enqueue(request("b"), 0)
    assert scheduler.waiting == 1


def test_a_waiting_request_can_be_cancelled_a_running_one_not() -> None:
    scheduler = DefaultScheduler(1)
    running, waiting = request("a"), request("b")
    enqueue(scheduler, 0, running)
    scheduler.poll(0)
    enqueue(scheduler, 0, waiting)
    assert scheduler.cancel(waiting) == (waiting,)
    assert scheduler.cancel(waiting) == ()
    assert scheduler.cancel(running) == ()
    scheduler.release(0)
    assert scheduler.poll(0) == []


def test_a_request_whose_client_has_stopped_waiting_does_not_run() -> None:
    scheduler = DefaultScheduler(1)
    enqueue(scheduler, 0, request("a"))
    assert described(scheduler.poll(0)) == ["0: a"]
    enqueue(scheduler, 0, request("b", deadline_ns=50), request("c"), request("d", deadline_ns=20))
    assert scheduler.next_deadline_ns() == 20
    assert described(scheduler.poll(19)) == []
    assert described(scheduler.poll(20)) == ["reject d: Request timeout expired"]
    assert scheduler.next_deadline_ns() == 50
    scheduler.release(0)
    assert described(scheduler.poll(30)) == ["0: b"]
    assert described(scheduler.poll(50)) == []
    scheduler.release(0)
    assert described(scheduler.poll(50)) == ["0: c"]
    assert scheduler.next_deadline_ns() is None
