"""When a question to several processes is settled."""

from __future__ import annotations

from tensorhub.hub.gatherings import Gatherings


def test_a_question_is_settled_when_the_last_one_has_answered_or_died() -> None:
    gatherings, settled = Gatherings(), list[str]()
    first = gatherings.ask([1, 2, 3], lambda: settled.append("first"))
    gatherings.ask([2], lambda: settled.append("second"))
    gatherings.answered(1, first)
    gatherings.answered(1, first)
    gatherings.answered(3, first + 100)
    assert settled == []
    gatherings.died(2)
    assert settled == ["second"]
    gatherings.answered(3, first)
    gatherings.answered(3, first)
    gatherings.settle(first)
    assert settled == ["second", "first"]


def test_a_question_is_settled_once_when_its_time_is_up_or_nobody_is_there() -> None:
    gatherings, settled = Gatherings(), list[str]()
    number = gatherings.ask([1], lambda: settled.append("late"))
    gatherings.settle(number)
    gatherings.answered(1, number)
    gatherings.ask([], lambda: settled.append("nobody"))
    assert settled == ["late", "nobody"]
