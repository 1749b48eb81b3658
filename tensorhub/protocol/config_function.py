"""The ModelConfig of a decorated function. Pure."""

from typing import Any

from tensorhub.decorator import FunctionModel, ModelDefinitionError, TensorSpec
from tensorhub.protocol import messages
from tensorhub.tensors import BY_NAME

BACKEND = "function"

_DynamicBatching = messages.message_class("inference.ModelDynamicBatching")


def function_config(model: FunctionModel) -> Any:
    """Return the `inference.ModelConfig` of a decorated function.

    Raises:
        ModelDefinitionError: `dynamic_batching` has what the configuration has not.
    """
    config = messages.ModelConfig(name=model.name, backend=BACKEND, max_batch_size=model.max_batch_size)
    for name, spec in model.inputs.items():
        _fill(config.input.add(name=name, optional=spec.optional), spec)
    for name, spec in model.outputs.items():
        _fill(config.output.add(name=name), spec)
    if model.instances > 1:
        config.instance_group.add(count=model.instances)
    if model.batching is not None:
        try:
            config.dynamic_batching.CopyFrom(_DynamicBatching(**model.batching))
        except (TypeError, ValueError) as exc:
            raise ModelDefinitionError(f"model '{model.name}': dynamic_batching: {exc}") from exc
    if model.decoupled:
        config.model_transaction_policy.decoupled = True
    for key, text in model.parameters.items():
        config.parameters[key].string_value = text
    return config


def _fill(tensor: Any, spec: TensorSpec) -> None:
    tensor.data_type = BY_NAME[spec.datatype].config_number
    tensor.dims.extend(spec.shape)
