"""When a service that fails is asked again."""

from __future__ import annotations

from tensorhub.workers.outage import FIRST_PAUSE_NS, LONGEST_PAUSE_NS, Outage


def test_what_works_is_asked_by_everybody() -> None:
    outage = Outage()
    assert outage.may_ask(0)
    assert outage.may_ask(0)
    assert not outage.answered()


def test_after_a_failure_one_asks_again_when_the_pause_is_over() -> None:
    outage = Outage()
    assert outage.failed(1_000)
    assert not outage.failed(1_001), "one that was asked before is no news and makes no pause longer"
    assert not outage.may_ask(1_000 + FIRST_PAUSE_NS - 1)
    assert outage.may_ask(1_000 + FIRST_PAUSE_NS)
    assert not outage.may_ask(1_000 + FIRST_PAUSE_NS)
    assert outage.answered()
    assert outage.may_ask(1_000 + FIRST_PAUSE_NS)


def test_who_was_to_ask_and_did_not_leaves_it_to_the_next_one() -> None:
    outage = Outage()
    outage.failed(0)
    assert outage.may_ask(FIRST_PAUSE_NS)
    outage.not_asked()
    assert outage.may_ask(FIRST_PAUSE_NS)


def test_pauses_double_up_to_a_limit_and_begin_anew() -> None:
    outage, now, pauses = Outage(), 0, []
    outage.failed(now)
    for _ in range(10):
        step = next(step for step in range(0, 2 * LONGEST_PAUSE_NS, FIRST_PAUSE_NS) if outage.may_ask(now + step))
        pauses.append(step)
        now += step
        assert not outage.failed(now)
    assert pauses[:4] == [FIRST_PAUSE_NS, 2 * FIRST_PAUSE_NS, 4 * FIRST_PAUSE_NS, 8 * FIRST_PAUSE_NS]
    assert pauses[-1] == LONGEST_PAUSE_NS
    outage.answered()
    outage.failed(now)
    assert outage.may_ask(now + FIRST_PAUSE_NS)
