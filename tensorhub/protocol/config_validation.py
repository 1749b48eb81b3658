"""What a completed ModelConfig must satisfy, with Triton's words for what it does not. Pure.

In two parts, because Triton finds the errors at two times and reports them differently: `validate` when it reads a
model, `validate_loaded` when it loads a version, after the backend has completed the config. Source:
ValidateModelConfig, ValidateInstanceGroup and ValidateModelIOConfig in Triton's core. The rules of ensembles,
sequences and tensors are in modules of their own.
"""

from collections.abc import Sequence
from typing import Any

from tensorhub.errors import InvalidArgument
from tensorhub.protocol import messages
from tensorhub.protocol.config_check import enum_name, require, validate_preferred
from tensorhub.protocol.config_completion import PLATFORMS, is_ensemble
from tensorhub.protocol.config_ensemble import validate_ensemble
from tensorhub.protocol.config_sequence import validate_sequence_batching, validate_states
from tensorhub.protocol.config_tensors import TENSORRT_PLATFORM, validate_tensors

MIN_COMPUTE_CAPABILITY = "6.000000"
"""Triton's default for `--min-supported-compute-capability`, as it prints it."""

_GROUP = messages.message_class("inference.ModelInstanceGroup")
_DELAY = messages.message_class("inference.ModelQueuePolicy").DELAY


def validate(config: Any) -> None:
    """Check a completed config, except for its tensors and instance groups.

    Raises:
        InvalidArgument: the first rule that it breaks.
    """
    name = config.name
    _validate_agents(config)
    _validate_names(config)
    require(config.max_batch_size >= 0, f"'max_batch_size' must be non-negative value for {name}")
    require(config.HasField("version_policy"), f"must specify 'version policy' for {name}")
    if config.HasField("dynamic_batching"):
        _validate_dynamic_batching(config.dynamic_batching, config.max_batch_size, name)
    if config.HasField("sequence_batching"):
        validate_sequence_batching(config)
    if config.HasField("ensemble_scheduling"):
        validate_ensemble(config)
    else:
        require(
            not is_ensemble(config),
            f"ensemble scheduling must be set for ensemble {name} whose platform is ensemble",
        )
    require(
        not (config.model_transaction_policy.decoupled and config.response_cache.enable),
        f"Response Cache does not currently support model {name} with 'decoupled' transaction policy. Please disable "
        "the response cache.",
    )
    if config.HasField("model_metrics"):
        _validate_metrics(config.model_metrics)


def validate_loaded(config: Any, gpus: Sequence[str] = ()) -> None:
    """Check a completed config's instance groups, tensors and states.

    Args:
        gpus: the GPUs of this server, one entry for each ordinal.

    Raises:
        InvalidArgument: the first rule that it breaks.
    """
    if not config.HasField("ensemble_scheduling"):
        validate_instance_groups(config, gpus)
    validate_tensors(config)
    validate_states(config.sequence_batching)


def validate_instance_groups(config: Any, gpus: Sequence[str] = ()) -> None:
    """Check the instance groups against the GPUs of this server.

    Raises:
        InvalidArgument: the first rule that one of them breaks.
    """
    require(len(config.instance_group) > 0, f"must specify one or more 'instance group's for {config.name}")
    for group in config.instance_group:
        where = f"instance group {group.name} of model {config.name}"
        if group.kind == _GROUP.KIND_GPU:
            _validate_gpus(group, where, len(gpus))
        else:
            kind = enum_name(_GROUP.Kind, group.kind)
            require(group.kind != _GROUP.KIND_AUTO, f"{where} has unexpected kind KIND_AUTO")
            require(not group.gpus, f"{where} has kind {kind} but specifies one or more GPUs")
        require(
            not group.profile or config.platform == TENSORRT_PLATFORM,
            f"{where} and platform {config.platform}specifies profile field which is only supported for TensorRT "
            "models",
        )


def _validate_agents(config: Any) -> None:
    """SAFETY: an agent may be there to verify the model's files, so that none is passed over in silence."""
    for agent in config.model_repository_agents.agents:
        raise InvalidArgument(
            f"model '{config.name}' wants the repository agent '{agent.name}', and there are none here: do what it "
            "does before the model is loaded, and take 'model_repository_agents' out of its configuration"
        )


def _validate_names(config: Any) -> None:
    name, platform, backend = config.name, config.platform, config.backend
    require(bool(name), "model configuration must specify 'name'")
    if not backend:
        require(is_ensemble(config), f"unexpected platform type '{platform}' for {name}")
        return
    require(
        not is_ensemble(config),
        f"Ensemble model '{name}' must have platform type '{platform}' and empty backend type",
    )
    require(
        backend not in PLATFORMS or platform in PLATFORMS[backend],
        f"unexpected 'platform' and 'backend' pair, got:{platform}, {backend}",
    )


def _validate_dynamic_batching(batching: Any, max_batch_size: int, name: str) -> None:
    validate_preferred(batching.preferred_batch_size, max_batch_size, "dynamic batching preferred size", name)
    levels = batching.priority_levels
    if levels:
        require(
            1 <= batching.default_priority_level <= levels,
            f"default priority level must be in range [1, {levels}] for {name}",
        )
        require(
            all(1 <= level <= levels for level in batching.priority_queue_policy),
            f"priority queue policy must have priority level in range [1, {levels}] for {name}",
        )
    if batching.preserve_ordering:
        require(levels <= 1, f"Only one priority level is allowed when 'preserve_ordering' is true for {name}")
        for policy in (batching.default_queue_policy, *batching.priority_queue_policy.values()):
            require(
                policy.default_timeout_microseconds == 0 or policy.timeout_action != _DELAY,
                f"Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for {name}",
            )


def _validate_metrics(metrics: Any) -> None:
    for control in metrics.metric_control:
        require(control.HasField("metric_identifier"), "metric control must specify 'metric_identifier'")
        require(bool(control.metric_identifier.family), "metric identifier must specify non-empty 'family'")
        require(control.HasField("histogram_options"), "metric control must specify 'histogram_options'")
        require(len(control.histogram_options.buckets) > 0, "histogram options must specify non-empty 'buckets'")


def _validate_gpus(group: Any, where: str, gpu_count: int) -> None:
    if not group.gpus:
        reason = "specifies no GPUs" if gpu_count else "no GPUs are available"
        raise InvalidArgument(f"{where} has kind KIND_GPU but {reason}")
    for gpu in group.gpus:
        require(
            0 <= gpu < gpu_count,
            f"{where} specifies invalid or unsupported gpu id {gpu}. GPUs with at least the minimum required CUDA "
            f"compute compatibility of {MIN_COMPUTE_CAPABILITY} are: {', '.join(map(str, range(gpu_count)))}",
        )
