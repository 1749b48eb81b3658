"""What follows the run of a model: after it, on the same thread, without growing the stack."""

from __future__ import annotations

import logging

import pytest

from tensorhub.workers import continuations


class Model:
    def keep_off_the_loop(self) -> None:
        raise AssertionError("nobody waits")


MODEL = Model()


def run(*calls: continuations.Call) -> None:
    """A run of a model during which these are put off."""
    level = continuations.enter(MODEL)
    for call in calls:
        continuations.later(call)
    continuations.leave(level)


def test_outside_a_run_it_happens_at_once() -> None:
    done: list[int] = []
    continuations.later(lambda: done.append(1))
    assert done == [1]


def test_inside_a_run_it_waits_for_its_end() -> None:
    done: list[int] = []
    level = continuations.enter(MODEL)
    continuations.later(lambda: done.append(1))
    inner = continuations.enter(MODEL)
    continuations.later(lambda: done.append(2))
    continuations.leave(inner)
    assert done == []
    continuations.leave(level)
    assert done == [1, 2]


def test_a_long_chain_needs_no_stack() -> None:
    left = 100_000

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            run(step)

    run(step)
    assert left == 0


def test_who_waits_in_a_run_has_what_is_put_off_meanwhile_done() -> None:
    done: list[str] = []
    level = continuations.enter(MODEL)
    continuations.later(lambda: done.append("after"))
    with continuations.waiting():
        run(lambda: done.append("inner"))
        assert done == ["inner"]
    assert continuations.maybe_owner() is MODEL
    continuations.leave(level)
    assert done == ["inner", "after"]
    assert continuations.maybe_owner() is None


def test_a_failure_is_logged_and_the_next_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []

    def fail() -> None:
        raise ValueError("no")

    with caplog.at_level(logging.ERROR):
        run(fail, lambda: done.append(1))
    assert done == [1]
    assert "what follows the run of a model has failed" in caplog.text
