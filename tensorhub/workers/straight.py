"""The short way through an ensemble whose steps are quick: one after the other, on the thread that brings the request.

    request -> step -> step -> ... -> response          nothing waits, nothing is queued, nothing is put off

Most ensembles are a few quick models of one worker. For these, nearly all that `ensemble` and `calls` do is to find out
what is the same for each request. It is worked out once, for each set of requested outputs and each catalog. A request
then costs its steps' runs and little else. Everything that can be counted or seen is as on the long way: each step is a
request of its model, counted there, and runs when an instance of it is free.

Whatever is unusual leaves the short way, at any step: a model that is busy, slow, unloaded, or that answers later; a
response with parameters. What has been done so far goes along (`EnsembleRun.resume`). Which ensembles cannot take it at
all is known beforehand (`maybe_line`).
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple, Protocol

from tensorhub.backends.calling import ModelCall
from tensorhub.backends.privacy import own
from tensorhub.devices import DeviceMemory
from tensorhub.errors import Cancelled, TensorhubError, error_for
from tensorhub.protocol.layouts import LIMIT
from tensorhub.requests import (
    NO_SEQUENCE,
    InferRequest,
    InferResponse,
    Parameter,
    RequestedOutput,
    Responder,
    Tally,
    Tensor,
    flat_view,
)
from tensorhub.tensors import DataType
from tensorhub.workers.encode import byte_size
from tensorhub.workers.ensemble import EnsembleGraph, Plan, Step, Take, Value
from tensorhub.workers.serving import ServingModel


class Ran(Enum):
    """What has become of a request that was to be run at once."""

    NOT = "not"
    """It has not been run, and not been taken."""
    ANSWERED = "answered"
    """It is over, and closed."""
    PENDING = "pending"
    """It has been run, and will be answered later; who takes its last answer closes it."""


class Model(ServingModel, Protocol):
    """A model of this worker that can run requests at once."""

    def run_at_once(self, request: InferRequest, answered: Callable[[], bool]) -> Ran:
        """Run a request on this thread, unless it would have to wait or the model is not quick.

        Args:
            answered: called when the run is over and before its instance is free: whether the last answer is there.
        """


class _Known(NamedTuple):
    """What is known of inputs that have been accepted before; `shapes`: the model's, in the order of the inputs."""

    batch_size: int
    shapes: tuple[tuple[int, ...], ...]


class LineStep(NamedTuple):
    """A step of a line.

    Attributes:
        requested: the outputs that it is asked for.
        drops: tensors that nobody needs after it.
        known: by datatype, shape and size of each input.
    """

    step: Step
    model: Model
    takes: tuple[Take, ...]
    requested: tuple[RequestedOutput, ...]
    drops: tuple[str, ...]
    known: dict[tuple[object, ...], _Known]


class Line(NamedTuple):
    """The steps of a plan in an order in which each finds its inputs.

    Attributes:
        returned: the outputs in the order of the response.
        batches: the ensemble and all its steps do.
    """

    ensemble: str
    steps: tuple[LineStep, ...]
    optional: frozenset[str]
    returned: tuple[str, ...]
    batches: bool


def maybe_line(graph: EnsembleGraph, plan: Plan, models: Mapping[int, Model], *, batches: bool) -> Line | None:
    """Return the line of a plan.

    Args:
        models: of the needed steps, those that can run requests at once.
        batches: the ensemble does.

    Returns:
        None if there is none: a step's model is not among `models`, or batches where the ensemble does not or the
        other way round, so that tensors have other shapes for it.
    """
    if any(
        index not in models or (models[index].spec.max_batch_size > 0) is not batches for index in plan.needed
    ) or any(name not in graph.producers for name in plan.returned):
        return None
    order: list[int] = []
    waiting = sorted(plan.needed)
    while waiting:
        index = next(
            index
            for index in waiting
            if all(
                graph.producers.get(take.tensor) not in plan.needed or graph.producers[take.tensor] in order
                for take in plan.takes[index]
            )
        )
        waiting.remove(index)
        order.append(index)
    steps = []
    for position, index in enumerate(order):
        later = {name for other in order[position + 1 :] for name in plan.taken[other]}.union(plan.returned)
        steps.append(
            LineStep(
                graph.steps[index],
                models[index],
                plan.takes[index],
                tuple(RequestedOutput(name) for name in graph.steps[index].outputs),
                tuple(name for name in plan.taken[index] if name not in later),
                {},
            )
        )
    return Line(graph.name, tuple(steps), graph.optional, plan.returned, batches)


