"""Fill in what a ModelConfig leaves open, as Triton does before it loads a model. Pure.

Two steps, both of which leave what is set alone: the backend and its file, from names alone; then the defaults that
Triton makes visible in the configuration it shows. What only the model itself can tell (tensors, batch size) is its
backend's part. Source: AutoCompleteBackendFields, NormalizeModelConfig and NormalizeInstanceGroup in Triton's core.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tensorhub.errors import InvalidArgument
from tensorhub.protocol import messages

ENSEMBLE_PLATFORM = "ensemble"
SEQUENCE_IDLE_DEFAULT_US = 1_000_000
DEFAULT_CPU_COUNT = {"onnxruntime": 2, "tensorflow": 2}
"""Instances of a CPU group that does not say how many; 1 for all other backends."""


@dataclass(frozen=True, slots=True)
class _Format:
    """A kind of model file; `platforms` are the accepted names, of which the first is filled in."""

    filename: str
    backend: str
    platforms: tuple[str, ...] = ()


# In the order in which Triton looks for them.
_FORMATS = (
    _Format("model.savedmodel", "tensorflow", ("tensorflow_savedmodel",)),
    _Format("model.graphdef", "tensorflow", ("tensorflow_graphdef",)),
    _Format("model.plan", "tensorrt", ("tensorrt_plan",)),
    _Format("model.onnx", "onnxruntime", ("onnxruntime_onnx",)),
    _Format("model.xml", "openvino"),
    _Format("model.pt", "pytorch", ("pytorch_libtorch", "libtorch")),
    _Format("model.pt2", "pytorch", ("torch_aoti",)),
    _Format("model.py", "python"),
)

PLATFORMS: dict[str, frozenset[str]] = {
    backend: frozenset(platform for format_ in _FORMATS if format_.backend == backend for platform in format_.platforms)
    for backend in {format_.backend for format_ in _FORMATS if format_.platforms}
}
"""Backend to the platforms that may stand beside it; a backend that is not here may stand beside any."""


def is_ensemble(config: Any) -> bool:
    return bool(config.platform == ENSEMBLE_PLATFORM)


def complete(config: Any, *, name: str, files: Sequence[str] = (), gpus: Sequence[str] = ()) -> Any:
    """Return a copy of an `inference.ModelConfig` with what is open filled in; completing twice changes nothing more.

    A backend's own completion may open new questions (the preferred batch sizes of a batcher that it turned on), so
    call it before and after that.

    Args:
        name: the model's name, for a config that has none.
        files: names of what lies in the first version folder.
        gpus: the GPUs of this server, one entry for each ordinal.

    Raises:
        InvalidArgument: nothing tells the backend.
    """
    result = messages.ModelConfig()
    result.CopyFrom(config)
    if not result.name:
        result.name = name
    _complete_backend(result, name, files)
    _complete_schedule(result)
    if is_ensemble(result) or result.HasField("ensemble_scheduling"):
        # Shown for every ensemble; true when a model of it is decoupled, which its config cannot tell.
        result.model_transaction_policy.SetInParent()
    else:
        result.optimization.SetInParent()
        for memory in ("input_pinned_memory", "output_pinned_memory"):
            if not result.optimization.HasField(memory):
                getattr(result.optimization, memory).enable = True
        _complete_instance_groups(result, len(gpus))
    return result


def _complete_backend(config: Any, name: str, files: Sequence[str]) -> None:
    if config.platform == ENSEMBLE_PLATFORM:
        return
    format_ = _find_format(config, files)
    if format_ is not None:
        config.backend = format_.backend
        if not config.platform and format_.platforms:
            config.platform = format_.platforms[0]
        if not config.default_model_filename:
            config.default_model_filename = format_.filename
    elif not (config.backend or config.platform or config.default_model_filename):
        _, dot, backend = name.partition(".")
        if not dot or not backend:
            raise InvalidArgument(
                f"Invalid model name: Could not determine backend for model '{name}' with no backend in model "
                "configuration. Expected model name of the form 'model.<backend_name>'." + _hint(config, files)
            )
        config.backend = backend
        config.default_model_filename = f"model.{backend}"


def _find_format(config: Any, files: Sequence[str]) -> _Format | None:
    """Return the format that the config names (backend, then platform, then file), or else the files show."""
    named = list(_FORMATS)
    if config.backend:
        named = [item for item in named if item.backend == config.backend]
    if config.platform:
        of_platform = [item for item in named if config.platform in item.platforms]
        named = of_platform or (named if config.backend else [])
    told = bool(config.backend or config.platform)
    if config.default_model_filename:
        same = [item for item in named if item.filename == config.default_model_filename]
        extension = config.default_model_filename.rpartition(".")[2]
        like = [item for item in named if told and item.filename == f"model.{extension}"]
        candidates = same or like or (named if told else [])
    else:
        # A backend's first format is taken for granted; TensorFlow's has to be told.
        granted = told and (config.platform or config.backend != "tensorflow")
        candidates = [item for item in named if item.filename in files] or (named if granted else [])
    return candidates[0] if candidates else None


def _hint(config: Any, files: Sequence[str]) -> str:
    if config.HasField("ensemble_scheduling"):
        return ' An ensemble needs platform: "ensemble".'
    known = ", ".join(item.filename for item in _FORMATS)
    found = ", ".join(files[:8]) if files else "no file"
    return (
        ' Add backend: "..." to config.pbtxt, or name the file of the model as one of '
        f"{known}; the first version folder has {found}."
    )


def _complete_schedule(config: Any) -> None:
    if not config.HasField("version_policy"):
        config.version_policy.latest.num_versions = 1
    if config.HasField("dynamic_batching"):
        _complete_preferred(config.dynamic_batching, config.max_batch_size)
    if config.HasField("sequence_batching"):
        batching = config.sequence_batching
        if batching.max_sequence_idle_microseconds == 0:
            batching.max_sequence_idle_microseconds = SEQUENCE_IDLE_DEFAULT_US
        if batching.HasField("oldest"):
            _complete_preferred(batching.oldest, config.max_batch_size)


def _complete_preferred(batcher: Any, max_batch_size: int) -> None:
    if not batcher.preferred_batch_size and max_batch_size > 0:
        batcher.preferred_batch_size.append(max_batch_size)


def _complete_instance_groups(config: Any, gpu_count: int) -> None:
    groups = config.instance_group
    kinds = messages.message_class("inference.ModelInstanceGroup")
    if not groups:
        groups.add(name=config.name)
    for index, group in enumerate(groups):
        if not group.name:
            group.name = f"{config.name}_{index}"
        if group.kind == kinds.KIND_AUTO:
            usable = gpu_count > 0 and all(0 <= gpu < gpu_count for gpu in group.gpus)
            group.kind = kinds.KIND_GPU if usable else kinds.KIND_CPU
        if group.count < 1:
            group.count = DEFAULT_CPU_COUNT.get(config.backend, 1) if group.kind == kinds.KIND_CPU else 1
        if group.kind == kinds.KIND_GPU and not group.gpus:
            group.gpus.extend(range(gpu_count))
