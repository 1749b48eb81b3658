"""Which loads follow from what clients want and workers say; time is an argument."""

from typing import Any

import pytest

from tensorhub.errors import TensorhubError
from tensorhub.hub import inventory
from tensorhub.hub.actions import Action, Answer, Asker, Send
from tensorhub.hub.lifecycle import Lifecycle
from tensorhub.hub.loads import LoadState
from tensorhub.hub.plans import LoadFailure, LoadPlan
from tensorhub.protocol import messages

ASKER = Asker("HTTP", 500, 1, 1)
OTHER = Asker("GRPC", 600, 2, 1)
SECOND_NS = 1_000_000_000


def _plan(fingerprint: str = "", versions: tuple[int, ...] = (1,), instances: int = 1) -> LoadPlan:
    return LoadPlan("m", "/r/m", b"", versions, instances, fingerprint=fingerprint)


def _orders(actions: list[Action], kind: str) -> list[Any]:
    return [
        getattr(action.order, kind)
        for action in actions
        if isinstance(action, Send) and action.order.WhichOneof("order") == kind
    ]


def _answers(actions: list[Action]) -> list[tuple[Asker, TensorhubError | None]]:
    return [(action.asker, action.error) for action in actions if isinstance(action, Answer)]


def _report(life: Lifecycle, load_id: int, state: str, *, worker: str = "cpu0", code: int = 0) -> list[Action]:
    news = messages.ModelVersion(model="m", version=1, load_id=load_id, state=state, reason="at work")
    return life.reported(worker, messages.Report(code=code, message="broken" if code else "", model=news))


def _states(life: Lifecycle, now_ns: int = 0) -> list[tuple[int, str, str]]:
    return [
        (item.version, item.state, item.reason)
        for item in inventory.index(life.models, ["m"], [], life.workers.pids, now_ns)
    ]


def _with_worker() -> Lifecycle:
    life = Lifecycle(["cpu0"], 1)
    life.worker_joined("cpu0", 10, [])
    return life


def _serving(fingerprint: str = "a") -> tuple[Lifecycle, int]:
    life = _with_worker()
    (order,) = _orders(life.load(_plan(fingerprint), None, 0), "load_model")
    _report(life, order.load_id, "READY")
    return life, order.load_id


def test_the_same_again_loads_nothing() -> None:
    life, _ = _serving()
    actions = life.load(_plan("a"), ASKER, 0)
    assert _answers(actions) == [(ASKER, None)]
    assert _orders(actions, "load_model") == []


def test_without_a_fingerprint_nothing_is_the_same() -> None:
    life, _ = _serving("")
    assert len(_orders(life.load(_plan(""), ASKER, 0), "load_model")) == 1


def test_two_clients_that_want_the_same_share_one_load() -> None:
    life = _with_worker()
    (order,) = _orders(life.load(_plan("a"), ASKER, 0), "load_model")
    assert life.load(_plan("a"), OTHER, 0) == []
    assert _answers(_report(life, order.load_id, "READY")) == [(ASKER, None), (OTHER, None)]


def test_a_changed_version_policy_keeps_what_it_keeps() -> None:
    life = _with_worker()
    for order in _orders(life.load(_plan("a", (1, 2)), None, 0), "load_model"):
        _report(life, order.load_id, "READY")
    actions = life.load(_plan("a", (2, 3)), ASKER, 0)
    (order,) = _orders(actions, "load_model")
    assert order.version == 3
    assert _states(life)[:2] == [(1, "READY", ""), (2, "READY", "")]
    done = _report(life, order.load_id, "READY")
    assert _answers(done) == [(ASKER, None)]
    assert len(_orders(done, "unload_model")) == 1
    assert _states(life) == [(1, "UNLOADING", ""), (2, "READY", ""), (3, "READY", "")]


def test_a_load_is_retired_only_when_everybody_knows_the_next() -> None:
    life, old = _serving()
    (order,) = _orders(life.load(_plan("b"), None, 0), "load_model")
    (send,) = [action for action in _report(life, order.load_id, "READY") if isinstance(action, Send)]
    assert send.after_snapshot
    assert send.order.unload_model.load_id == old
    assert life.loads[old].state is LoadState.RETIRED
    _report(life, old, "UNAVAILABLE")
    assert list(life.loads) == [order.load_id]


