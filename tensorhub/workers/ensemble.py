"""The course of one request through an ensemble. Pure: events in, steps to start and responses out.

    begin(inputs)                       the request's own tensors are there
    answered(step, response, final)     a step has answered, once or several times
    failed(step, error)                 a step could not be started
    cancel()                            nobody wants the responses any more

A step starts when all tensors that it takes are there. A decoupled step makes several values of its output tensors;
each goes its own way through the steps that follow and comes out as a response of its own. A value is therefore known
by its tensor's name and its *path*: () for what there is once, (3,) for what the fourth response of a decoupled step
brought, (3, 0) after another decoupled step. What a step makes of inputs with one path has that path too. Triton
numbers the values of each tensor in the order in which they come instead, so that what belongs to different responses
can meet there when steps overtake each other.

An output that a step leaves out is there as a value without data: the steps that take it run without that input.

Source: EnsembleContext in Triton's core.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from tensorhub.errors import Cancelled, InvalidArgument, TensorhubError, error_for
from tensorhub.protocol.infer_validation import prefix
from tensorhub.protocol.model_names import step_model
from tensorhub.requests import FLAG_SEQUENCE_END, FLAG_SEQUENCE_START, NO_SEQUENCE, InferResponse, Parameter, Tensor

Path = tuple[int, ...]

_MAX_INT64 = 2**63 - 1

_REMEMBERED_PLANS = 64
"""Of one ensemble; clients choose outputs and their order, so it must be bounded. When it is full, it is emptied."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the config.

    Attributes:
        model: its key. version: of its model; -1 for the newest.
        inputs: the model's input to the ensemble's tensor; `outputs`: likewise.
    """

    index: int
    model: str
    version: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


class Take(NamedTuple):
    """What a step takes.

    Attributes:
        name: the model's input; `tensor`: the ensemble's.
        exclusive: nothing else uses the tensor.
    """

    name: str
    tensor: str
    exclusive: bool


class Plan(NamedTuple):
    """What follows from the outputs that a request wants, the same for all such requests.

    Attributes:
        needed: the steps without which they cannot be made.
        uses: how often a tensor is used: by steps, and by the response; tensors without a use are not in it.
        consumers: the needed steps that take a tensor, in their order.
        takes: by the index of a needed step; `taken`: likewise, the tensors, each once.
        returned: the outputs in the order of the response.
    """

    needed: frozenset[int]
    uses: Mapping[str, int]
    consumers: Mapping[str, tuple[Step, ...]]
    takes: Mapping[int, tuple[Take, ...]]
    taken: Mapping[int, tuple[str, ...]]
    returned: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EnsembleGraph:
    """An ensemble's config as tables.

    Attributes:
        consumers: the steps that take a tensor, by its name.
        producers: the step that makes a tensor.
        outputs: of the ensemble, in the order of its config.
        optional: inputs that a request may leave out.
        decoupled: a step is, so that there may be any number of responses.
    """

    name: str
    steps: tuple[Step, ...]
    consumers: Mapping[str, tuple[int, ...]]
    producers: Mapping[str, int]
    outputs: tuple[str, ...]
    optional: frozenset[str]
    decoupled: bool
    _plans: dict[tuple[str, ...], Plan] = field(default_factory=dict, repr=False, compare=False)

    @staticmethod
    def from_config(config: Any) -> "EnsembleGraph":
        """Build the tables of a validated `inference.ModelConfig`, whose transaction policy is that of its steps."""
        steps = tuple(
            Step(
                index,
                step_model(step),
                step.model_version,
                dict(sorted(step.input_map.items())),
                dict(sorted(step.output_map.items())),
            )
            for index, step in enumerate(config.ensemble_scheduling.step)
        )
        consumers: dict[str, list[int]] = {}
        producers: dict[str, int] = {}
        for step in steps:
            for name in dict.fromkeys(step.inputs.values()):
                consumers.setdefault(name, []).append(step.index)
            for name in step.outputs.values():
                producers[name] = step.index
        return EnsembleGraph(
            config.name,
            steps,
            {name: tuple(indices) for name, indices in consumers.items()},
            producers,
            tuple(output.name for output in config.output),
            frozenset(item.name for item in config.input if item.optional),
            bool(config.model_transaction_policy.decoupled),
        )

    def needed(self, outputs: Sequence[str]) -> frozenset[int]:
        """Return the steps without which these outputs cannot be made."""
        found: set[int] = set()
        tensors = list(outputs)
        while tensors:
            index = self.producers.get(tensors.pop())
            if index is not None and index not in found:
                found.add(index)
                tensors.extend(self.steps[index].inputs.values())
        return frozenset(found)

    def plan(self, requested: tuple[str, ...]) -> Plan:
        """Return the plan for these outputs."""
        plan = self._plans.get(requested)
        if plan is None:
            if len(self._plans) >= _REMEMBERED_PLANS:
                self._plans.clear()
            plan = self._plans[requested] = self._new_plan(requested)
        return plan

    def _new_plan(self, requested: tuple[str, ...]) -> Plan:
        needed = self.needed(requested)
        consumers = {
            name: tuple(self.steps[index] for index in indices if index in needed)
            for name, indices in self.consumers.items()
        }
        uses = {
            name: len(consumers.get(name, ())) + (name in requested)
            for name in dict.fromkeys((*consumers, *self.producers, *requested))
        }
        takes = {}
        for index in needed:
            inputs = self.steps[index].inputs
            taken = list(inputs.values())
            takes[index] = tuple(
                Take(
                    name,
                    tensor,
                    taken.count(tensor) == 1 and len(self.consumers[tensor]) == 1 and tensor not in requested,
                )
                for name, tensor in inputs.items()
            )
        return Plan(
            needed,
            {name: count for name, count in uses.items() if count},
            consumers,
            takes,
            {index: tuple(dict.fromkeys(take.tensor for take in items)) for index, items in takes.items()},
            tuple(name for name in reversed(self.outputs) if name in requested),  # mostly as in Triton's table of them
        )


class Value(NamedTuple):
    """A tensor as it was given or made.

    Attributes:
        tensor: None for one that was left out.
        rows: its batch dimension; 0 if who made it does not batch.
        given: it came with the request; no step has made it.
        sequence: correlation id and flags of the step that made it, or what that gave as parameters of its response.
    """

    tensor: Tensor | None
    rows: int = 0
    given: bool = False
    sequence: tuple[int | str, int] | None = None


@dataclass(frozen=True, slots=True)
class StepModel:
    """The model of a step, as far as its tensors' shapes depend on it.

    Attributes:
        dims: of the inputs in its config, by name.
    """

    batches: bool
    decoupled: bool
    dims: Mapping[str, tuple[int, ...]]


@dataclass(slots=True, eq=False)
class StepRun:
    """A step that runs for one path; it is named so in the events.

    Attributes:
        inputs: by the name of the model's input, with the shape that the model wants.
        exclusive: the inputs whose value no other step and no response uses.
        given: the inputs that came with the request.
        sequence: correlation id and flags for the step's request.
    """

    step: Step
    path: Path
    inputs: dict[str, Tensor]
    exclusive: frozenset[str]
    given: frozenset[str]
    sequence: tuple[int | str, int]
    rows: int
    decoupled: bool
    responses: int = 0
    over: bool = False


class Start(NamedTuple):
    """Send the request of a step."""

    run: StepRun


class Respond(NamedTuple):
    """Answer the request; a response of None is an end without a further one."""

    response: InferResponse | None
    final: bool


Action = Start | Respond


class _State(Enum):
    RUNNING = "running"
    FAILED = "failed"
    OVER = "over"


@dataclass(slots=True, eq=False)
class EnsembleRun:
    """See the module. Not thread-safe.

    Attributes:
        models: the models of the steps, by the steps' indices; those of `needed` are enough.
        batch_size: rows of the request; 0 if the ensemble does not batch.
        output_dims: of the ensemble's outputs in its config, reshaped.
    """

    graph: EnsembleGraph
    models: Mapping[int, StepModel]
    requested: tuple[str, ...]
    output_dims: Mapping[str, tuple[int, ...]]
    request_id: str = ""
    batch_size: int = 0
    sequence: tuple[int | str, int] = (0, 0)
    _plan: Plan = field(init=False)
    _requested_names: frozenset[str] = field(init=False)
    _values: dict[tuple[str, Path], Value] = field(default_factory=dict)
    _uses_left: dict[tuple[str, Path], int] = field(default_factory=dict)
    _in_flight: int = 0
    _state: _State = _State.RUNNING
    _error: TensorhubError | None = None
    _cancelled: bool = False
    _responded: bool = False

    def __post_init__(self) -> None:
        self.requested = self.requested or self.graph.outputs
        self._plan = self.graph.plan(self.requested)
        self._requested_names = frozenset(self.requested)

    @property
    def over(self) -> bool:
        """The final response has been returned."""
        return self._state is _State.OVER

    def begin(self, inputs: Mapping[str, Tensor]) -> list[Action]:
        """Start with the tensors of the request; of an ensemble that batches, with the batch dimension."""
        rows = self.batch_size
        values = {name: Value(tensor, rows, True) for name, tensor in inputs.items()}
        for name in self.graph.optional:
            if name not in values:
                values[name] = Value(None, rows, True)
        return self._proceed(self._add(values, ()), ())

    def resume(self, values: Mapping[str, Value], done: Collection[int], running: StepRun | None) -> list[Action]:
        """Start where others have got to already, in place of `begin`.

        Args:
            values: what there is by now, without what nobody needs any more.
            done: the steps that have been started, by their indices.
            running: the one of them that has not answered yet.
        """
        added = self._add(values, ())
        for index in done:
            for name in self._plan.taken[index]:
                if (name, ()) in self._values:
                    self._use(name, ())
        self._in_flight = 0 if running is None else 1
        return self._proceed([name for name in added if (name, ()) in self._values], (), done)

    def answered(self, run: StepRun, response: InferResponse | None, final: bool) -> list[Action]:
        """Take an answer of a step: None is an end without a further response."""
        if final:
            run.over = True
            self._in_flight -= 1
        path = run.path
        added: list[str] = []
        if response is not None:
            if run.decoupled:
                path = (*path, run.responses)
                run.responses += 1
            if response.error is not None:
                self._fail(response.error)
            elif self._state is _State.RUNNING:
                try:
                    added = self._add(_values(run, response), path)
                except InvalidArgument as exc:
                    self._fail(exc)
        return self._proceed(added, path)

    def failed(self, run: StepRun, error: TensorhubError) -> list[Action]:
        """A step that was to be started has been refused."""
        self._in_flight -= 1
        self._fail(error)
        return self._proceed([], run.path)

    def cancel(self) -> None:
        """Start no more steps; what runs is waited for, since it uses the request's memory."""
        self._cancelled = True

    def _fail(self, error: TensorhubError) -> None:
        if self._state is _State.RUNNING:
            self._state = _State.FAILED
            self._error = error_for(error.code, f"in ensemble '{self.graph.name}', {error.message}")
            self._values.clear()

    def _add(self, values: Mapping[str, Value], path: Path) -> list[str]:
        """Put values where they are waited for; return their names."""
        uses = self._plan.uses
        added = []
        for name, value in values.items():
            if name in uses:
                self._values[name, path] = value
                self._uses_left[name, path] = uses[name]
                added.append(name)
        return added

    def _proceed(self, added: Sequence[str], path: Path, done: Collection[int] = ()) -> list[Action]:
        """Start what can start with the new values, respond if a response is complete, and end if nothing is left."""
        actions: list[Action] = []
        if self._state is _State.RUNNING:
            starts = self._ready(added, path)
            if done:
                starts = [step for step in starts if step.index not in done]
            if starts and self._cancelled:
                self._fail(Cancelled(""))
            else:
                for step in starts:
                    actions.append(Start(self._prepare(step, path)))
                self._in_flight += len(starts)
        response = None
        if self._state is _State.RUNNING and not self._requested_names.isdisjoint(added):
            response = self._maybe_response(path)
        if response is not None:
            self._responded = True
            actions.append(Respond(response, final=self._in_flight == 0))
        elif self._in_flight == 0 and self._state is not _State.OVER:
            actions.append(Respond(self._last_words(), final=True))
        if self._in_flight == 0:
            self._state = _State.OVER
        return actions

    def _last_words(self) -> InferResponse | None:
        error = self._error
        if error is None and not self.graph.decoupled and not self._responded:
            error = InvalidArgument(
                f"in ensemble '{self.graph.name}', {prefix(self.request_id)}unexpected deadlock, at least one output "
                "is not set while no more ensemble steps can be made"
            )
        return None if error is None else InferResponse(error=error)

    def _ready(self, added: Sequence[str], path: Path) -> list[Step]:
        """Return the steps, in their order, for which one of the new values was the last that was missing."""
        consumers, values, takes = self._plan.consumers, self._values, self._plan.takes
        steps: dict[int, Step] = {}
        for name in added:
            for step in consumers.get(name, ()):
                if step.index not in steps:
                    for take in takes[step.index]:
                        if (take.tensor, path) not in values:
                            break
                    else:
                        steps[step.index] = step
        return [steps[index] for index in sorted(steps)] if len(steps) > 1 else list(steps.values())

    def _prepare(self, step: Step, path: Path) -> StepRun:
        index = step.index
        model = self.models[index]
        values, batches, dims = self._values, model.batches, model.dims
        inputs: dict[str, Tensor] = {}
        exclusive, given = [], []
        sequence: tuple[int | str, int] | None = None
        for name, tensor_name, only in self._plan.takes[index]:
            value = values[tensor_name, path]
            if sequence is None:
                sequence = value.sequence
            tensor = value.tensor
            if tensor is None:
                continue
            shape = reshaped(dims.get(name, ()), batches, value.rows, tensor.shape)
            inputs[name] = Tensor(name, tensor.datatype, shape, tensor.data)
            if value.given:
                given.append(name)
            if only:
                exclusive.append(name)
        for tensor_name in self._plan.taken[index]:
            self._use(tensor_name, path)
        rows = next((tensor.shape[0] for tensor in inputs.values() if tensor.shape), 0) if batches else 0
        return StepRun(
            step,
            path,
            inputs,
            frozenset(exclusive),
            frozenset(given),
            sequence or self.sequence,
            rows,
            model.decoupled,
        )

    def _use(self, name: str, path: Path) -> None:
        """Forget a value with its last use."""
        key = name, path
        left = self._uses_left[key] - 1
        if left:
            self._uses_left[key] = left
        else:
            del self._uses_left[key], self._values[key]

    def _maybe_response(self, path: Path) -> InferResponse | None:
        """Return the response with the outputs of a path, when all of them are there."""
        for name in self._plan.returned:
            if (name, path) not in self._values:
                return None
        outputs = []
        parameters: Mapping[str, Parameter] = {}
        for name in self._plan.returned:
            value = self._values[name, path]
            self._use(name, path)
            if value.tensor is not None:
                if value.sequence is not None and 0 not in value.tensor.shape:
                    parameters = _sequence_parameters(*value.sequence)
                shape = reshaped(self.output_dims.get(name, ()), self.batch_size > 0, value.rows, value.tensor.shape)
                outputs.append(value.tensor.renamed(name, shape))
        return InferResponse(outputs, parameters)


