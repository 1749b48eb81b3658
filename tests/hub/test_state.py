"""The hub's decisions: events in, actions out."""

from typing import Any

import pytest

from tensorhub.errors import AlreadyExists, TensorhubError
from tensorhub.frontend.catalog import Catalog
from tensorhub.hub.actions import Action, Answer, Asker, Send
from tensorhub.hub.lifecycle import CRASH_LIMIT
from tensorhub.hub.plans import LoadFailure, LoadPlan
from tensorhub.hub.state import HubState
from tensorhub.protocol import messages

ASKER = Asker("HTTP", 500, 1, 1)
NOW_NS = 1_000_000_000
HUB = messages.Process(role="HUB", pid=1, start_ticks=1)


def _hello(role: str, pid: int, name: str = "", *models: Any, rejoining: bool = False) -> Any:
    hello = messages.Hello(rejoining=rejoining)
    hello.process.role, hello.process.pid, hello.process.name = role, pid, name
    hello.models.extend(models)
    return hello


def _plan(model: str = "m", versions: tuple[int, ...] = (1,), instances: int = 1) -> LoadPlan:
    return LoadPlan(model, f"/r/{model}", b"", versions, instances)


def _orders(actions: list[Action], kind: str) -> list[tuple[int, Any]]:
    return [
        (action.pid, getattr(action.order, kind))
        for action in actions
        if isinstance(action, Send) and action.order.WhichOneof("order") == kind
    ]


def _answers(actions: list[Action]) -> list[TensorhubError | None]:
    return [action.error for action in actions if isinstance(action, Answer)]


def _ready(state: HubState, pid: int, order: Any) -> list[Action]:
    news = messages.ModelVersion(model=order.model, version=order.version, state="READY", load_id=order.load_id)
    return state.reported(pid, messages.Report(model=news), 0)


def _failed(state: HubState, pid: int, order: Any, text: str = "no") -> list[Action]:
    news = messages.ModelVersion(model=order.model, version=order.version, load_id=order.load_id)
    return state.reported(pid, messages.Report(code=4, message=text, model=news), 0)


def _catalog(state: HubState) -> Catalog:
    return Catalog(state.publish(HUB, {}))


def _serving(state: HubState) -> Any:
    """Load version 1 of m on worker 10, and return the order."""
    state.hello(_hello("WORKER", 10, "cpu0"))
    ((_, order),) = _orders(state.begin([_plan()], [], NOW_NS), "load_model")
    _ready(state, 10, order)
    return order


def test_models_wait_for_their_worker_and_then_serve() -> None:
    state = HubState(["cpu0"], 100)
    assert state.begin([_plan()], [], NOW_NS) == []
    assert not state.started
    ((pid, order),) = _orders(state.hello(_hello("WORKER", 10, "cpu0")), "load_model")
    assert (pid, order.model, order.version, order.load_id) == (10, "m", 1, 100)
    assert not _catalog(state).ready
    _ready(state, 10, order)
    catalog = _catalog(state)
    assert state.started
    assert catalog.ready
    assert catalog.find("m").workers == (10,)


def test_a_model_that_cannot_be_tried_does_not_stop_the_others() -> None:
    state = HubState(["cpu0"], 1)
    state.hello(_hello("WORKER", 10, "cpu0"))
    ((_, order),) = _orders(state.begin([_plan()], [LoadFailure("bad", "why", False)], NOW_NS), "load_model")
    _ready(state, 10, order)
    catalog = _catalog(state)
    assert catalog.live
    assert catalog.ready  # a config that cannot be read does not count, as in Triton
    assert catalog.find("m").ready
    assert catalog.models["bad"].reason == "why"


def test_a_reload_switches_when_it_is_ready_and_lets_the_old_one_go() -> None:
    state = HubState(["cpu0"], 1)
    old = _serving(state)
    actions = state.load(_plan(), ASKER, NOW_NS)
    ((_, new),) = _orders(actions, "load_model")
    assert _answers(actions) == []
    assert _catalog(state).find("m").load_id == old.load_id
    actions = _ready(state, 10, new)
    assert _answers(actions) == [None]
    assert _catalog(state).find("m").load_id == new.load_id
    assert [item.load_id for _, item in _orders(actions, "unload_model")] == [old.load_id]