def test_a_newer_plan_takes_the_place_of_one_under_way() -> None:
    life = _with_worker()
    (first,) = _orders(life.load(_plan("a"), ASKER, 0), "load_model")
    actions = life.load(_plan("b"), OTHER, 0)
    (second,) = _orders(actions, "load_model")
    assert [item.load_id for item in _orders(actions, "unload_model")] == [first.load_id]
    assert _report(life, first.load_id, "READY") == []  # it crossed the order; the worker's last word follows
    assert life.loads[first.load_id].held
    _report(life, first.load_id, "UNAVAILABLE")
    assert list(life.loads) == [second.load_id]
    assert _answers(_report(life, second.load_id, "READY")) == [(ASKER, None), (OTHER, None)]


def test_unloading_what_is_being_loaded_tells_who_waits() -> None:
    life = _with_worker()
    life.load(_plan("a"), ASKER, 0)
    ((asker, error),) = _answers(life.unload("m"))
    assert asker is ASKER
    assert error is not None
    assert "out-dated" in error.message
    assert _states(life) == [(1, "UNLOADING", "")]


def test_a_failure_stays_the_reason_after_an_unload() -> None:
    life = _with_worker()
    (order,) = _orders(life.load(_plan("a"), None, 0), "load_model")
    _report(life, order.load_id, "UNAVAILABLE", code=2)
    assert life.loads == {}
    life.unload("m")
    assert _states(life) == [(1, "UNAVAILABLE", "Internal: broken")]


def test_a_failed_load_is_tried_again_when_it_is_asked_for_again() -> None:
    life = _with_worker()
    (order,) = _orders(life.load(_plan("a"), None, 0), "load_model")
    _report(life, order.load_id, "UNAVAILABLE", code=2)
    assert len(_orders(life.load(_plan("a"), None, 0), "load_model")) == 1


def test_the_index_says_what_a_long_load_is_at_and_for_how_long() -> None:
    life = _with_worker()
    (order,) = _orders(life.load(_plan("a"), None, 5 * SECOND_NS), "load_model")
    assert _states(life, 5 * SECOND_NS) == [(1, "LOADING", "")]
    _report(life, order.load_id, "LOADING")
    assert _states(life, 17 * SECOND_NS) == [(1, "LOADING", "loading for 12 s: at work on cpu0")]
    _report(life, order.load_id, "READY")
    assert _states(life, 18 * SECOND_NS) == [(1, "READY", "")]


def test_a_worker_that_dies_while_it_serves_gets_its_load_back() -> None:
    life, load_id = _serving()
    life.worker_died("cpu0")
    assert life.loads[load_id].state is LoadState.RESTORING
    assert _states(life)[0][1] == "LOADING"
    (order,) = _orders(life.worker_joined("cpu0", 11, []), "load_model")
    assert order.load_id == load_id
    _report(life, load_id, "READY")
    assert life.loads[load_id].state is LoadState.SERVING


def test_a_retired_load_does_not_outlive_its_worker() -> None:
    life, load_id = _serving()
    life.unload("m")
    assert load_id in life.loads
    life.worker_died("cpu0")
    assert life.loads == {}
    assert _states(life) == [(1, "UNAVAILABLE", "unloaded")]


def _told(state: str, load_id: int = 0, shares: tuple[str, ...] = (), wanted: bool = True) -> Any:
    """What the last snapshot of another hub said of the model."""
    told = messages.message_class("tensorhub.wire.Model")(name="m", wanted=wanted, known=True)
    told.versions.add(
        model="m",
        version=1,
        state=state,
        reason="unloaded" if state == "UNAVAILABLE" else "",
        load_id=load_id,
        shares=shares,
        path="/r/m",
        config=b"final",
        overridden=True,
        fingerprint="a",
    )
    return told


def _has(load_id: int, state: str = "READY") -> list[Any]:
    return [messages.ModelVersion(model="m", version=1, load_id=load_id, state=state, path="/r/m", fingerprint="a")]


def test_a_new_hub_hears_what_was_unloaded() -> None:
    life = Lifecycle(["cpu0"], 1)
    life.restore([_told("UNAVAILABLE", wanted=False)])
    assert _states(life) == [(1, "UNAVAILABLE", "unloaded")]
    assert not life.models["m"].wanted
    assert life.begin([_plan("a")], [], 0) == []


def test_a_new_hub_loads_what_was_being_loaded_and_no_worker_has() -> None:
    life = _with_worker()
    assert life.restore([_told("LOADING")]) == []
    assert len(_orders(life.begin([_plan("a")], [], 0), "load_model")) == 1


