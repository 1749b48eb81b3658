"""The short way through an ensemble comes to what the long way comes to, wherever it is left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorhub.backends.calling import ModelCall
from tensorhub.errors import Cancelled, InternalError, TensorhubError
from tensorhub.protocol import messages
from tensorhub.protocol.model_spec import ModelSpec
from tensorhub.requests import NO_SEQUENCE, InferRequest, InferResponse, RequestedOutput, Tensor
from tensorhub.tensors import DataType
from tensorhub.workers.decode import RequestDecoder
from tensorhub.workers.ensemble import EnsembleGraph, EnsembleRun, Respond, Start, StepModel, StepRun
from tensorhub.workers.straight import Left, Line, Ran, StraightRun, maybe_line

from .fake_memory import FakeMemory

OUTPUTS = ("o0", "o1")


@dataclass
class FakeModel:
    """Adds up its inputs; `behaviour` is what it does else. It has ServingModel's parts that are needed here."""

    index: int
    names: Sequence[str]
    behaviour: str = "works"
    batches: bool = False
    ran: list[InferRequest] = field(default_factory=list)
    waiting: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        config = messages.ModelConfig(name=f"m{self.index}", max_batch_size=4 if self.batches else 0)
        for name in self.names:
            config.input.add(name=name, data_type="TYPE_UINT8", dims=[-1], optional=self.index % 2 == 0)
        for name in OUTPUTS:
            config.output.add(name=name, data_type="TYPE_UINT8", dims=[-1])
        self.spec = ModelSpec.from_config(config, f"m{self.index}", 1)
        self.decoder = RequestDecoder(self.spec, FakeMemory())

    def compute(self, request: InferRequest) -> InferResponse:
        if self.behaviour == "fails":
            return InferResponse(error=InternalError("it fails"))
        total = sum(int(np.asarray(memoryview(item.data)).sum()) for item in request.inputs.values())
        outputs = [
            Tensor(name, DataType.UINT8, (1, 1) if self.batches else (1,), np.array([(total + number) % 97], np.uint8))
            for number, name in enumerate(OUTPUTS)
            if not (self.behaviour == "leaves out" and name == "o0")
        ]
        parameters = {"sequence_id": 5, "sequence_start": True} if self.behaviour == "parameters" else {}
        return InferResponse(outputs, parameters)

    def run_at_once(self, request: InferRequest, answered: Callable[[], bool]) -> Ran:
        if self.behaviour == "busy":
            return Ran.NOT
        self.ran.append(request)
        if self.behaviour == "later":
            self.waiting.append(lambda: request.respond(self.compute(request)))
        elif self.behaviour == "twice":
            request.respond(self.compute(request), False)
            request.respond(None)
        else:
            request.respond(self.compute(request))
        return Ran.ANSWERED if answered() else Ran.PENDING

    def cancel(self, request: InferRequest) -> None:
        request.cancelled = True


@dataclass
class Case:
    graph: EnsembleGraph
    models: dict[int, Any]
    inputs: dict[str, Tensor]
    requested: tuple[str, ...]

    def request(self) -> InferRequest:
        return InferRequest("e", 1, "id", dict(self.inputs), tuple(RequestedOutput(name) for name in self.requested))

    def run(self) -> EnsembleRun:
        steps = {index: StepModel(False, False, {}) for index in self.models}
        return EnsembleRun(self.graph, steps, self.requested, {}, "id")

    def line(self) -> Line | None:
        plan = self.graph.plan(self.requested)
        return maybe_line(self.graph, plan, self.models, batches=False)


def case(
    lines: Sequence[str], requested: Sequence[str], behaviours: Mapping[int, str] = {}, **inputs: int | None
) -> Case:
    """Steps are lines of `a b -> c d`."""
    config = messages.ModelConfig(name="e")
    for name in inputs:
        config.input.add(name=name, optional=inputs[name] is None)
    produced = []
    models = {}
    for index, text in enumerate(lines):
        left, _, right = text.partition("->")
        step = config.ensemble_scheduling.step.add(model_name=f"m{index}", model_version=-1)
        step.input_map.update({f"i{number}": name for number, name in enumerate(left.split())})
        step.output_map.update({f"o{number}": name for number, name in enumerate(right.split())})
        produced += right.split()
        models[index] = FakeModel(index, sorted(step.input_map), behaviours.get(index, "works"))
    for name in produced:
        config.output.add(name=name)
    tensors = {
        name: Tensor(name, DataType.UINT8, (1,), bytearray([value]))
        for name, value in inputs.items()
        if value is not None
    }
    return Case(EnsembleGraph.from_config(config), models, tensors, tuple(requested))


