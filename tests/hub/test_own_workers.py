"""Workers that one model has to itself: who gets one, when it is started, and when it ends."""

from typing import Any

import pytest
from google.protobuf import text_format

from tensorhub.errors import InvalidArgument
from tensorhub.hub.actions import Action, Send
from tensorhub.hub.own_workers import OwnWorker, is_own, own_worker
from tensorhub.hub.plans import LoadPlan
from tensorhub.hub.state import HubState
from tensorhub.protocol import messages

NOW_NS = 1_000_000_000
HUB = messages.Process(role="HUB", pid=1, start_ticks=1)
OWN = OwnWorker("own-m", "/env")


def config(backend: str, **parameters: str) -> Any:
    result = messages.ModelConfig(name="m", backend=backend)
    for name, value in parameters.items():
        text_format.Parse(f'parameters {{ key: "{name}" value {{ string_value: "{value}" }} }}', result)
    return result


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (config("python"), None),
        (config("python", ISOLATE="no"), None),
        (config("onnxruntime", ISOLATE="Yes"), OwnWorker("own-m")),
        (config("onnxruntime", EXECUTION_ENV_PATH="/e"), None),
    ],
)
def test_who_gets_one(found: Any, expected: OwnWorker | None) -> None:
    assert own_worker(found, "m", "/r/m", lambda path: "") == expected


def test_an_environment_that_has_changed_gets_another() -> None:
    found = config("python", EXECUTION_ENV_PATH="$$TRITON_MODEL_DIRECTORY/env.tar.gz", ISOLATE="yes")
    first = own_worker(found, "m", "/r/m", lambda path: f"{path} 1")
    second = own_worker(found, "m", "/r/m", lambda path: f"{path} 2")
    assert first is not None
    assert second is not None
    assert first.environment == second.environment == "/r/m/env.tar.gz"
    assert first.name != second.name
    assert is_own(first.name)
    assert not is_own("cpu0")


def test_a_wrong_parameter() -> None:
    with pytest.raises(InvalidArgument, match="the parameter ISOLATE of model 'm' is 'maybe'; use 'yes' or 'no'"):
        own_worker(config("python", ISOLATE="maybe"), "m", "/r/m", lambda path: "")


def hello(pid: int, name: str, *models: Any, environment: str = "") -> Any:
    message = messages.Hello()
    message.process.role, message.process.pid, message.process.name = "WORKER", pid, name
    message.process.environment = environment
    message.models.extend(models)
    return message


def plan(model: str = "m", own: OwnWorker | None = OWN) -> LoadPlan:
    return LoadPlan(model, f"/r/{model}", b"", (1,), 1, own_worker=own)


def orders(actions: list[Action], kind: str) -> list[tuple[int, Any]]:
    return [
        (action.pid, getattr(action.order, kind))
        for action in actions
        if isinstance(action, Send) and action.order.WhichOneof("order") == kind
    ]


def wanted(state: HubState) -> list[tuple[str, str]]:
    return [(item.name, item.environment) for item in state.publish(HUB, {}).own_workers]


def report(state: HubState, pid: int, order: Any, status: str) -> list[Action]:
    news = messages.ModelVersion(model="m", version=1, state=status, load_id=order.load_id)
    return state.reported(pid, messages.Report(model=news), 0)


def serving() -> tuple[HubState, Any]:
    state = HubState(["cpu0"], 100)
    state.hello(hello(10, "cpu0"))
    assert orders(state.begin([plan()], [], NOW_NS), "load_model") == []
    assert wanted(state) == [("own-m", "/env")]
    ((pid, order),) = orders(state.hello(hello(20, "own-m", environment="/env")), "load_model")
    assert pid == 20
    report(state, 20, order, "READY")
    assert state.started
    return state, order


def test_it_is_wanted_as_long_as_its_model_is() -> None:
    state, order = serving()
    assert wanted(state) == [("own-m", "/env")]
    unloads = state.unload("m")
    assert [pid for pid, _ in orders(unloads, "unload_model")] == [20]
    assert wanted(state) == []
    assert [pid for pid, _ in orders(report(state, 20, order, "UNAVAILABLE"), "end")] == [20]
    state.died(20)
    assert state.lifecycle.workers.pids == {"cpu0": 10}
    assert state.restarts["worker"] == 0


def test_other_models_are_not_put_on_it() -> None:
    state, _ = serving()
    loads = orders(state.load(plan("other", None), None, NOW_NS), "load_model")
    assert [pid for pid, _ in loads] == [10]


def test_it_is_wanted_again_when_it_has_died() -> None:
    state, _ = serving()
    state.died(20)
    assert wanted(state) == [("own-m", "/env")]
    assert [pid for pid, _ in orders(state.hello(hello(21, "own-m", environment="/env")), "load_model")] == [21]


def test_a_load_that_fails_ends_it() -> None:
    state = HubState(["cpu0"], 100)
    state.hello(hello(10, "cpu0"))
    state.begin([plan()], [], NOW_NS)
    ((_, order),) = orders(state.hello(hello(20, "own-m")), "load_model")
    news = messages.ModelVersion(model="m", version=1, load_id=order.load_id)
    actions = state.reported(20, messages.Report(code=2, message="no", model=news), 0)
    assert [pid for pid, _ in orders(actions, "end")] == [20]
    assert wanted(state) == []


def test_one_that_comes_too_late_ends() -> None:
    state = HubState(["cpu0"], 100)
    state.hello(hello(10, "cpu0"))
    state.begin([plan()], [], NOW_NS)
    state.unload("m")
    assert state.lifecycle.workers.pids == {"cpu0": 10}
    assert [pid for pid, _ in orders(state.hello(hello(20, "own-m")), "end")] == [20]


def test_a_new_hub_learns_of_it() -> None:
    state = HubState(["cpu0"], 200)
    news = messages.ModelVersion(model="m", version=1, state="READY", load_id=100, path="/r/m")
    state.hello(hello(20, "own-m", news, environment="/env"))
    assert wanted(state) == [("own-m", "/env")]