def test_a_share_is_loaded_again_whose_worker_has_died_with_the_hub() -> None:
    life = Lifecycle(["cpu0", "cpu1", "cpu2"], 1)
    life.worker_joined("cpu1", 11, _has(77))
    life.worker_joined("cpu0", 10, [])
    (order,) = _orders(life.restore([_told("READY", 77, ("cpu0", "cpu1", "cpu2"))]), "load_model")
    assert (order.load_id, order.share_index, order.share_count) == (77, 0, 3)
    assert life.begin([_plan("a")], [], 0) == [], "it is the same"
    assert life.models["m"].versions[1].state()[0] == "READY", "one worker has it"
    (order,) = _orders(life.worker_joined("cpu2", 12, []), "load_model")
    assert (order.load_id, order.share_index) == (77, 2)
    assert life.loads[77].state is LoadState.RESTORING
    _report(life, 77, "READY")
    _report(life, 77, "READY", worker="cpu2")
    assert life.loads[77].state is LoadState.SERVING


def test_a_model_comes_back_whose_only_worker_has_died_with_the_hub() -> None:
    life = Lifecycle(["cpu0"], 1)
    life.restore([_told("READY", 77, ("cpu0",))])
    assert _states(life) == [(1, "LOADING", "the worker process is being restarted")]
    (order,) = _orders(life.worker_joined("cpu0", 10, []), "load_model")
    assert (order.load_id, order.config, order.overridden, order.path) == (77, b"final", True, "/r/m")
    _report(life, 77, "READY")
    assert _states(life) == [(1, "READY", "")]
    (order,) = _orders(life.load(_plan("b"), None, 0), "load_model")
    assert order.load_id > 77


def test_a_worker_that_had_the_load_may_come_late() -> None:
    life = Lifecycle(["cpu0", "cpu1"], 1)
    life.worker_joined("cpu0", 10, [])
    life.restore([_told("READY", 77, ("cpu1",))])
    assert _orders(life.worker_joined("cpu1", 11, _has(77)), "load_model") == []
    assert life.loads[77].state is LoadState.SERVING


def test_what_served_while_a_share_was_loaded_again_goes_on_to_serve() -> None:
    life = Lifecycle(["cpu0", "cpu1"], 1)
    life.worker_joined("cpu0", 10, _has(77, "LOADING"))
    life.worker_joined("cpu1", 11, _has(77))
    life.restore([_told("READY", 77, ("cpu0", "cpu1"))])
    assert _states(life) == [(1, "READY", "")]
    _report(life, 77, "READY")
    assert life.loads[77].state is LoadState.SERVING


def test_workers_know_better_what_serves() -> None:
    life = Lifecycle(["cpu0"], 1)
    life.worker_joined("cpu0", 10, _has(78))
    assert life.restore([_told("READY", 77, ("cpu0",))]) == []
    assert life.models["m"].versions[1].current is life.loads[78]
    assert life.loads.keys() == {78}


def test_what_a_worker_was_told_to_let_go_is_not_restored() -> None:
    life = Lifecycle(["cpu0"], 1)
    life.worker_joined("cpu0", 10, _has(77, "UNLOADING"))
    life.restore([_told("READY", 77, ("cpu0",))])
    assert life.loads[77].state is LoadState.RETIRED
    assert not life.models["m"].wanted


def test_a_load_whose_workers_are_not_of_this_server_is_not_waited_for() -> None:
    life = Lifecycle(["cpu0"], 1)
    life.restore([_told("READY", 77, ("cpu7",))])
    assert life.loads == {}
    assert life.models == {}


def test_workers_of_models_own_are_kept_until_it_is_known_what_they_are_for() -> None:
    life = Lifecycle(["cpu0"], 1)
    life.workers.expect("own-m")
    life.workers.expect("own-n")
    life.worker_joined("own-m", 11, [])
    (order,) = _orders(life.restore([_told("READY", 77, ("own-m",))]), "load_model")
    assert order.load_id == 77
    assert life.begin([], [], 0) == []
    assert life.workers.pids == {"cpu0": 0, "own-m": 11}


@pytest.mark.parametrize("order", [(7, 8), (8, 7)])
def test_a_new_hub_finishes_a_switch_that_the_old_one_began(order: tuple[int, int]) -> None:
    def news(load_id: int) -> Any:
        return messages.ModelVersion(model="m", version=1, load_id=load_id, state="READY", path="/r/m")

    life = Lifecycle(["cpu0"], 1)
    actions = life.worker_joined("cpu0", 10, [news(load_id) for load_id in order])
    assert life.models["m"].versions[1].current is life.loads[8]
    assert life.loads[7].state is LoadState.RETIRED
    assert [item.load_id for item in _orders(actions, "unload_model")] == [7]