def finish(case: Case, run: EnsembleRun, actions: list[Any]) -> InferResponse | None:
    """Carry out what an EnsembleRun wants until its end; steps that are busy or late are neither here."""
    responses = []
    while True:
        starts = [action.run for action in actions if isinstance(action, Start)]
        answers = [action for action in actions if isinstance(action, Respond)]
        responses += [answer.response for answer in answers if answer.response is not None]
        if any(answer.final for answer in answers):
            assert len(responses) <= 1
            return responses[0] if responses else None
        actions = []
        for step in starts:
            model = case.models[step.step.index]
            call = ModelCall(step.step.model, -1, list(step.inputs.values()), tuple(step.step.outputs), "id")
            try:
                request = model.decoder.accept_call(call, 0)
            except TensorhubError as exc:
                actions += run.failed(step, exc)
                continue
            if model.behaviour == "twice":
                actions += run.answered(step, model.compute(request), False)
                actions += run.answered(step, None, True)
            else:
                actions += run.answered(step, model.compute(request), True)


def the_long_way(case: Case) -> InferResponse | None:
    run = case.run()
    return finish(case, run, run.begin(case.inputs))


def the_short_way(case: Case) -> InferResponse | None:
    """Go straight, and the rest of the way as RunningEnsemble does."""
    line = case.line()
    assert line is not None
    straight = StraightRun(line, case.request())
    result = straight.go()
    if isinstance(result, InferResponse):
        return result
    run, step = case.run(), None
    if result.at is not None:
        step = StepRun(result.at.step, (), {}, frozenset(), frozenset(), (0, 0), 0, False)
    actions = run.resume(result.values, result.done, step)
    if result.pending:
        straight.follow(lambda request, response, final: actions.extend(run.answered(step, response, final)))
        model: Any = result.at.model if result.at is not None else None
        model.waiting.pop()()
    for response, final in result.answers:
        assert step is not None
        actions += run.answered(step, response, final)
    return finish(case, run, actions)


def shown(response: InferResponse | None) -> Any:
    if response is None:
        return None
    if response.error is not None:
        return response.error.code, response.error.message
    outputs = [(item.name, item.datatype, item.shape, bytes(memoryview(item.data))) for item in response.outputs]
    return outputs, dict(response.parameters)


BEHAVIOURS = st.sampled_from(("works", "works", "works", "fails", "leaves out", "parameters", "busy", "later", "twice"))


@st.composite
def cases(draw: st.DrawFn) -> Callable[[], Case]:
    known = ["a", "b", "c"]
    lines = []
    for index in range(draw(st.integers(1, 6))):
        taken = draw(st.lists(st.sampled_from(known), min_size=1, max_size=3))
        made = [f"t{index}x", f"t{index}y"][: draw(st.integers(1, 2))]
        lines.append(f"{' '.join(taken)} -> {' '.join(made)}")
        known += made
    order = draw(st.permutations(range(len(lines))))
    lines = [lines[index] for index in order]
    requested = draw(st.lists(st.sampled_from(known[3:]), min_size=1, unique=True))
    behaviours = {index: draw(BEHAVIOURS) for index in range(len(lines))}
    optional = draw(st.sampled_from((None, 7)))
    return partial(case, lines, requested, behaviours, a=1, b=2, c=optional)


@settings(max_examples=150)
@given(cases())
def test_it_comes_to_the_same(make: Callable[[], Case]) -> None:
    expected = the_long_way(make())
    for _ in range(2):  # the second time with what the line has learnt
        response = the_short_way(make())
        if expected is not None and expected.error is not None:
            # Which of several errors is the first depends on the order of steps that do not depend on each other.
            assert response is not None
            assert response.error is not None
            assert response.error.message.startswith("in ensemble 'e', ")
        else:
            assert shown(response) == shown(expected)


