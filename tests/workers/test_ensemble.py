"""The course of a request through an ensemble: any graph, any order of answers, and what goes wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorhub.errors import Code, InternalError, NotFound
from tensorhub.protocol import messages
from tensorhub.requests import InferResponse, Parameter, Tensor
from tensorhub.tensors import DataType
from tensorhub.workers.ensemble import (
    Action,
    EnsembleGraph,
    EnsembleRun,
    Respond,
    Start,
    StepModel,
    StepRun,
    reshaped,
)


def tensor(name: str, *values: int, shape: tuple[int, ...] | None = None) -> Tensor:
    return Tensor(name, DataType.UINT8, (len(values),) if shape is None else shape, bytes(values))


def values_of(response: InferResponse | None) -> dict[str, list[int]]:
    assert response is not None
    return {item.name: list(memoryview(item.data)) for item in response.outputs}


def graph_of(
    steps: str, outputs: Sequence[str], *, optional: Sequence[str] = (), decoupled: bool = False
) -> EnsembleGraph:
    """Steps are lines of `a b -> c d`: inputs i0, i1 ... and outputs o0, o1 ... of models m0, m1 ..."""
    config = messages.ModelConfig(name="e")
    for name in optional:
        config.input.add(name=name, optional=True)
    for name in outputs:
        config.output.add(name=name)
    for index, line in enumerate(steps.strip().splitlines()):
        left, _, right = line.partition("->")
        step = config.ensemble_scheduling.step.add(model_name=f"m{index}", model_version=-1)
        step.input_map.update({f"i{number}": name for number, name in enumerate(left.split())})
        step.output_map.update({f"o{number}": name for number, name in enumerate(right.split())})
    config.model_transaction_policy.decoupled = decoupled
    return EnsembleGraph.from_config(config)


@dataclass
class Course:
    """Runs an ensemble by hand: what has started and has not been answered, and what was responded."""

    graph: EnsembleGraph
    requested: tuple[str, ...] = ()
    decoupled: Sequence[int] = ()
    started: list[StepRun] = field(default_factory=list)
    history: list[str] = field(default_factory=list)
    responses: list[Respond] = field(default_factory=list)
    run: EnsembleRun = field(init=False)

    def __post_init__(self) -> None:
        models = {step.index: StepModel(False, step.index in self.decoupled, {}) for step in self.graph.steps}
        self.run = EnsembleRun(self.graph, models, self.requested, {}, "r")

    def begin(self, **inputs: int) -> Course:
        self.take(self.run.begin({name: tensor(name, value) for name, value in inputs.items()}))
        return self

    def take(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Start):
                self.started.append(action.run)
                self.history.append(action.run.step.model)
            else:
                assert not any(response.final for response in self.responses)
                self.responses.append(action)

    def answer(
        self,
        model: str,
        outputs: Mapping[str, int] | None,
        *,
        final: bool = True,
        parameters: Mapping[str, Parameter] | None = None,
    ) -> None:
        run = next(run for run in self.started if run.step.model == model)
        if final:
            self.started.remove(run)
        response = None
        if outputs is not None:
            response = InferResponse([tensor(name, value) for name, value in outputs.items()], parameters or {})
        self.take(self.run.answered(run, response, final))

    def fail(self, model: str, error: Any) -> None:
        run = next(run for run in self.started if run.step.model == model)
        self.started.remove(run)
        self.take(self.run.answered(run, InferResponse(error=error), True))

    @property
    def models(self) -> list[str]:
        return [run.step.model for run in self.started]


def test_a_step_starts_when_all_that_it_takes_is_there() -> None:
    course = Course(graph_of("x y -> out\n in -> x\n in -> y", ["out"])).begin(**{"in": 1})
    assert course.models == ["m1", "m2"]
    course.answer("m1", {"o0": 2})
    assert course.models == ["m2"]
    course.answer("m2", {"o0": 3})
    assert course.models == ["m0"]
    assert {name: list(item.data) for name, item in course.started[0].inputs.items()} == {"i0": [2], "i1": [3]}
    course.answer("m0", {"o0": 9})
    (response,) = course.responses
    assert response.final
    assert values_of(response.response) == {"out": [9]}
    assert course.run.over


def test_only_what_is_asked_for_is_made() -> None:
    course = Course(graph_of("in -> a\n in -> b\n b -> c", ["a", "c"]), ("a",)).begin(**{"in": 1})
    assert course.models == ["m0"]
    course.answer("m0", {"o0": 5})
    assert [values_of(item.response) for item in course.responses] == [{"a": [5]}]


def test_an_inner_tensor_can_be_an_output_too() -> None:
    course = Course(graph_of("in -> a\n a -> b", ["a", "b"])).begin(**{"in": 1})
    course.answer("m0", {"o0": 5})
    course.answer("m1", {"o0": 6})
    assert values_of(course.responses[0].response) == {"a": [5], "b": [6]}


def test_what_only_one_step_uses_is_told() -> None:
    course = Course(graph_of("in -> a b\n a -> c\n b -> d\n b -> e\n c c -> f", ["d", "e", "f"])).begin(**{"in": 1})
    assert course.started[0].exclusive == {"i0"}
    assert course.started[0].given == {"i0"}
    course.answer("m0", {"o0": 5, "o1": 6})
    assert [(run.step.model, run.exclusive, run.given) for run in course.started] == [
        ("m1", {"i0"}, set()),
        ("m2", set(), set()),
        ("m3", set(), set()),
    ]
    course.answer("m1", {"o0": 7})
    assert course.started[-1].exclusive == set()  # it takes one tensor twice


def test_errors_name_the_ensemble_and_wait_for_what_still_runs() -> None:
    course = Course(graph_of("in -> a\n in -> b\n a b -> c", ["c"])).begin(**{"in": 1})
    course.fail("m0", NotFound("gone"))
    assert course.responses == []
    course.answer("m1", {"o0": 1})
    (response,) = course.responses
    assert response.final
    assert response.response is not None
    error = response.response.error
    assert error is not None
    assert (error.code, error.message) == (Code.NOT_FOUND, "in ensemble 'e', gone")
    assert course.history == ["m0", "m1"]


def test_a_refused_step_is_an_error() -> None:
    course = Course(graph_of("in -> a", ["a"])).begin(**{"in": 1})
    course.take(course.run.failed(course.started[0], InternalError("no")))
    assert course.responses[0].response is not None
    assert course.responses[0].response.error is not None
    assert course.responses[0].response.error.message == "in ensemble 'e', no"


def test_a_cancelled_request_starts_no_more_steps() -> None:
    course = Course(graph_of("in -> a\n a -> b", ["b"])).begin(**{"in": 1})
    course.run.cancel()
    course.answer("m0", {"o0": 1})
    assert course.started == []
    response = course.responses[0].response
    assert response is not None
    assert response.error is not None
    assert response.error.code is Code.CANCELLED


def test_an_output_that_is_left_out() -> None:
    course = Course(graph_of("in -> a b\n b -> c", ["a", "c"])).begin(**{"in": 1})
    course.answer("m0", {"o0": 5})
    assert course.started[0].inputs == {}
    course.answer("m1", {"o0": 6})
    assert values_of(course.responses[0].response) == {"a": [5], "c": [6]}


def test_an_optional_input_that_is_not_given() -> None:
    course = Course(graph_of("in more -> a", ["a"], optional=["more"])).begin(**{"in": 1})
    assert set(course.started[0].inputs) == {"i0"}


def test_no_response_is_a_deadlock_unless_it_is_decoupled() -> None:
    course = Course(graph_of("in -> a", ["a"])).begin(**{"in": 1})
    course.answer("m0", None)
    response = course.responses[0].response
    assert response is not None
    assert response.error is not None
    assert response.error.message == (
        "in ensemble 'e', [request id: r] unexpected deadlock, at least one output is not set while no more ensemble "
        "steps can be made"
    )
    course = Course(graph_of("in -> a", ["a"], decoupled=True), decoupled=[0]).begin(**{"in": 1})
    course.answer("m0", None)
    assert course.responses == [Respond(None, final=True)]


def test_responses_of_a_decoupled_step_do_not_mix() -> None:
    graph = graph_of("in -> a b\n a -> c\n b c -> d", ["d"], decoupled=True)
    course = Course(graph, decoupled=[0]).begin(**{"in": 1})
    for value in (1, 2):
        course.answer("m0", {"o0": value, "o1": 10 * value}, final=False)
    course.answer("m0", None)
    first, second = course.started
    for run, value in ((second, 2), (first, 1)):  # the second one overtakes
        course.started.remove(run)
        course.take(course.run.answered(run, InferResponse([tensor("o0", 100 + value)]), True))
        joined = course.started[-1]
        assert [list(item.data) for item in joined.inputs.values()] == [[10 * value], [100 + value]]
    assert course.responses == []
    course.answer("m2", {"o0": 7})
    course.answer("m2", {"o0": 8})
    assert [(values_of(item.response), item.final) for item in course.responses] == [
        ({"d": [7]}, False),
        ({"d": [8]}, True),
    ]


def test_an_error_of_a_decoupled_step_ends_all_when_it_ends() -> None:
    course = Course(graph_of("in -> a", ["a"], decoupled=True), decoupled=[0]).begin(**{"in": 1})
    run = course.started[0]
    course.answer("m0", {"o0": 1}, final=False)
    course.take(course.run.answered(run, InferResponse(error=InternalError("no")), False))
    course.take(course.run.answered(run, InferResponse([tensor("o0", 2)]), False))
    assert [item.final for item in course.responses] == [False]
    course.answer("m0", None)
    assert course.responses[-1].final
    assert course.responses[-1].response is not None
    assert course.responses[-1].response.error is not None


def test_parameters_of_a_step_say_of_which_sequence_the_rest_is() -> None:
    course = Course(graph_of("in -> a\n a -> b", ["b"])).begin(**{"in": 1})
    course.answer("m0", {"o0": 1}, parameters={"sequence_id": 7, "sequence_end": True})
    assert course.started[0].sequence == (7, 2)
    course.answer("m1", {"o0": 1})
    response = course.responses[0].response
    assert response is not None
    assert response.parameters == {"sequence_id": 7, "sequence_start": False, "sequence_end": True}


@pytest.mark.parametrize(
    ("name", "value"), [("sequence_id", True), ("sequence_id", 1.5), ("sequence_start", 1), ("sequence_end", "x")]
)
def test_parameters_of_wrong_types(name: str, value: Parameter) -> None:
    course = Course(graph_of("in -> a", ["a"])).begin(**{"in": 1})
    course.answer("m0", {"o0": 1}, parameters={name: value})
    response = course.responses[0].response
    assert response is not None
    assert response.error is not None
    assert name in response.error.message


@pytest.mark.parametrize(
    ("dims", "batches", "rows", "shape", "expected"),
    [
        ((2,), True, 3, (3, 2), (3, 2)),  # both batch
        ((2,), False, 0, (2,), (2,)),  # neither does
        ((2,), True, 0, (2,), (1, 2)),  # it fits, with a batch of one
        ((2,), True, 0, (3, 2), (3, 2)),  # it has a batch dimension of its own
        ((2,), False, 1, (1, 2), (2,)),  # a batch of one is taken apart
        ((-1, 2), False, 3, (3, 2), (3, 2)),  # the rows are a dimension
        ((2,), False, 3, (3, 2), (3, 2)),  # it will be refused
        ((-1,), True, 0, (), ()),
    ],
)
def test_shapes_between_who_batches_and_who_does_not(
    dims: tuple[int, ...], batches: bool, rows: int, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert reshaped(dims, batches, rows, shape) == expected


def test_plans_of_different_outputs_do_not_mix() -> None:
    graph = graph_of("in -> a\na -> b\na -> c", ["b", "c"])
    for requested in (("b",), ("c",), ("b", "c"), ("c", "b"), ("b",)):
        plan = graph.plan(requested)
        assert plan.needed == graph.needed(requested)
        assert plan.uses == {"in": 1, "a": len(requested)} | dict.fromkeys(requested, 1)
        assert plan.returned == tuple(name for name in ("c", "b") if name in requested)


@st.composite
def dags(draw: st.DrawFn) -> EnsembleGraph:
    """A graph of up to eight steps, which its config has in any order."""
    count = draw(st.integers(1, 8))
    tensors = ["in"]
    lines = []
    for index in range(count):
        sources = draw(st.lists(st.sampled_from(tensors), min_size=1, max_size=3))
        lines.append(f"{' '.join(sources)} -> t{index}a t{index}b")
        tensors += [f"t{index}a", f"t{index}b"]
    lines = draw(st.permutations(lines))
    outputs = draw(st.lists(st.sampled_from(tensors[1:]), min_size=1, max_size=4, unique=True))
    return graph_of("\n".join(lines), outputs)


@settings(max_examples=300)
@given(dags(), st.data())
def test_any_graph_in_any_order_of_answers(graph: EnsembleGraph, data: st.DataObject) -> None:
    """Every needed step runs once, with what the steps before it made; the one response holds what was asked for."""
    course = Course(graph).begin(**{"in": 1})
    made: dict[str, int] = {"in": 1}
    next_value = 2
    while course.started:
        assert course.responses == []
        run = data.draw(st.sampled_from(course.started))
        course.started.remove(run)
        assert {name: list(item.data) for name, item in run.inputs.items()} == {
            name: [made[tensor_name]] for name, tensor_name in run.step.inputs.items()
        }
        outputs = []
        for name, tensor_name in run.step.outputs.items():
            made[tensor_name] = next_value % 256
            outputs.append(tensor(name, made[tensor_name]))
            next_value += 1
        course.take(course.run.answered(run, InferResponse(outputs), True))
    assert sorted(course.history) == sorted(f"m{index}" for index in graph.needed(graph.outputs))
    (response,) = course.responses
    assert response.final
    assert values_of(response.response) == {name: [made[name]] for name in graph.outputs}
    assert course.run._values == {}


@settings(max_examples=200)
@given(dags(), st.data())
def test_any_graph_when_something_fails(graph: EnsembleGraph, data: st.DataObject) -> None:
    """Whatever fails or is cancelled, and when: one final answer, after the last step that ran, and nothing kept."""
    course = Course(graph).begin(**{"in": 1})
    disturbed = False
    while course.started:
        assert course.responses == []
        run = data.draw(st.sampled_from(course.started))
        course.started.remove(run)
        what = data.draw(st.sampled_from(["answer", "answer", "answer", "error", "refuse", "cancel"]))
        disturbed |= what in ("error", "refuse")
        if what == "refuse":
            course.take(course.run.failed(run, InternalError("no")))
            continue
        if what == "cancel":
            course.run.cancel()
        outputs = [tensor(name, 1) for name in run.step.outputs]
        error = InternalError("no") if what == "error" else None
        course.take(course.run.answered(run, InferResponse(outputs, error=error), True))
    (response,) = course.responses
    assert response.final
    assert response.response is not None
    assert not disturbed or response.response.error is not None
    assert course.run.over


def test_a_config_becomes_tables() -> None:
    config = messages.ModelConfig()
    text_format.Parse(
        """
        name: "e" platform: "ensemble"
        input { name: "IN" data_type: TYPE_INT32 dims: 1 optional: true }
        output { name: "OUT" data_type: TYPE_INT32 dims: 1 }
        ensemble_scheduling { step {
          model_name: "m" model_version: 3
          input_map { key: "X" value: "IN" } output_map { key: "Y" value: "OUT" } } }
        """,
        config,
    )
    graph = EnsembleGraph.from_config(config)
    assert (graph.name, graph.outputs, graph.optional, graph.decoupled) == ("e", ("OUT",), {"IN"}, False)
    (step,) = graph.steps
    assert (step.model, step.version, step.inputs, step.outputs) == ("m", 3, {"X": "IN"}, {"Y": "OUT"})