def test_a_failed_reload_leaves_the_old_one_serving() -> None:
    state = HubState(["cpu0"], 1)
    old = _serving(state)
    ((_, new),) = _orders(state.load(_plan(), ASKER, NOW_NS), "load_model")
    (error,) = _answers(_failed(state, 10, new, "broken"))
    assert error is not None
    assert error.message == (
        "load failed for model 'm': version 1 is at UNAVAILABLE state: Invalid argument: broken;\n"
    )
    assert _catalog(state).find("m").load_id == old.load_id


def test_no_version_is_served_if_one_of_them_fails() -> None:
    state = HubState(["cpu0"], 1)
    state.hello(_hello("WORKER", 10, "cpu0"))
    (_, first), (_, second) = _orders(state.load(_plan(versions=(1, 2)), ASKER, NOW_NS), "load_model")
    assert _answers(_ready(state, 10, first)) == []
    actions = _failed(state, 10, second)
    assert len(_answers(actions)) == 1
    assert {item.load_id for _, item in _orders(actions, "unload_model")} >= {first.load_id}
    assert _catalog(state).models["m"].ready_versions == []


def test_an_unload_is_over_when_the_worker_says_so() -> None:
    state = HubState(["cpu0"], 1)
    order = _serving(state)
    actions = state.unload("m")
    assert [item.load_id for _, item in _orders(actions, "unload_model")] == [order.load_id]
    assert _catalog(state).models["m"].versions[1].state == "UNLOADING"
    news = messages.ModelVersion(model="m", version=1, load_id=order.load_id, state="UNAVAILABLE", reason="unloaded")
    state.reported(10, messages.Report(model=news), 0)
    version = _catalog(state).models["m"].versions[1]
    assert (version.state, version.reason) == ("UNAVAILABLE", "unloaded")
    assert state.unload("never heard of") == []


def test_a_restarted_worker_gets_its_models_and_regions_back() -> None:
    state = HubState(["cpu0"], 1)
    order = _serving(state)
    region = messages.SystemRegion(name="r", key="/k", byte_size=64)
    (send,) = state.register("system", region, ASKER)
    assert isinstance(send, Send)
    assert _answers(state.reported(10, messages.Report(), send.request_id)) == [None]
    state.died(10)
    assert not _catalog(state).models["m"].ready_versions
    actions = state.hello(_hello("WORKER", 11, "cpu0"))
    assert [item.load_id for _, item in _orders(actions, "load_model")] == [order.load_id]
    assert [item.region.name for _, item in _orders(actions, "open_system_region")] == ["r"]
    _ready(state, 11, order)
    assert _catalog(state).find("m").workers == (11,)


def test_a_model_that_kills_its_worker_is_given_up() -> None:
    state = HubState(["cpu0"], 1)
    state.hello(_hello("WORKER", 10, "cpu0"))
    state.begin([_plan()], [], NOW_NS)
    for pid in range(10, 10 + CRASH_LIMIT):
        assert not state.started
        state.hello(_hello("WORKER", pid, "cpu0"))
        state.died(pid)
    assert state.started
    assert "died while it loaded" in _catalog(state).models["m"].versions[1].reason
    assert _orders(state.hello(_hello("WORKER", 99, "cpu0")), "load_model") == []


def test_a_new_hub_takes_over_what_the_workers_have() -> None:
    state = HubState(["cpu0"], 1)
    news = messages.ModelVersion(model="m", version=3, state="READY", load_id=77, path="/r/m")
    hello = _hello("WORKER", 10, "cpu0", news, rejoining=True)
    hello.system_regions.add(name="r", key="/k", byte_size=64)
    assert state.hello(hello) == []
    assert state.lifecycle.rejoined
    assert state.begin([_plan(versions=(3,))], [], NOW_NS) == []
    catalog = _catalog(state)
    assert catalog.find("m").load_id == 77
    assert list(catalog.system_regions()) == ["r"]
    with pytest.raises(AlreadyExists):
        state.register("system", messages.SystemRegion(name="r"), ASKER)