def reshaped(dims: tuple[int, ...], batches: bool, rows: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that a tensor has for its next user.

    Only between who batches and who does not is there something to do: a batch dimension of 1 is put in front of a
    tensor that has none, or taken away, if the dimensions fit then. Source: ReshapeTensorDims in Triton's core.

    Args:
        dims: of the user's config.
        batches: the user batches.
        rows: of who made the tensor; 0 if that does not batch.
    """
    if batches == (rows != 0):
        return shape
    fits = len(dims) == len(shape) and all(
        want in (-1, got) or got == -1 for want, got in zip(dims, shape, strict=True)
    )
    if batches:
        return (1, *shape) if fits else shape
    return shape[1:] if not fits and rows == 1 else shape


def _values(run: StepRun, response: InferResponse) -> dict[str, Value]:
    """Return what a response of a step brings, by the ensemble's tensors; outputs that it leaves out are empty."""
    given = {tensor.name: tensor for tensor in response.outputs}
    sequence = _sequence(run, response.parameters) if response.parameters else run.sequence
    return {
        tensor_name: Value(given[name].renamed(tensor_name) if name in given else None, run.rows, sequence=sequence)
        for name, tensor_name in run.step.outputs.items()
    }


def _sequence(run: StepRun, parameters: Mapping[str, Parameter]) -> tuple[int | str, int]:
    """Read the parameters by which a step says of which sequence the rest of the ensemble is.

    Raises:
        InvalidArgument: one has a wrong type.
    """
    if not any(name in parameters for name in ("sequence_id", "sequence_start", "sequence_end")):
        return run.sequence
    correlation_id = parameters.get("sequence_id", run.sequence[0])
    if isinstance(correlation_id, (bool, float)):
        raise InvalidArgument(
            "expected parameter 'sequence_id' to be TRITONSERVER_PARAMETER_INT or TRITONSERVER_PARAMETER_STRING"
        )
    flags = 0
    for name, flag in (("sequence_start", FLAG_SEQUENCE_START), ("sequence_end", FLAG_SEQUENCE_END)):
        value = parameters.get(name, False)
        if not isinstance(value, bool):
            raise InvalidArgument(f"expect parameter '{name}' to be TRITONSERVER_PARAMETER_BOOL")
        flags |= flag if value else 0
    return correlation_id, flags


def _sequence_parameters(correlation_id: int | str, flags: int) -> Mapping[str, Parameter]:
    if correlation_id == 0 and not flags:
        return NO_SEQUENCE
    if isinstance(correlation_id, int) and correlation_id > _MAX_INT64:
        correlation_id -= 1 << 64  # a parameter is an int64, as Triton casts it
    return {
        "sequence_id": correlation_id,
        "sequence_start": bool(flags & FLAG_SEQUENCE_START),
        "sequence_end": bool(flags & FLAG_SEQUENCE_END),
    }
