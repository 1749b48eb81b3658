"""What a request is judged by: a model's config, turned into tables once. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tensorhub.tensors import DataType

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class InputSpec:
    """An input of a model.

    Attributes:
        dims: of the config, without the batch dimension; -1 is free.
        batched: requests put a batch dimension in front.
        reshape: what the model wants in place of `dims`, with the free ones in the same order, or None.
    """

    name: str
    datatype: DataType
    dims: Shape
    batched: bool = False
    optional: bool = False
    reshape: Shape | None = None

    @property
    def expected(self) -> Shape:
        """The shape that a client is told to send."""
        return (-1, *self.dims) if self.batched else self.dims


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """An output of a model; the attributes are those of InputSpec."""

    name: str
    datatype: DataType
    dims: Shape
    batched: bool = False
    reshape: Shape | None = None

    def client_shape(self, shape: Shape) -> Shape:
        """Turn the shape that the model gave into the one that the client sees: `reshape` undone.

        A shape with too few dimensions is left alone: the model is not bound to its config.
        """
        if self.reshape is None:
            return shape
        rows, values = (shape[:1], shape[1:]) if self.batched else ((), shape)
        return (*rows, *carry_free(self.reshape, self.dims, values)) if len(values) == len(self.reshape) else shape


CPU_ONLY = "FORCE_CPU_ONLY_INPUT_TENSORS"
"""Parameter of Python models, as in Triton: "no" leaves inputs where they are, also in the memory of a GPU."""

_TAKES_ANY_MEMORY = frozenset(("identity", "onnxruntime"))
"""Backends that take inputs in the memory of a GPU without being told by the config."""


@dataclass(frozen=True, slots=True)
class CorrelationControl:
    """The input through which a sequence model hears its correlation id."""

    name: str
    datatype: DataType


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model version as requests see it.

    Attributes:
        max_batch_size: 0 for a model that does not batch.
        correlation: of a sequence model that asks for the correlation id, else None.
        copies_region_inputs: the model parameter `SHM_INPUT: copy` is set: the model may write to every input.
        takes_device_inputs: inputs may stay in the memory of a GPU: the model parameter `FORCE_CPU_ONLY_INPUT_TENSORS`
            is `no`, the backend is one that takes them wherever they are, or it is an ensemble on a GPU's worker.
        stages_inputs: large inputs are copied to where a GPU takes them from without a detour; set by who loads the
            model on a GPU.
        labels: of the classes of an output, by its name; from the label files of the config.
        state_outputs: outputs that are the next states of a sequence, whether clients may have them or not.
    """

    name: str
    version: int
    max_batch_size: int
    inputs: Mapping[str, InputSpec] = field(default_factory=dict)
    outputs: Mapping[str, OutputSpec] = field(default_factory=dict)
    correlation: CorrelationControl | None = None
    copies_region_inputs: bool = False
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    state_outputs: frozenset[str] = frozenset()
    takes_device_inputs: bool = False
    stages_inputs: bool = False

    @staticmethod
    def from_config(config: Any, name: str, version: int) -> "ModelSpec":
        """Build the tables of a complete, validated `inference.ModelConfig`.

        Raises:
            KeyError: a tensor has no valid data type.
        """
        batches = config.max_batch_size > 0
        anywhere = config.backend == "python" and _parameter(config, CPU_ONLY) == "no"
        return ModelSpec(
            name,
            version,
            max(config.max_batch_size, 0),
            {item.name: _input(item, batches) for item in config.input},
            {item.name: _output(item, batches) for item in config.output},
            _correlation(config),
            _parameter(config, "SHM_INPUT").lower() == "copy",
            takes_device_inputs=anywhere or config.backend in _TAKES_ANY_MEMORY,
            state_outputs=frozenset(state.output_name for state in config.sequence_batching.state),
        )


def _parameter(config: Any, name: str) -> str:
    return str(config.parameters[name].string_value) if name in config.parameters else ""


def carry_free(source: Shape, target: Shape, shape: Shape) -> Shape:
    """Fill the free dimensions of `target` with those that `shape` has where `source` is free, in order."""
    free = iter([actual for wanted, actual in zip(source, shape, strict=True) if wanted == -1])
    return tuple(next(free, -1) if dimension == -1 else dimension for dimension in target)


def _input(item: Any, batches: bool) -> InputSpec:
    return InputSpec(
        item.name,
        DataType.from_config(item.data_type),
        tuple(item.dims),
        batches and not item.is_shape_tensor,
        item.optional,
        tuple(item.reshape.shape) if item.HasField("reshape") else None,
    )


def _output(item: Any, batches: bool) -> OutputSpec:
    return OutputSpec(
        item.name,
        DataType.from_config(item.data_type),
        tuple(item.dims),
        batches and not item.is_shape_tensor,
        tuple(item.reshape.shape) if item.HasField("reshape") else None,
    )


def _correlation(config: Any) -> CorrelationControl | None:
    if not config.HasField("sequence_batching"):
        return None
    for item in config.sequence_batching.control_input:
        for control in item.control:
            if control.DESCRIPTOR.enum_types_by_name["Kind"].values_by_number[control.kind].name.endswith("_CORRID"):
                return CorrelationControl(item.name, DataType.from_config(control.data_type))
    return None
