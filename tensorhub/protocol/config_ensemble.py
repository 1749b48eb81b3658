"""Whether the steps of an ensemble form a graph in which every tensor is made and used. Pure.

A tensor is ready when the ensemble's caller gives it, or when all inputs of the step that makes it are ready. Source:
ValidateEnsembleSchedulingConfig and BuildEnsembleGraph in Triton's core. What concerns the models of the steps
(that they exist, and have these tensors) is not known here.
"""

from dataclasses import dataclass, field
from typing import Any

from tensorhub.errors import InvalidArgument


@dataclass(slots=True)
class _Tensor:
    """An ensemble tensor: what it is made from, and what is made from it."""

    written: bool = False
    sources: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)


def validate_ensemble(config: Any) -> None:
    """Check the scheduling of a config that has `ensemble_scheduling`.

    Raises:
        InvalidArgument: the first rule that it breaks, in Triton's words.
    """
    name = config.name
    if config.platform != "ensemble":
        raise InvalidArgument(f"ensemble scheduling cannot be set for model '{name}' whose platform is not ensemble")
    if config.instance_group:
        raise InvalidArgument(f"instance group should not be specified for ensemble '{name}'")
    if config.HasField("optimization"):
        raise InvalidArgument(f"optimization should not be specified for ensemble '{name}'")
    if config.model_warmup:
        raise InvalidArgument(f"model_warmup can not be specified for ensemble '{name}'")
    if not config.ensemble_scheduling.step:
        raise InvalidArgument(f"must specify 'step' for ensemble '{name}'")
    _validate_flow(config, _graph(config))


def _graph(config: Any) -> dict[str, _Tensor]:
    tensors: dict[str, _Tensor] = {}
    for index, step in enumerate(config.ensemble_scheduling.step):
        for field_name in ("model_name", "input_map", "output_map"):
            if not getattr(step, field_name):
                raise InvalidArgument(f"must specify '{field_name}' in step {index} of ensemble '{config.name}'")
        made = sorted(step.output_map.values())
        for name in made:
            tensor = tensors.setdefault(name, _Tensor())
            if tensor.written:
                raise InvalidArgument(
                    f"ensemble tensor '{name}' can appear in an output map only once for ensemble '{config.name}' "
                    f"step {index}"
                )
            tensor.written = True
        for source in sorted(step.input_map.values()):
            tensors.setdefault(source, _Tensor()).targets.extend(made)
            for name in made:
                tensors[name].sources.append(source)
    return tensors


def _validate_flow(config: Any, tensors: dict[str, _Tensor]) -> None:
    for tensor in config.input:
        if tensor.name not in tensors:
            raise InvalidArgument(f"ensemble input '{tensor.name}' for ensemble {config.name}' is not used")
    ready = _reachable(tensors, [tensor.name for tensor in config.input])
    outputs = {tensor.name for tensor in config.output}
    for tensor in config.output:
        if tensor.name not in tensors:
            raise InvalidArgument(f"ensemble output '{tensor.name}' for ensemble {config.name}' is not used")
        if tensor.name not in ready:
            missing = _missing_source(tensors, ready, tensor.name)
            cause = f": at least one of its depending tensors, '{missing}', is not connected"
            raise InvalidArgument(
                f"output '{tensor.name}' for ensemble '{config.name}' is not written"
                + (cause if missing != tensor.name else "")
            )
    for name in sorted(tensors):
        if name not in outputs and (name not in ready or not tensors[name].targets):
            raise InvalidArgument(f"ensemble tensor '{name}' is unused in ensemble '{config.name}'")


def _reachable(tensors: dict[str, _Tensor], given: list[str]) -> set[str]:
    ready = set(given)
    front = list(given)
    while front:
        for target in tensors[front.pop()].targets:
            if target not in ready and all(source in ready for source in tensors[target].sources):
                ready.add(target)
                front.append(target)
    return ready


def _missing_source(tensors: dict[str, _Tensor], ready: set[str], name: str) -> str:
    """Follow the sources that are not ready up to the last one; a circle is left where it was entered."""
    seen = {name}
    while True:
        missing = [source for source in tensors[name].sources if source not in ready and source not in seen]
        if not missing:
            return name
        name = missing[0]
        seen.add(name)
