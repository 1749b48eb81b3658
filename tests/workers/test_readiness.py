"""Questions to models whether they are ready: one at a time, and one answer for all who ask meanwhile."""

from __future__ import annotations

from queue import SimpleQueue

import pytest

from tensorhub.workers.readiness import Readiness, ask_all


class Instance:
    """Answers when the test says what."""

    def __init__(self) -> None:
        self.says: SimpleQueue[bool] = SimpleQueue()
        self.asked: SimpleQueue[bool] = SimpleQueue()

    def check(self) -> bool:
        self.asked.put(True)
        return self.says.get(timeout=60)


def test_all_instances_must_be_ready() -> None:
    for says in ((True, True), (True, False), (False, True)):
        instances = [Instance() for _ in says]
        for instance, answer in zip(instances, says, strict=True):
            instance.says.put(answer)
        answers: SimpleQueue[bool] = SimpleQueue()
        Readiness("m", [instance.check for instance in instances]).ask(answers.put)
        assert answers.get(timeout=60) is all(says)


def test_who_asks_meanwhile_gets_the_same_answer_and_who_asks_later_another_one() -> None:
    instance = Instance()
    readiness = Readiness("m", [instance.check])
    answers: SimpleQueue[bool] = SimpleQueue()
    for _ in range(3):
        readiness.ask(answers.put)
    assert instance.asked.get(timeout=60)
    instance.says.put(True)
    assert [answers.get(timeout=60) for _ in range(3)] == [True] * 3
    assert instance.asked.empty()
    readiness.ask(answers.put)
    instance.says.put(False)
    assert answers.get(timeout=60) is False


@pytest.mark.parametrize("says", [(), (True,), (True, True), (True, False), (False, False)])
def test_several_models_are_ready_if_all_are(says: tuple[bool, ...]) -> None:
    instances = [Instance() for _ in says]
    answers: SimpleQueue[bool] = SimpleQueue()
    ask_all([Readiness("m", [instance.check]) for instance in instances], answers.put)
    for instance, answer in reversed(list(zip(instances, says, strict=True))):
        instance.says.put(answer)
    assert answers.get(timeout=60) is all(says)
