"""Whether an ensemble fits the models of its steps: names, types, shapes, batch sizes, and the flow of streams. Pure.

What can be seen in the ensemble's config alone is checked by `config_ensemble`. Source: ValidateEnsembleConfig and
ValidateTensorMapping in Triton's core.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tensorhub.errors import InvalidArgument
from tensorhub.protocol.model_names import step_model
from tensorhub.tensors import DataType, shape_text

Dims = tuple[int, ...]


@dataclass(slots=True, eq=False)
class _Node:
    """A tensor of the ensemble, as the first model that mentions it has it.

    Attributes:
        full_dims: with the batch dimension.
        decoupled: a decoupled step makes it. label: from which decoupled step its values come, 0 for none.
        siblings: what it shares with the other outputs of its step.
    """

    model: str
    data_type: int = 0
    dims: Dims = ()
    full_dims: Dims = ()
    decoupled: bool = False
    label: int = 0
    visited: bool = False
    siblings: "_Node | None" = None
    sources: list["_Node"] = field(default_factory=list)
    targets: list["_Node"] = field(default_factory=list)


def check_steps(config: Any, models: Mapping[str, Any]) -> bool:
    """Check an ensemble against the models of its steps.

    Args:
        config: of the ensemble, valid in itself.
        models: the configs of the steps' models, complete, by their keys.

    Returns:
        Whether the ensemble is decoupled, because one of its steps is.

    Raises:
        InvalidArgument: Triton's text for what does not fit first.
    """
    name, batches = config.name, config.max_batch_size > 0
    tensors = {item.name: _tensor(name, item, batches, reshaped=True) for item in config.input}
    sink = _Node(name)
    for item in config.output:
        node = tensors.setdefault(item.name, _tensor(name, item, batches, reshaped=True))
        sink.sources.append(node)
        node.targets.append(sink)
    for step in config.ensemble_scheduling.step:
        model = models[step_model(step)]
        if model.max_batch_size and model.max_batch_size < config.max_batch_size:
            raise InvalidArgument(
                f"ensemble {name} allows maximum batch size {config.max_batch_size}, but it contains model "
                f"{step.model_name} which only allows maximum batch size to be {model.max_batch_size}"
            )
        _connect(name, step, model, tensors)
    return _check_streams(name, [tensors[item.name] for item in config.input])


def _tensor(model: str, item: Any, batches: bool, *, reshaped: bool = False) -> _Node:
    dims = tuple(item.reshape.shape if reshaped and item.HasField("reshape") else item.dims)
    return _Node(model, item.data_type, dims, (-1, *dims) if batches else dims)


def _connect(name: str, step: Any, model: Any, tensors: dict[str, _Node]) -> None:
    """Put a step's tensors beside those that are known, and link its inputs with its outputs."""
    where, batches = f"in ensemble {name}, ", model.max_batch_size > 0
    inputs = {item.name: item for item in model.input}
    for key, tensor in sorted(step.input_map.items()):
        if key not in inputs:
            raise InvalidArgument(
                f"{where}ensemble tensor {tensor} is mapping to non-existing input {key} in model {step.model_name}"
            )
    for key, item in inputs.items():
        if key in step.input_map:
            _merge(where, step.input_map[key], _tensor(step.model_name, item, batches), tensors)
        elif not item.optional:
            raise InvalidArgument(
                f"{where}input {key} in model {step.model_name} is not mapped to any ensemble tensors"
            )
    outputs = {item.name: item for item in model.output}
    siblings = _Node(step.model_name)
    for key, tensor in sorted(step.output_map.items()):
        if key not in outputs:
            raise InvalidArgument(
                f"{where}ensemble tensor {tensor} is mapped from non-existing output {key} in model {step.model_name}"
            )
        node = _merge(where, tensor, _tensor(step.model_name, outputs[key], batches), tensors)
        node.siblings = siblings
        node.decoupled = model.model_transaction_policy.decoupled
        for source in step.input_map.values():
            node.sources.append(tensors[source])
            tensors[source].targets.append(node)


def _merge(where: str, name: str, new: _Node, tensors: dict[str, _Node]) -> _Node:
    """Note a tensor, or check that it is what it was for others.

    Shapes match if they do with or without the batch dimension: who batches may take a tensor of one who does not, if
    that has the rows as its first dimension. Free dimensions are compared when there are values.
    """
    known = tensors.setdefault(name, new)
    if known is new:
        return new
    where = f"{where}ensemble tensor {name}: "
    if known.data_type != new.data_type:
        raise InvalidArgument(
            f"{where}inconsistent data type: {_type_name(known)} is inferred from model {known.model} while "
            f"{_type_name(new)} is inferred from model {new.model}"
        )
    if not _fit(known.dims, new.dims) and not _fit(known.full_dims, new.full_dims):
        raise InvalidArgument(
            f"{where}inconsistent shape: {shape_text(known.full_dims)} is inferred from model {known.model} while "
            f"{shape_text(new.full_dims)} is inferred from model {new.model}"
        )
    return known


def _type_name(node: _Node) -> str:
    return DataType.from_config(node.data_type).config_name


def _fit(left: Dims, right: Dims) -> bool:
    return len(left) == len(right) and all(a == b or -1 in (a, b) for a, b in zip(left, right, strict=True))


def _check_streams(name: str, inputs: Sequence[_Node]) -> bool:
    """See that no step takes tensors of which different decoupled steps decide how many there are."""
    front = list(inputs)
    for node in front:
        node.visited = True
    labels = 0
    while front:
        for node in front.pop(0).targets:
            if node.visited or not all(source.visited for source in node.sources):
                continue
            inherited = node.sources[0].label
            if any(source.label != inherited for source in node.sources):
                raise InvalidArgument(
                    f"in ensemble {name}, step of model '{node.model}' receives inputs originated from different "
                    "decoupled models"
                )
            if node.siblings is not None and node.siblings.visited:
                node.label = node.siblings.label
            elif node.decoupled:
                labels += 1
                node.label = labels
            else:
                node.label = inherited
            if node.siblings is not None:
                node.siblings.label, node.siblings.visited = node.label, True
            node.visited = True
            front.append(node)
    return labels != 0