def test_instances_are_shared_by_workers() -> None:
    state = HubState(["cpu0", "cpu1"], 1)
    state.hello(_hello("WORKER", 10, "cpu0"))
    state.hello(_hello("WORKER", 11, "cpu1"))
    orders = _orders(state.load(_plan(instances=5), ASKER, NOW_NS), "load_model")
    assert [(pid, order.share_index, order.share_count) for pid, order in orders] == [(10, 0, 2), (11, 1, 2)]
    assert _answers(_ready(state, 10, orders[0][1])) == []
    assert _answers(_ready(state, 11, orders[1][1])) == [None]
    assert _catalog(state).find("m").workers == (10, 11)


def test_a_failed_registration_frees_its_name_before_the_client_hears_of_it() -> None:
    state = HubState(["cpu0", "cpu1"], 1)
    state.hello(_hello("WORKER", 10, "cpu0"))
    state.hello(_hello("WORKER", 11, "cpu1"))
    region = messages.SystemRegion(name="r", key="/k", byte_size=64)
    first, second = state.register("system", region, ASKER)
    assert isinstance(first, Send)
    assert isinstance(second, Send)
    assert state.reported(10, messages.Report(), first.request_id) == []
    closing = state.reported(11, messages.Report(code=2, message="no"), second.request_id)
    assert _answers(closing) == []
    sends = [action for action in closing if isinstance(action, Send)]
    assert [send.order.WhichOneof("order") for send in sends] == ["close_region", "close_region"]
    assert state.reported(10, messages.Report(), sends[0].request_id) == []
    (error,) = _answers(state.reported(11, messages.Report(), sends[1].request_id))
    assert error is not None
    assert error.message == "no"
    assert list(state.regions.shown()) == []


def test_the_death_of_a_worker_does_not_hold_a_registration_up() -> None:
    state = HubState(["cpu0", "cpu1"], 1)
    state.hello(_hello("WORKER", 10, "cpu0"))
    state.hello(_hello("WORKER", 11, "cpu1"))
    first, _ = state.register("system", messages.SystemRegion(name="r"), ASKER)
    assert isinstance(first, Send)
    assert state.reported(10, messages.Report(), first.request_id) == []
    assert _answers(state.died(11)) == [None]


def test_unregister_of_all_takes_one_kind_only() -> None:
    state = HubState(["cpu0"], 1)
    state.hello(_hello("WORKER", 10, "cpu0"))
    for kind, name in (("system", "a"), ("system", "b"), ("cuda", "c")):
        message = messages.SystemRegion(name=name) if kind == "system" else messages.CudaRegion(name=name)
        (send,) = state.register(kind, message, ASKER)
        assert isinstance(send, Send)
        state.reported(10, messages.Report(), send.request_id)
    sends = [action for action in state.unregister("system", "", "", ASKER) if isinstance(action, Send)]
    answers = [answer for send in sends for answer in _answers(state.reported(10, messages.Report(), send.request_id))]
    assert answers == [None]
    assert [region.message.name for region in state.regions.shown()] == ["c"]
    assert _answers(state.unregister("system", "", "c", ASKER)) == [None]
    assert [region.message.name for region in state.regions.shown()] == ["c"]


def test_frontends_acknowledge_what_clients_wait_for() -> None:
    state = HubState([], 1)
    state.hello(_hello("HTTP", 20))
    state.hello(_hello("GRPC", 21))
    state.hello(_hello("TOOL", 22))
    state.publish(HUB, {})
    state.acknowledged(20, 1)
    assert not state.all_have(1)
    state.acknowledged(21, 1)
    assert state.all_have(1)
    state.died(21)
    assert not state.all_have(2)


def test_looking_at_the_state_does_not_change_it() -> None:
    state = HubState([], 1)
    assert state.dirty
    before = state.revision
    state.snapshot(HUB, {})
    assert (state.dirty, state.revision) == (True, before)