@pytest.mark.parametrize("behaviours", [{0: "fails"}, {1: "fails"}, {0: "leaves out"}])
def test_an_error_names_the_ensemble(behaviours: Mapping[int, str]) -> None:
    chain = partial(case, ["a -> s", "s -> OUT"], ["OUT"], behaviours, a=1)
    expected = shown(the_long_way(chain()))
    assert expected[1].startswith("in ensemble 'e', ")
    assert shown(the_short_way(chain())) == expected


def test_the_usual_case_is_run_without_the_decoder() -> None:
    chain = case(["a b -> s", "s -> OUT"], ["OUT"], a=3, b=4)
    line = chain.line()
    assert line is not None
    for expected_known in (0, 1, 1):
        assert [len(step.known) for step in line.steps] == [expected_known] * 2
        response = StraightRun(line, chain.request()).go()
        assert isinstance(response, InferResponse)
        assert shown(response) == ([("OUT", DataType.UINT8, (1,), b"\7")], dict(NO_SEQUENCE))
        assert response.parameters is NO_SEQUENCE
    first, second = chain.models[0].ran[-1], chain.models[1].ran[-1]
    assert (first.model, first.version, first.request_id) == ("m0", 1, "id")
    assert (list(first.inputs), list(second.inputs)) == (["i0", "i1"], ["i0"])
    assert first.requested == second.requested == (RequestedOutput("o0"),)


def test_only_what_one_step_takes_may_be_written_to() -> None:
    fan = case(["a b -> s", "s -> x", "s b -> y"], ["x", "y"], a=3, b=4)
    line = fan.line()
    assert line is not None
    for _ in range(2):
        StraightRun(line, fan.request()).go()
    first, second, third = (fan.models[index].ran[-1] for index in range(3))
    assert (first.shared, second.shared, third.shared) == ({"i1"}, {"i0"}, {"i0", "i1"})
    for request in (first, second, third):
        for name, tensor in request.inputs.items():
            assert memoryview(tensor.data).readonly == (name in request.shared)


def test_cancelling_ends_it_between_two_steps() -> None:
    chain = case(["a -> s", "s -> OUT"], ["OUT"], a=3)
    line = chain.line()
    assert line is not None
    request = chain.request()
    run = StraightRun(line, request)

    def cancelled(made: InferRequest) -> InferResponse:
        request.cancelled = True
        run.cancel()
        assert made.cancelled
        return InferResponse([Tensor("o0", DataType.UINT8, (1,), b"1")])

    chain.models[0].compute = cancelled
    response = run.go()
    assert isinstance(response, InferResponse)
    assert isinstance(response.error, Cancelled)
    assert chain.models[1].ran == []


def test_answers_that_come_late_keep_their_order() -> None:
    chain = case(["a -> OUT"], ["OUT"], {0: "later"}, a=3)
    line = chain.line()
    assert line is not None
    run = StraightRun(line, chain.request())
    left = run.go()
    assert isinstance(left, Left)
    assert (left.pending, left.done, left.answers) == (True, {0}, [])
    made = chain.models[0].ran[0]
    made.respond(InferResponse(), False)
    got: list[tuple[bool, bool]] = []
    run.follow(lambda request, response, final: got.append((response is not None, final)))
    thread = threading.Thread(target=lambda: made.respond(None))
    thread.start()
    thread.join()
    assert got == [(True, False), (False, True)]


@pytest.mark.parametrize("missing", [0, 1])
def test_no_line_without_all_models(missing: int) -> None:
    chain = case(["a -> s", "s -> OUT"], ["OUT"], a=3)
    del chain.models[missing]
    assert chain.line() is None


def test_no_line_if_one_batches_and_another_does_not() -> None:
    chain = case(["a -> s", "s -> OUT"], ["OUT"], a=3)
    chain.models[1] = FakeModel(1, ["i0"], batches=True)
    assert chain.line() is None
