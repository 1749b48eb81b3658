"""The alarms' thread: what is due happens once, in order, and not before its time."""

import threading
import time
from weakref import WeakMethod

from tensorhub.workers.alarms import Alarms

_DEADLINE_S = 60.0


class _Sleeper:
    def __init__(self) -> None:
        self.woken_ns = 0
        self.woken = threading.Event()

    def wake(self) -> None:
        self.woken_ns = time.monotonic_ns()
        self.woken.set()


def test_alarms_ring_in_order_and_not_too_early() -> None:
    alarms = Alarms()
    sleepers = [_Sleeper() for _ in range(3)]
    start_ns = time.monotonic_ns()
    dues = [start_ns + 900_000_000, start_ns + 300_000_000, start_ns + 600_000_000]  # all are set before one is due
    for sleeper, due_ns in zip(sleepers, dues, strict=True):
        alarms.at(due_ns, WeakMethod(sleeper.wake))
    assert all(sleeper.woken.wait(_DEADLINE_S) for sleeper in sleepers)
    assert all(sleeper.woken_ns >= due_ns for sleeper, due_ns in zip(sleepers, dues, strict=True))
    assert sleepers[1].woken_ns <= sleepers[2].woken_ns <= sleepers[0].woken_ns
    alarms.close()


def test_an_alarm_of_something_that_is_gone_is_nothing() -> None:
    alarms = Alarms()
    gone, last = _Sleeper(), _Sleeper()
    alarms.at(0, WeakMethod(gone.wake))
    del gone
    alarms.at(time.monotonic_ns(), WeakMethod(last.wake))
    assert last.woken.wait(_DEADLINE_S)
    alarms.close()
    alarms.at(0, WeakMethod(last.wake))


def test_without_alarms_there_is_no_thread() -> None:
    before = set(threading.enumerate())
    alarms = Alarms()
    alarms.close()
    assert set(threading.enumerate()) <= before
