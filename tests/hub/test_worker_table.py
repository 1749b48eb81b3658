"""Which workers load a model, and in which order."""

from __future__ import annotations

from dataclasses import replace

from tensorhub.hub.loads import Load, LoadState
from tensorhub.hub.plans import LoadPlan
from tensorhub.hub.worker_table import WorkerTable, next_loads


def load(number: int, *workers: str, crashes: int = 0, told: tuple[str, ...] = (), ready: tuple[str, ...] = ()) -> Load:
    return Load(number, "m", 1, "", b"", workers, crashes=crashes, told=set(told), ready=set(ready))


def numbers(*loads: Load) -> list[int]:
    return [item.load_id for item in next_loads("cpu0", loads)]


def test_a_worker_is_told_what_it_should_have_and_has_not() -> None:
    retired = load(6, "cpu0")
    retired.state = LoadState.RETIRED
    have, told = load(1, "cpu0", ready=("cpu0",)), load(2, "cpu0", told=("cpu0",))
    assert numbers(have, told, load(4, "cpu0"), load(3, "cpu0", "cpu1"), load(5, "cpu1"), retired) == [3, 4]


def test_a_load_that_has_killed_a_worker_runs_alone() -> None:
    bad = load(1, "cpu0", crashes=1)
    assert numbers(bad, load(2, "cpu0")) == [2], "after the others"
    assert numbers(bad, load(2, "cpu0", told=("cpu0",))) == []
    assert numbers(bad, load(2, "cpu0", ready=("cpu0",)), load(3, "cpu0", crashes=1)) == [1]
    bad.told.add("cpu0")
    assert numbers(bad, load(2, "cpu0")) == []


def test_a_model_goes_where_the_fewest_loads_are() -> None:
    workers = WorkerTable(["cpu0", "cpu1", "gpu0"])
    workers.expect("own-x")
    plan = LoadPlan("m", "", b"", (1,), 1)
    assert workers.choose(plan, [load(1, "cpu0")]) == ("cpu1",)
    assert workers.choose(plan, [load(1, "cpu0"), load(2, "cpu1"), load(3, "cpu1")]) == ("cpu0",)


def test_one_worker_has_a_model_that_keeps_the_order_of_its_responses() -> None:
    workers = WorkerTable(["cpu0", "cpu1", "gpu0"])
    plan = LoadPlan("m", "", b"", (1,), 2)
    assert workers.choose(plan, []) == ("cpu0", "cpu1")
    ordered = replace(plan, keeps_order=True)
    assert workers.choose(ordered, [load(1, "cpu0")]) == ("cpu1",)
    assert workers.choose(replace(ordered, by_device={-1: 2, 0: 2}), []) == ("cpu0", "gpu0")


def test_who_is_there() -> None:
    workers = WorkerTable(["cpu0", "gpu0"])
    assert workers.gpu_missing()
    workers["gpu0"].pid = 7
    assert not workers.gpu_missing()
    assert (workers.running(), workers.running(["cpu0"])) == ([7], [])
    assert (workers.pids, workers.devices) == ({"cpu0": 0, "gpu0": 7}, {"cpu0": -1, "gpu0": 0})
    assert workers.expect("cpu0") is workers["cpu0"]
    workers.remove("cpu0")
    assert "cpu0" not in workers
    assert workers.get("cpu0") is None
