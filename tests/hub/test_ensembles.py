"""Which ensembles can be served, given which other models are: orders to workers and answers to clients."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import text_format

from tensorhub.hub.actions import Action, Answer, Asker, Send
from tensorhub.hub.plans import LoadPlan
from tensorhub.hub.state import HubState
from tensorhub.protocol import messages

PLAIN = 'input { name: "IN" data_type: TYPE_INT32 dims: 1 } output { name: "OUT" data_type: TYPE_INT32 dims: 1 }'
ASKER = Asker("HTTP", 7, 1, 1)


def config(name: str, text: str = PLAIN) -> bytes:
    result = messages.ModelConfig(name=name)
    text_format.Parse(text, result)
    return bytes(result.SerializeToString())


def plan(name: str, text: str = PLAIN, fingerprint: str = "1") -> LoadPlan:
    return LoadPlan(name, f"/models/{name}", config(name, text), [1], 1, fingerprint=f"{name}-{fingerprint}")


def ensemble(name: str, *models: str, version: int = -1, fingerprint: str = "1") -> LoadPlan:
    tensors = ["IN", *(f"T{index}" for index in range(1, len(models))), "OUT"]
    steps = "".join(
        f'step {{ model_name: "{model}" model_version: {version} input_map {{ key: "IN" value: "{tensors[index]}" }} '
        f'output_map {{ key: "OUT" value: "{tensors[index + 1]}" }} }} '
        for index, model in enumerate(models)
    )
    return plan(name, f'platform: "ensemble" {PLAIN} ensemble_scheduling {{ {steps} }}', fingerprint)


class Server:
    """A hub's state with one worker, pid 1, that does what it is told when the test says so."""

    def __init__(self, *plans: LoadPlan) -> None:
        self.state = HubState(["cpu0"], 1)
        self.orders: list[Any] = []
        self.answers: list[str] = []
        process = messages.Process(role="WORKER", pid=1, name="cpu0")
        self.do(self.state.hello(messages.Hello(process=process)))
        self.do(self.state.begin(plans, (), 0))

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                self.orders.append(action.order)
            elif isinstance(action, Answer):
                self.answers.append("" if action.error is None else action.error.message)

    def work(self, *, fails: str = "") -> list[str]:
        """Carry out all orders, and those that follow; return what was loaded and (-) unloaded, in order."""
        done = []
        while self.orders:
            order = self.orders.pop(0)
            if order.WhichOneof("order") == "load_model":
                load = order.load_model
                news = messages.ModelVersion(
                    model=load.model, version=load.version, load_id=load.load_id, state="READY", config=load.config
                )
                done.append(load.model)
                if load.model == fails:
                    news.state = "UNAVAILABLE"
                    self.do(self.state.reported(1, messages.Report(code=2, message="no", model=news), 0))
                else:
                    self.do(self.state.reported(1, messages.Report(model=news), 0))
            else:
                load_id = order.unload_model.load_id
                done.append(f"-{self.state.lifecycle.loads[load_id].model}")
                news = messages.ModelVersion(load_id=load_id, state="UNAVAILABLE")
                self.do(self.state.reported(1, messages.Report(model=news), 0))
        return done

    def shown(self, name: str) -> str:
        model = self.state.lifecycle.models[name]
        return model.versions[1].state()[0] if model.versions else model.reason


@pytest.mark.parametrize("again", [False, True])
def test_the_next_hub_leaves_an_ensemble_as_it_is(again: bool) -> None:
    plans = (plan("b"), ensemble("a", "b"))
    before = Server(*plans)
    before.work()
    loads = before.state.lifecycle.loads
    hello = messages.Hello(process=messages.Process(role="WORKER", pid=1, name="cpu0"), rejoining=True)
    for load in loads.values():
        hello.models.add(
            model=load.model,
            version=load.version,
            load_id=load.load_id,
            state="READY",
            config=load.final_config,
            path=load.path,
            fingerprint=load.fingerprint,
        )
    after = Server()
    after.state = HubState(["cpu0"], 1)
    after.do(after.state.hello(hello))
    after.do(after.state.begin(plans if again else (), (), 0))
    assert after.work() == []
    assert after.state.lifecycle.loads.keys() == loads.keys()
    assert {after.shown(name) for name in "ab"} == {"READY"}
    after.do(after.state.load(plan("b", fingerprint="2"), ASKER, 0))
    assert after.work() == ["b", "-b"], "it fits the next one as well"


def test_an_ensemble_is_loaded_after_its_models() -> None:
    server = Server(ensemble("a", "b", "z"), plan("b"), ensemble("z", "y"), plan("y"))
    assert not server.state.started
    assert server.work() == ["b", "y", "z", "a"]
    assert server.state.started
    assert {server.shown(name) for name in "abyz"} == {"READY"}


