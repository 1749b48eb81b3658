"""What a hub takes over from the one before it."""

from __future__ import annotations

from typing import Any

from tensorhub.hub.bequest import Inheritance
from tensorhub.hub.own_workers import OwnWorker
from tensorhub.hub.plans import LoadPlan
from tensorhub.hub.runtime import RuntimeSettings
from tensorhub.hub.state import HubState
from tensorhub.hub.statistics import StatisticsBook
from tensorhub.option_kinds import Scoped
from tensorhub.protocol import messages, trace_settings
from tensorhub.protocol.trace_settings import TIMESTAMPS, TraceStart


class Hub:
    """The parts that are bequeathed."""

    def __init__(self, start_ns: int, *options: Scoped) -> None:
        self.strings = {"log-verbose": "0", "log-info": "true", "http-port": "8000"}
        self.runtime = RuntimeSettings(self.strings, TraceStart.read(options or [Scoped("triton", "file", "/t")]))
        self.state = HubState(["cpu0"], start_ns)
        self.book = StatisticsBook()
        self.seen: dict[str, str] = {}
        self.inheritance = Inheritance(start_ns, self.runtime, self.state, self.book, self.seen)

    def trace(self, model: str, **values: int | None) -> None:
        self.runtime.change_trace(trace_settings.operation(model, values), known=True)

    def count(self, load_id: int) -> int:
        return int(self.book.total(load_id).statistics.inference_count)


def counted(inferences: int, load_id: int = 7) -> Any:
    load = messages.LoadStatistics(load_id=load_id)
    load.statistics.inference_count = inferences
    return messages.ProcessStatistics(loads=[load])


def first() -> Hub:
    hub = Hub(100)
    hub.runtime.change_log({"log-verbose": "3"})
    hub.trace("", trace_level=TIMESTAMPS, trace_count=5)
    hub.trace("m", trace_rate=2)
    hub.book.reported(1, counted(4))
    hub.book.died(1)
    hub.book.reported(2, counted(50))
    hub.state.inherit_restarts({"worker": 2})
    hub.seen.update(m="as it was")
    return hub


def test_changes_and_the_counts_of_the_dead_are_taken_over() -> None:
    hub, left = Hub(200), first().inheritance.leave(9)
    assert hub.inheritance.take(left)
    assert hub.runtime.log_changes == {"log-verbose": "3"}
    assert hub.strings == {"log-verbose": "3", "log-info": "true", "http-port": "8000"}
    assert hub.runtime.traces.setting().trace_count == 5
    assert hub.runtime.traces.setting("m").trace_rate == 2
    assert hub.state.restarts == {"worker": 2, "http": 0, "grpc": 0}
    assert hub.count(7) == 4, "the living report anew"
    assert hub.seen == {"m": "as it was"}
    hub.book.reported(2, counted(51))
    hub.book.died(2)
    hub.book.reported(3, counted(1))
    third = Hub(300)
    assert third.inheritance.take(hub.inheritance.leave(2))
    assert third.count(7) == 55


def test_the_newest_counts_whatever_comes_first() -> None:
    before = first()
    old = before.inheritance.leave(9)
    before.runtime.change_log({"log-info": "false"})
    before.trace("", trace_level=None, trace_count=None)
    new = before.inheritance.leave(10)
    for order in ((old, new), (new, old), (new, new)):
        hub = Hub(200)
        assert [hub.inheritance.take(data) for data in order].count(True) == (2 if order[0] is old else 1)
        assert hub.runtime.log_changes == {"log-verbose": "3", "log-info": "false"}
        assert hub.runtime.traces.setting().trace_count == -1
        assert hub.count(7) == 4
    hub = Hub(200)
    hub.inheritance.take(first().inheritance.leave(1000))
    later = Hub(150)
    assert hub.inheritance.take(later.inheritance.leave(1)), "revisions begin anew with each hub"
    assert hub.runtime.log_changes == {}
    assert hub.strings["log-verbose"] == "0"


def test_what_a_client_has_changed_since_stays() -> None:
    hub = Hub(200)
    hub.runtime.change_log({"log-verbose": "1"})
    hub.trace("", trace_rate=3)
    assert hub.inheritance.take(first().inheritance.leave(9))
    assert hub.runtime.log_changes == {"log-verbose": "1"}
    assert hub.runtime.traces.setting().trace_rate == 3
    assert hub.runtime.traces.setting().trace_count == -1
    assert hub.count(7) == 4


def test_the_models_of_the_newest_snapshot_are_known() -> None:
    before = first()
    old, new = before.inheritance.leave(9), before.inheritance.leave(10)
    for order in (((old, "old"), (new, "new"), (new, "")), ((new, "new"), (old, "old"))):
        hub = Hub(200)
        for data, name in order:
            hub.inheritance.take(data, [messages.message_class("tensorhub.wire.Model")(name=name)] if name else ())
        assert [model.name for model in hub.inheritance.known] == ["new"]


def test_the_next_hub_expects_the_workers_of_models_own() -> None:
    before = first()
    own = LoadPlan("m", "/m", b"", [1], 1, own_worker=OwnWorker("own-m", "/environment"))
    before.state.load(own, None, 0)
    hub = Hub(200)
    hub.inheritance.take(before.inheritance.leave(9))
    assert hub.state.lifecycle.workers.pids == {"cpu0": 0, "own-m": 0}
    assert hub.state.lifecycle.workers["own-m"].environment == "/environment"


def test_its_own_and_nothing_are_no_bequest() -> None:
    hub = Hub(200)
    assert not hub.inheritance.take(b"")
    assert not hub.inheritance.take(hub.inheritance.leave(3))


def test_a_count_that_has_run_out_stays_run_out() -> None:
    before = Hub(100)
    before.trace("", trace_level=TIMESTAMPS, trace_count=1)
    assert before.runtime.traces.take("m")
    hub = Hub(200)
    hub.inheritance.take(before.inheritance.leave(1))
    assert hub.runtime.traces.setting("m") == before.runtime.traces.setting("m")
    assert not hub.runtime.traces.take("m")


def test_a_hub_that_cannot_trace_takes_over_no_level() -> None:
    hub = Hub(200, Scoped("", "rate", "7"))
    hub.inheritance.take(first().inheritance.leave(1))
    assert not hub.runtime.traces.setting().active
    assert hub.runtime.traces.setting("m").trace_rate == 2


def test_loads_that_are_gone_are_not_bequeathed_for_ever() -> None:
    hub = Hub(200)
    hub.inheritance.take(first().inheritance.leave(1))
    hub.book.keep({8})
    assert hub.book.buried() == []