def _news(load_id: int, state: str = "READY") -> Any:
    return messages.ModelVersion(model="m", version=1, load_id=load_id, state=state, path="/r/m")


def _unloads(actions: list[Action]) -> list[tuple[int, int]]:
    """To which process, and of which load."""
    return [
        (action.pid, action.order.unload_model.load_id)
        for action in actions
        if isinstance(action, Send) and action.order.HasField("unload_model")
    ]


def test_a_new_hub_finishes_a_switch_on_all_workers() -> None:
    """Each of them has both; the second one comes when the first has been told to let the old one go."""
    life = Lifecycle(["cpu0", "cpu1"], 1)
    assert _unloads(life.worker_joined("cpu0", 10, [_news(7), _news(8)])) == [(10, 7)]
    assert _unloads(life.worker_joined("cpu1", 11, [_news(7), _news(8)])) == [(11, 7)]
    assert life.models["m"].versions[1].current is life.loads[8]
    for worker in ("cpu0", "cpu1"):
        _report(life, 7, "UNAVAILABLE", worker=worker)
    assert list(life.loads) == [8]


@pytest.mark.parametrize("state", ["UNAVAILABLE", "READY"])
def test_what_a_worker_was_letting_go_does_not_come_back_with_a_new_hub(state: str) -> None:
    """It drains, or was given up while it was being loaded, so that it may still say that it has it."""
    life = Lifecycle(["cpu0"], 1)
    life.worker_joined("cpu0", 10, [_news(7, "UNLOADING")])
    assert _states(life) == [(1, "UNLOADING", "")]
    assert not life.models["m"].wanted
    assert _report(life, 7, state) == []
    assert _states(life)[0][1] != "READY"
    assert _report(life, 7, "UNAVAILABLE") == []
    assert _states(life) == [(1, "UNAVAILABLE", "unloaded")]
    assert life.loads == {}


def test_what_one_worker_lets_go_is_let_go_by_the_others() -> None:
    life = Lifecycle(["cpu0", "cpu1", "cpu2"], 1)
    assert _unloads(life.worker_joined("cpu0", 10, [_news(7)])) == []
    assert (10, 7) in _unloads(life.worker_joined("cpu1", 11, [_news(7, "UNLOADING")]))
    assert _unloads(life.worker_joined("cpu2", 12, [_news(7)])) == [(12, 7)]
    assert _states(life) == [(1, "UNLOADING", "")]


@pytest.mark.parametrize("frontend_first", [True, False])
def test_an_unload_that_no_worker_has_heard_of_is_not_forgotten_with_the_hub(frontend_first: bool) -> None:
    """Clients were told that it is gone: the frontends know its load."""
    before, load_id = _serving()
    before.unload("m")
    told = before.models["m"].show(before.workers.pids)
    life = Lifecycle(["cpu0"], 1)
    news = _news(load_id)
    actions = life.adopt_settled([told]) if frontend_first else life.worker_joined("cpu0", 10, [news])
    actions += life.worker_joined("cpu0", 10, [news]) if frontend_first else life.adopt_settled([told])
    assert _unloads(actions) == [(10, load_id)]
    assert _states(life) == [(1, "UNLOADING", "")]
    assert not life.models["m"].wanted


def test_what_was_loaded_anew_is_wanted_whatever_the_frontends_saw_before() -> None:
    told = messages.message_class("tensorhub.wire.Model")(name="m", wanted=False, known=True)
    told.versions.add(version=1, state="UNLOADING", load_id=7)
    life = Lifecycle(["cpu0"], 1)
    life.adopt_settled([told])
    life.worker_joined("cpu0", 10, [_news(7, "UNLOADING"), _news(8)])
    assert _states(life) == [(1, "READY", "")]
    assert life.models["m"].wanted


@pytest.mark.parametrize("known", [True, False])
def test_a_model_that_cannot_be_tried_does_not_count(known: bool) -> None:
    life = _with_worker()
    life.cannot_load(LoadFailure("m", "no", known))
    assert not life.models["m"].wanted
    assert _states(life) == ([] if known else [(0, "", "")])


def test_a_model_that_is_in_two_repositories_says_so() -> None:
    life = _with_worker()
    (entry,) = inventory.index(life.models, ["m"], ["m"], life.workers.pids, 0)
    assert (entry.version, entry.state) == (0, "UNAVAILABLE")
    assert "two or more" in entry.reason