def test_one_that_does_not_fit_is_not_loaded() -> None:
    server = Server(ensemble("a", "b"), plan("b", PLAIN.replace("INT32", "FP32")))
    assert server.work() == ["b"]
    assert server.state.started
    assert "inconsistent data type" in server.shown("a")


@pytest.mark.parametrize(
    ("plans", "text"),
    [
        ([ensemble("a", "x", "w")], "ensemble a contains models that are not available or ambiguous: w, x"),
        ([ensemble("a", "b", version=2), plan("b")], "ensemble 'a' depends on 'b' whose required version 2 is not"),
        ([ensemble("a", "a")], "circular dependency between ensembles: a -> ... -> a -> a"),
        ([ensemble("a", "c"), ensemble("c", "a")], "circular dependency between ensembles: a -> ... -> c -> a"),
        ([ensemble("a", "c"), ensemble("c", "x")], "ensemble 'a' depends on 'c' which is not valid."),
        ([ensemble("a", "bad"), plan("bad")], "ensemble 'a' depends on 'bad' which has no loaded version."),
    ],
)
def test_reasons(plans: list[LoadPlan], text: str) -> None:
    server = Server(*plans)
    server.work(fails="bad")
    assert server.state.started
    assert text in server.shown("a")


def test_an_ensemble_goes_and_comes_back_with_its_model() -> None:
    server = Server(ensemble("a", "b"), plan("b"))
    server.work()
    server.do(server.state.unload("b"))
    assert sorted(server.work()) == ["-a", "-b"]
    server.do(server.state.load(plan("b"), ASKER, 0))
    assert server.answers == []
    assert server.work() == ["b", "a"]
    assert server.answers == [""]
    assert server.shown("a") == "READY"


def test_nothing_happens_when_a_model_changes_and_still_fits() -> None:
    server = Server(ensemble("a", "b"), plan("b"))
    server.work()
    server.do(server.state.load(plan("b", fingerprint="2"), ASKER, 0))
    assert server.work() == ["b", "-b"]


def test_a_load_brings_the_models_and_unload_dependents_takes_them_away() -> None:
    server = Server()
    server.do(server.state.load(plan("own"), ASKER, 0))
    server.work()
    server.do(server.state.load(ensemble("a", "b", "own"), ASKER, 0, [plan("b"), plan("own")]))
    server.do(server.state.load(ensemble("c", "d"), ASKER, 0, [plan("d")]))
    server.do(server.state.load(ensemble("e", "d"), ASKER, 0, [plan("d")]))
    assert server.work() == ["b", "d", "a", "c", "e"]
    assert server.answers == ["", "", "", ""]
    server.do(server.state.unload("a", with_steps=True))
    assert sorted(server.work()) == ["-a", "-b"]  # not the one that was loaded for itself
    server.do(server.state.unload("c", with_steps=True))
    assert server.work() == ["-c"]  # another ensemble needs its model
    server.do(server.state.unload("e", with_steps=True))
    assert sorted(server.work()) == ["-d", "-e"]


def test_the_caller_of_a_load_hears_why_it_fails() -> None:
    server = Server()
    server.do(server.state.load(ensemble("a", "b"), ASKER, 0, [plan("b")]))
    server.work(fails="b")
    assert server.answers == [
        "load failed for model 'a': ensemble 'a' depends on 'b' which has no loaded version. Model 'b' loading failed "
        "with error: version 1 is at UNAVAILABLE state: Internal: no;\n"
    ]


def test_an_ensemble_that_cannot_be_loaded_is_not_tried_for_ever() -> None:
    server = Server(ensemble("a", "b"), plan("b"), plan("other"))
    assert server.work(fails="a").count("a") == 1
    server.do(server.state.load(plan("other", fingerprint="2"), None, 0))
    assert "a" not in server.work(fails="a")
    server.do(server.state.load(ensemble("a", "b", fingerprint="2"), ASKER, 0))
    assert server.work() == ["a"]


def test_the_files_of_an_ensemble_are_needed_while_it_waits_for_its_models() -> None:
    """They may have come with the request, and are removed when nobody needs them."""
    server = Server(plan("b"))
    server.do(server.state.load(ensemble("a", "b"), ASKER, 0))
    assert server.state.paths() == {"/models/a", "/models/b"}
    server.work()
    server.do(server.state.unload("b"))
    server.work()
    assert server.state.paths() == {"/models/a"}
    server.do(server.state.unload("a"))
    assert server.state.paths() == set()
