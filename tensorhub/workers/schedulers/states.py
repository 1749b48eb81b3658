"""Implicit state: tensors that a sequence model hands on from one step of a sequence to the next, kept by the server.

A step gets the state as an input and returns the next one as an output; the first step gets the initial state. Source:
SequenceStates and InitializeImplicitState in Triton's core.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tensorhub.errors import InvalidArgument
from tensorhub.requests import InferRequest, Tensor
from tensorhub.tensors import DataType, element_count

_EMPTY_STRING = bytes(4)
"""A BYTES element of no length."""


@dataclass(frozen=True, slots=True)
class StateSpec:
    """One state of a model.

    Attributes:
        output_name: of the output that is the next state.
        initial: what the first step gets.
    """

    output_name: str
    initial: Tensor


def state_specs(config: Any, files: Mapping[str, bytes]) -> tuple[StateSpec, ...]:
    """Read the states of a complete, validated `inference.ModelConfig`.

    Args:
        files: the contents of the files of initial states, by name.

    Raises:
        InvalidArgument: a file has too few bytes for its state.
    """
    rows = (1,) if config.max_batch_size > 0 else ()
    return tuple(_spec(state, rows, files) for state in config.sequence_batching.state)


def _spec(state: Any, rows: tuple[int, ...], files: Mapping[str, bytes]) -> StateSpec:
    datatype = DataType.from_config(state.data_type)
    initial = state.initial_state[0] if state.initial_state else None
    dims = tuple(abs(dimension) for dimension in (initial.dims if initial is not None else state.dims))
    count = element_count(dims)
    data = bytes(count * datatype.item_size) or _EMPTY_STRING * count
    if initial is not None and initial.WhichOneof("state_data") == "data_file":
        found = files[initial.data_file]
        if len(found) < len(data):
            raise InvalidArgument(
                f"initial_state setting expects {len(data)} bytes, but the data provided from {initial.data_file}only "
                f"has {len(found)} bytes."
            )
        data = found if datatype is DataType.BYTES else found[: len(data)]
    return StateSpec(state.output_name, Tensor(state.input_name, datatype, (*rows, *dims), data))


INITIAL_STATE_FOLDER = "initial_state"
"""Below the model's, with the files that `initial_files` names."""


def initial_files(config: Any) -> list[str]:
    """Return the names of the files that `state_specs` needs."""
    return [
        initial.data_file
        for state in config.sequence_batching.state
        for initial in state.initial_state
        if initial.WhichOneof("state_data") == "data_file"
    ]


class SequenceState:
    """The states of one sequence, between its steps."""

    __slots__ = ("_current", "_names", "_specs")

    def __init__(self, specs: Sequence[StateSpec]) -> None:
        self._specs = specs
        self._names = frozenset(spec.initial.name for spec in specs)
        self._current: dict[str, Tensor] = {}

    def begin(self) -> None:
        """Go back to the initial states."""
        self._current = {}

    def fill(self, request: InferRequest) -> None:
        """Put the states among the inputs of a request."""
        for spec in self._specs:
            name = spec.initial.name
            request.inputs[name] = self._current.get(name, spec.initial)
        request.shared |= self._names

    def advance(self, request: InferRequest) -> None:
        """Take over what the model has returned as next states of a request."""
        for spec in self._specs:
            output = request.next_states.get(spec.output_name)
            if output is not None:
                name = spec.initial.name
                self._current[name] = Tensor(name, output.datatype, output.shape, output.data)
