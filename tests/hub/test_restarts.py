"""When children are started again: a table of lives and deaths with times of our own."""

import pytest

from tensorhub.hub.restarts import (
    DEATHS_LIMIT,
    FIRST_DELAY_S,
    LONG_LIFE_S,
    LONGEST_DELAY_S,
    WINDOW_S,
    Restarts,
    is_refusal,
)


def live(past: Restarts, start: float, life: float) -> Restarts:
    return past.started(start).died(start + life)


def test_a_child_that_has_died_is_started_again_after_the_first_delay() -> None:
    past = live(Restarts(), 100.0, 1.0)
    assert past.restart_at == pytest.approx(101.0 + FIRST_DELAY_S)
    assert not past.due(101.0)
    assert past.due(101.0 + FIRST_DELAY_S + 1e-6)
    assert not past.given_up


def test_a_child_that_runs_is_not_due() -> None:
    assert not Restarts().started(5.0).due(1e9)


def test_the_delay_doubles_up_to_the_longest() -> None:
    past, now, delays = Restarts(), 0.0, []
    for _ in range(DEATHS_LIMIT - 1):
        past = live(past, now, 0.0)
        assert past.restart_at is not None
        delays.append(past.restart_at - now)
        now = past.restart_at
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, LONGEST_DELAY_S, LONGEST_DELAY_S])


@pytest.mark.parametrize(("life", "again"), [(LONG_LIFE_S, FIRST_DELAY_S), (LONG_LIFE_S - 0.5, 4 * FIRST_DELAY_S)])
def test_only_a_long_life_starts_the_delay_over(life: float, again: float) -> None:
    past = live(live(Restarts(), 0.0, 0.0), 1.0, 0.0)
    past = live(past, 2.0, life)
    assert past.restart_at == pytest.approx(2.0 + life + again)


def test_the_tenth_death_within_a_minute_gives_the_child_up() -> None:
    past, now = Restarts(), 0.0
    for _ in range(DEATHS_LIMIT - 1):
        past = live(past, now, 0.0)
        assert past.restart_at is not None
        now = past.restart_at
    assert not past.given_up
    past = live(past, now, 0.0)
    assert past.given_up
    assert past.restart_at is None
    assert not past.due(1e9)


def test_deaths_that_are_long_ago_do_not_count() -> None:
    past = Restarts()
    step = WINDOW_S / (DEATHS_LIMIT - 1) + 0.01
    for index in range(5 * DEATHS_LIMIT):
        past = live(past, index * step, 0.0)
        assert not past.given_up
        assert len(past.deaths) < DEATHS_LIMIT


@pytest.mark.parametrize(
    ("status", "joined", "refusal"), [(1, False, True), (3, False, True), (1, True, False), (-9, False, False)]
)
def test_who_ends_with_an_error_before_joining_refuses_what_it_was_given(
    status: int, joined: bool, refusal: bool
) -> None:
    assert is_refusal(status, joined=joined) is refusal
