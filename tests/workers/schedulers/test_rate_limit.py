"""The rate limiter: who starts when, and that nobody takes what is not there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorhub.errors import InvalidArgument
from tensorhub.option_kinds import EVERY_DEVICE
from tensorhub.workers.schedulers.rate_limit import GLOBAL_DEVICE, Needs, RateLimiter, ResourceKey

R, S = ResourceKey("R", 0), ResourceKey("S", 0)


def test_instances_that_share_a_resource_run_one_after_the_other() -> None:
    limiter = RateLimiter()
    limiter.add({"a": Needs({R: 1}), "b": Needs({R: 1}), "c": Needs()})
    assert limiter.stage("a") == ["a"]
    assert limiter.stage("b") == []
    assert limiter.stage("c") == ["c"]
    assert limiter.finished("c") == []
    assert limiter.finished("a") == ["b"]


def test_there_is_as_much_as_the_greediest_needs_or_the_command_line_says() -> None:
    limiter = RateLimiter()
    limiter.add({"a": Needs({R: 2}), "b": Needs({R: 1}), "c": Needs({R: 1})})
    assert [limiter.stage(key) for key in "bca"] == [["b"], ["c"], []]
    limiter = RateLimiter({ResourceKey("R", EVERY_DEVICE): 3})
    limiter.add({"a": Needs({R: 2}), "b": Needs({R: 1})})
    assert [limiter.stage(key) for key in "ab"] == [["a"], ["b"]]


def test_a_higher_number_runs_less_often() -> None:
    limiter = RateLimiter()
    limiter.add({"a": Needs({R: 1}, 1), "b": Needs({R: 1}, 2)})
    running = limiter.stage("a")
    limiter.stage("b")
    order = []
    for _ in range(9):
        (key,) = running
        order.append(key)
        running = limiter.stage(key) or limiter.finished(key)
    assert order.count("a") == 6
    assert order.count("b") == 3


def test_nobody_saves_up_what_was_not_used() -> None:
    limiter = RateLimiter()
    limiter.add({"a": Needs({R: 1}), "b": Needs({R: 1})})
    running = limiter.stage("a")
    for _ in range(100):
        assert running == ["a"]
        running = limiter.stage("a") or limiter.finished("a")
    limiter.add({"new": Needs({R: 1})})
    limiter.stage("b")
    limiter.stage("new")
    order = []
    for _ in range(9):
        (key,) = running
        order.append(key)
        running = limiter.stage(key) or limiter.finished(key)
    assert {name: order.count(name) for name in ("a", "b", "new")} == {"a": 3, "b": 3, "new": 3}


def test_those_behind_wait_only_for_what_they_want_as_well() -> None:
    limiter = RateLimiter()
    limiter.add(
        {"a": Needs({R: 1}), "both": Needs({R: 1, S: 1}), "s": Needs({S: 1}), "other": Needs({ResourceKey("T", 0): 1})}
    )
    assert limiter.stage("a") == ["a"]
    assert limiter.stage("both") == []
    assert limiter.stage("s") == [], "it would keep the one before it waiting"
    assert limiter.stage("other") == ["other"]
    assert limiter.finished("a") == ["both"]
    assert limiter.finished("both") == ["s"]


def test_errors() -> None:
    limiter = RateLimiter({ResourceKey("R", EVERY_DEVICE): 1})
    with pytest.raises(
        InvalidArgument, match=r'^Resource count for "R" is limited to 1 which will prevent scheduling of one'
    ):
        limiter.add({"a": Needs({R: 2})})
    limiter.add({"a": Needs({R: 1})})
    with pytest.raises(InvalidArgument, match=r'^Resource "R" is present as both global and device-specific resource'):
        limiter.add({"b": Needs({ResourceKey("R", GLOBAL_DEVICE): 1})})
    limiter.remove(["a"])
    with pytest.raises(InvalidArgument, match=r'^Resource count for "S" is limited to 0'):
        limiter.add({"c": Needs({S: 1})})


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=60))
def test_nobody_takes_what_is_not_there_and_everybody_gets_a_turn(steps: list[tuple[bool, int]]) -> None:
    needs = [Needs({R: 1}), Needs({R: 2}, 2), Needs({R: 1, S: 1}), Needs({S: 1}, 3)]
    limiter = RateLimiter()
    limiter.add(dict(enumerate(needs)))
    staged: set[int] = set()
    running: set[int] = set()

    def start(keys: list[object]) -> None:
        for key in keys:
            assert isinstance(key, int)
            staged.remove(key)
            running.add(key)
        for resource, total in ((R, 2), (S, 1)):
            assert sum(needs[key].resources.get(resource, 0) for key in running) <= total

    for is_stage, which in steps:
        if is_stage and which not in staged | running:
            staged.add(which)
            start(limiter.stage(which))
        elif not is_stage and which in running:
            running.remove(which)
            start(limiter.finished(which))
    for _ in range(10):
        for key in sorted(running):
            running.remove(key)
            start(limiter.finished(key))
    assert not staged
    assert not running
