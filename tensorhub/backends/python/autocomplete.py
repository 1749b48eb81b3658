"""`pb_utils.ModelConfig`: what a model's `auto_complete_config` fills in, and how it gets into the server's config.

A model may fill in what the config leaves open, and repeat what it says; it may not contradict it. Pure.
"""

import json
from typing import Any

from tensorhub.errors import InternalError
from tensorhub.protocol import messages

_TYPE_INVALID = "TYPE_INVALID"
_INPUT_KEYS = ("name", "data_type", "dims", "optional")
_OUTPUT_KEYS = ("name", "data_type", "dims")

_COMPLETED = ("max_batch_size", "input", "output", "dynamic_batching", "model_transaction_policy")
"""Fields of the config that a model can change."""


class ModelConfig:
    """A model's config while the model completes it.

    Args:
        model_config: the config as JSON, in which all fields stand, also those that are empty.
    """

    def __init__(self, model_config: str) -> None:
        self._model_config: dict[str, Any] = json.loads(model_config)

    @property
    def _name(self) -> str:
        return str(self._model_config["name"])

    def as_dict(self) -> dict[str, Any]:
        """Return the config; to be read, not changed."""
        return self._model_config

    def set_max_batch_size(self, max_batch_size: int) -> None:
        """Set the largest batch.

        Raises:
            ValueError: the config says a larger one.
        """
        configured = self._model_config["max_batch_size"]
        if configured > max_batch_size:
            raise ValueError(
                f"configuration specified max_batch_size {configured}, but in auto-complete-config function for model "
                f"'{self._name}' specified max_batch_size {max_batch_size}"
            )
        self._model_config["max_batch_size"] = max_batch_size

    def set_dynamic_batching(self) -> None:
        """Choose the dynamic batcher, unless the config has chosen it with settings of its own.

        Raises:
            ValueError: the config has chosen another scheduler.
        """
        for other in ("sequence_batching", "ensemble_scheduling"):
            if other in self._model_config:
                raise ValueError(
                    f"Configuration specified scheduling_choice as '{other}', but auto-complete-config function for "
                    f"model '{self._name}' tries to set scheduling_choice as 'dynamic_batching'"
                )
        self._model_config.setdefault("dynamic_batching", {})

    def add_input(self, input: dict[str, Any]) -> None:
        """Add an input: a dict with `name`, `data_type`, `dims` and perhaps `optional`.

        Raises:
            ValueError: keys are missing or unknown, or the config describes the input otherwise.
        """
        self._add("input", input, _INPUT_KEYS, "'name', 'data_type', 'dims' and 'optional'")

    def add_output(self, output: dict[str, Any]) -> None:
        """Add an output: a dict with `name`, `data_type` and `dims`.

        Raises:
            ValueError: keys are missing or unknown, or the config describes the output otherwise.
        """
        self._add("output", output, _OUTPUT_KEYS, "'name', 'data_type' and 'dims'")

    def set_model_transaction_policy(self, transaction_policy_dict: dict[str, Any]) -> None:
        """Say whether the model is decoupled: a dict with `decoupled`.

        Raises:
            ValueError: there are other keys, or the config says otherwise.
        """
        if any(key != "decoupled" for key in transaction_policy_dict):
            raise ValueError(
                f"model transaction property in auto-complete-config function for model '{self._name}' contains "
                "property other than 'decoupled'."
            )
        policy = self._model_config.setdefault("model_transaction_policy", {})
        if "decoupled" not in transaction_policy_dict:
            return
        wanted = transaction_policy_dict["decoupled"]
        if policy.get("decoupled", wanted) != wanted:
            raise ValueError(
                f"trying to change decoupled property in auto-complete-config for model '{self._name}', which is "
                f"already set to '{policy['decoupled']}'."
            )
        policy["decoupled"] = wanted

    def _add(self, kind: str, tensor: dict[str, Any], keys: tuple[str, ...], listed: str) -> None:
        where = f"in auto-complete-config function for model '{self._name}'"
        if any(key not in keys for key in tensor):
            raise ValueError(f"{kind} '{tensor.get('name', '')}' {where} contains property other than {listed}.")
        if "name" not in tensor:
            raise ValueError(f"{kind} {where} is missing 'name' property.")
        name = tensor["name"]
        for key in ("data_type", "dims"):
            if key not in tensor:
                raise ValueError(f"{kind} '{name}' {where} is missing '{key}' property.")
        for known in self._model_config[kind]:
            if known["name"] == name:
                self._check_same(kind, known, tensor)
                known.update(tensor)
                return
        self._model_config[kind].append(tensor)

    def _check_same(self, kind: str, known: dict[str, Any], tensor: dict[str, Any]) -> None:
        name = tensor["name"]
        if known["data_type"] not in (_TYPE_INVALID, tensor["data_type"]):
            raise ValueError(
                f"unable to load model '{self._name}', configuration expects datatype {known['data_type']} for {kind} "
                f"'{name}', model provides {tensor['data_type']}"
            )
        if known["dims"] and known["dims"] != tensor["dims"]:
            raise ValueError(
                f"model '{self._name}', tensor '{name}': the model expects dims {tensor['dims']} but the model "
                f"configuration specifies dims {known['dims']}"
            )
        if "optional" in known and "optional" in tensor and known["optional"] != tensor["optional"]:
            raise ValueError(
                f"model '{self._name}', tensor '{name}': the model expects optional {tensor['optional']} but the model "
                f"configuration specifies optional {known['optional']}"
            )


def merge(config: Any, completed: ModelConfig) -> Any:
    """Return a copy of `config` with what the model has filled in.

    Raises:
        InternalError: a value is nothing that a config can hold.
    """
    from google.protobuf import json_format  # not at the top: few models complete their configurations

    document = completed.as_dict()
    result = messages.ModelConfig()
    result.CopyFrom(config)
    for name in _COMPLETED:
        if name in document:
            result.ClearField(name)
    try:
        json_format.ParseDict({name: document[name] for name in _COMPLETED if name in document}, result)
    except json_format.ParseError as exc:
        raise InternalError(
            f"the auto_complete_config function in model '{config.name}' gave an invalid value: {exc}"
        ) from exc
    return result
