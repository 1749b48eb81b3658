"""The pulse: what is noticed, and for how long it counts."""

import time

from tests.standstill import STILL_S, Pulse, pulse_of_this_machine
from tests.waiting import wait_until


def test_a_beat_that_is_late_is_noticed_by_those_who_have_begun_before() -> None:
    pulse = Pulse(10.0)
    for tenth in range(1, 11):
        pulse.beat(10.0 + tenth / 10)
    assert not pulse.stood_still(9.0, 11.1)
    pulse.beat(13.0)
    assert pulse.stood_still(9.0, 13.1)
    assert pulse.stood_still(12.9, 13.1), "who began meanwhile"
    assert not pulse.stood_still(13.0, 13.1), "who began afterwards"


def test_who_asks_before_the_late_beat_is_told_as_well() -> None:
    pulse = Pulse(10.0)
    assert not pulse.stood_still(10.0, 10.0 + STILL_S)
    assert pulse.stood_still(10.0, 10.1 + STILL_S)


def test_this_machine_has_one() -> None:
    with pulse_of_this_machine() as pulse:
        wait_until(lambda: not pulse.stood_still(time.monotonic(), time.monotonic()), "it beats")