class Left(NamedTuple):
    """Where a request has left the short way.

    Attributes:
        values: of the ensemble's tensors, those that are still needed.
        done: the steps that have been started, by their indices.
        at: the step that has been run and whose answers are still to be dealt with; None if there is none.
        answers: of that, those that have been taken.
        pending: there will be more of them, from the model of that step: see `StraightRun.follow`.
    """

    values: dict[str, Value]
    done: frozenset[int]
    at: LineStep | None = None
    answers: Sequence[tuple[InferResponse | None, bool]] = ()
    pending: bool = False


_Held = tuple[Tensor, bool]
"""A tensor, and whether nothing else refers to its memory but what is given to its user."""


class StraightRun:
    """One request on its way; `go` is called once. `cancel` may come from any thread.

    Attributes:
        tally: how long the steps took.
        made: the request of the step that runs, or ran last.
    """

    __slots__ = (
        "_answers",
        "_line",
        "_model",
        "_passing",
        "_request",
        "_responder",
        "_secured",
        "_values",
        "made",
        "tally",
    )

    def __init__(self, line: Line, request: InferRequest) -> None:
        self._line = line
        self._request = request
        self._values: dict[str, _Held | None] = {}
        self._answers: deque[tuple[InferResponse | None, bool]] = deque()
        self._secured: list[_Held] = []
        self._responder: Responder | None = None
        self._passing = False
        self._model: Model | None = None
        self.made: InferRequest | None = None
        self.tally = Tally()

    def cancel(self) -> None:
        """Tell the model that runs."""
        model, made = self._model, self.made
        if model is not None and made is not None:
            model.cancel(made)

    def go(self) -> InferResponse | Left:
        """Run the steps; return the response, or where this has ended."""
        request, line = self._request, self._line
        values = self._values
        for name, tensor in request.inputs.items():
            values[name] = (tensor, True)
        for name in line.optional:
            values.setdefault(name)
        answers = self._answers
        for position, item in enumerate(line.steps):
            if request.cancelled:
                return self._failed(Cancelled(""))
            try:
                made = self._request_of(item)
            except TensorhubError as exc:
                return self._failed(exc)
            self._model, self.made = item.model, made
            ran = item.model.run_at_once(made, self._secure)
            if ran is Ran.NOT:
                return self._left(position)
            if ran is Ran.PENDING:
                return self._left(position, item, pending=True)
            response = answers[0][0]
            if response is None or len(answers) > 1 or (response.parameters and response.error is None):
                return self._left(position, item)
            answers.clear()
            if response.error is not None:
                return self._failed(response.error)
            for name in item.drops:
                del values[name]
            self._keep(item)
        return self._response()

    def _request_of(self, item: LineStep) -> InferRequest:
        """Return the request of a step.

        Raises:
            TensorhubError: its model refuses these inputs.
        """
        values = self._values
        marks: list[object] = []
        for _, tensor_name, _ in item.takes:
            held = values[tensor_name]
            if held is None:
                return self._checked(item, None)
            tensor = held[0]
            data: Any = tensor.data
            if type(data) is DeviceMemory:
                return self._checked(item, None)
            marks += (id(tensor.datatype), tensor.shape, byte_size(data))
        key = tuple(marks)
        known = item.known.get(key)
        if known is None:
            return self._checked(item, key)
        inputs: dict[str, Tensor] = {}
        shared: list[str] = []
        for (name, tensor_name, exclusive), shape in zip(item.takes, known.shapes, strict=True):
            tensor, own_memory = values[tensor_name]  # type: ignore[misc]
            data = tensor.data
            if not (exclusive and own_memory):
                data = flat_view(data).toreadonly()
                shared.append(name)
            inputs[name] = Tensor(name, tensor.datatype, shape, data)
        request, spec = self._request, item.model.spec
        return InferRequest(
            spec.name,
            spec.version,
            request.request_id,
            inputs,
            item.requested,
            request.parameters,
            0,
            0,
            request.priority,
            request.timeout_us,
            0,
            time.monotonic_ns(),
            known.batch_size,
            tally=self.tally,
            shared=frozenset(shared) if shared else _NONE_SHARED,
            responder=self._took,
        )

    def _checked(self, item: LineStep, key: tuple[object, ...] | None) -> InferRequest:
        """Do as `_request_of` does, and have the model's decoder look at everything; remember what it has accepted."""
        request = self._request
        tensors: list[Tensor] = []
        writable = []
        for name, tensor_name, exclusive in item.takes:
            held = self._values[tensor_name]
            if held is not None:
                tensors.append(held[0].renamed(name))
                if exclusive and held[1]:
                    writable.append(name)
        call = ModelCall(
            item.step.model,
            item.step.version,
            tensors,
            tuple(item.step.outputs),
            request.request_id,
            0,
            0,
            request.priority,
            request.timeout_us,
            request.parameters,
            frozenset(writable),
            self.tally,
        )
        made = item.model.decoder.accept_call(call, time.monotonic_ns())
        made.responder = self._took
        if (
            key is not None
            and not item.model.spec.copies_region_inputs
            and not any(tensor.datatype is DataType.BYTES for tensor in tensors)
        ):
            if len(item.known) >= LIMIT:
                item.known.clear()
            item.known[key] = _Known(made.batch_size, tuple([tensor.shape for tensor in made.inputs.values()]))
        return made

    def _took(self, request: InferRequest, response: InferResponse | None, final: bool) -> None:
        """The responder of a step's request; on any thread, if the model answers later."""
        self._answers.append((response, final))
        if self._responder is not None:
            self._pass_on()

    def _secure(self) -> bool:
        """Take hold of the outputs while the instance is still busy; whether the last answer is there."""
        answers = self._answers
        if not answers or not answers[-1][1]:
            return False
        response = answers[0][0]
        if response is not None and response.error is None:
            assert self.made is not None
            inputs = self.made.inputs.values()
            try:
                self._secured = [own(tensor, inputs) for tensor in response.outputs]
            except TensorhubError as exc:
                response.error = exc
        return True

    def _keep(self, item: LineStep) -> None:
        """Put the outputs of a step where they are waited for."""
        names = item.step.outputs
        values, specs = self._values, item.model.spec.outputs
        for tensor_name in names.values():
            values[tensor_name] = None
        for tensor, own_memory in self._secured:
            name = tensor.name
            target = names.get(name)
            if target is not None:
                spec = specs.get(name)
                if spec is not None and spec.reshape is not None:
                    tensor = tensor.renamed(name, spec.client_shape(tensor.shape))
                values[target] = (tensor, own_memory)

    def _response(self) -> InferResponse:
        outputs = []
        parameters: Mapping[str, Parameter] = {}
        for name in self._line.returned:
            held = self._values[name]
            if held is not None:
                tensor = held[0]
                if 0 not in tensor.shape:
                    parameters = NO_SEQUENCE
                outputs.append(tensor.renamed(name))
        return InferResponse(outputs, parameters)

    def _failed(self, error: TensorhubError) -> InferResponse:
        return InferResponse(error=error_for(error.code, f"in ensemble '{self._line.ensemble}', {error.message}"))

    def _left(self, position: int, at: LineStep | None = None, *, pending: bool = False) -> Left:
        rows = self._request.batch_size if self._line.batches else 0
        given = self._request.inputs
        started = self._line.steps[: position + (at is not None)]
        answers: list[tuple[InferResponse | None, bool]] = []
        if at is not None and not pending:
            answers = list(self._answers)
            first = answers[0][0]
            if first is not None and first.error is None:
                first.outputs = [tensor for tensor, _ in self._secured]
        values = {}
        for name, held in self._values.items():
            came = name in given or name in self._line.optional
            values[name] = Value(None if held is None else held[0], rows, came, None if came else (0, 0))
        return Left(values, frozenset([item.step.index for item in started]), at, answers, pending)

    def follow(self, responder: Responder) -> None:
        """Pass on the answers of the step that answers later, those that have come and those that will."""
        self._responder = responder
        self._pass_on()

    def _pass_on(self) -> None:
        assert self._responder is not None
        assert self.made is not None
        while True:
            with _late:
                if self._passing or not self._answers:
                    return
                self._passing = True
                response, final = self._answers.popleft()
            try:
                self._responder(self.made, response, final)
            finally:
                with _late:
                    self._passing = False


_NONE_SHARED: frozenset[str] = frozenset()

_late = threading.Lock()
"""Keeps answers that come late in their order; they are so few that all can share it."""
