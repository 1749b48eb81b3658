"""What the sequence batching of a ModelConfig must satisfy, with Triton's words for what it does not. Pure.

Source: ValidateModelConfig, GetBooleanSequenceControlProperties and GetTypedSequenceControlProperties in Triton's core,
and its sequence batch scheduler for the states.
"""

from typing import Any

from tensorhub.protocol import messages
from tensorhub.protocol.config_check import WILDCARD, enum_name, require, validate_preferred

_CONTROL = messages.message_class("inference.ModelSequenceBatching.Control")
_DATA_TYPE = messages.POOL.FindEnumTypeByName("inference.DataType").values_by_name
_CORRID_TYPES = frozenset(
    _DATA_TYPE[name].number for name in ("TYPE_UINT64", "TYPE_INT64", "TYPE_UINT32", "TYPE_INT32", "TYPE_STRING")
)


def validate_states(batching: Any) -> None:
    """Check the implicit states of a ModelSequenceBatching.

    Raises:
        InvalidArgument: the first rule that one of them breaks.
    """
    names: set[str] = set()
    for state in batching.state:
        require(state.input_name not in names, f"State input name '{state.input_name}' specified more than once.")
        names.add(state.input_name)
        _validate_initial_state(state)


def validate_sequence_batching(config: Any) -> None:
    """Check a config that has `sequence_batching`, except for its states.

    Raises:
        InvalidArgument: the first rule that it breaks.
    """
    name, batching = config.name, config.sequence_batching
    require(
        not config.response_cache.enable,
        f"Response Cache does not currently support model {name} with sequence batching scheduler. Please disable "
        "the response cache.",
    )
    for kind in (
        _CONTROL.CONTROL_SEQUENCE_START,
        _CONTROL.CONTROL_SEQUENCE_END,
        _CONTROL.CONTROL_SEQUENCE_READY,
        _CONTROL.CONTROL_SEQUENCE_CORRID,
    ):
        _validate_control(batching, kind, name)
    validate_preferred(
        batching.oldest.preferred_batch_size, config.max_batch_size, "sequence batching preferred batch size", name
    )
    require(
        0.0 <= batching.direct.minimum_slot_utilization <= 1.0,
        f"sequence batching minimum slot utilization must be in range (0.0, 1.0] for {name}",
    )


def _validate_control(batching: Any, kind: int, name: str) -> None:
    """Check everything that concerns one kind of control, in the order of the config."""
    text = enum_name(_CONTROL.Kind, kind)
    seen: set[str] = set()
    found = False
    for control_input in batching.control_input:
        require(bool(control_input.name), f"sequence batching control tensor must have a name for {name}")
        require(
            control_input.name not in seen,
            f"sequence batching control tensor '{control_input.name}' is specified for multiple control kinds for "
            f"{name}",
        )
        seen.add(control_input.name)
        for control in control_input.control:
            if control.kind != kind:
                continue
            require(not found, f"sequence batching specifies multiple {text} tensors for {name}")
            found = True
            if kind == _CONTROL.CONTROL_SEQUENCE_CORRID:
                _validate_corrid(control, text, name)
            else:
                _validate_boolean_control(control, text, name)


def _validate_boolean_control(control: Any, text: str, name: str) -> None:
    pairs = [
        (field, len(getattr(control, field)))
        for field in ("int32_false_true", "fp32_false_true", "bool_false_true")
        if getattr(control, field)
    ]
    require(
        len(pairs) > 0,
        "sequence batching must specify either 'int32_false_true', 'fp32_false_true' or 'bool_false_true' for "
        f"{text} for {name}",
    )
    require(
        len(pairs) == 1,
        "sequence batching specifies more than one from 'int32_false_true', 'fp32_false_true' and "
        f"'bool_false_true' for {text} for {name}",
    )
    require(
        pairs[0][1] == 2,
        f"sequence batching control '{pairs[0][0]}' must have exactly 2 entries for {text} for {name}",
    )


def _validate_corrid(control: Any, text: str, name: str) -> None:
    require(
        not (control.int32_false_true or control.fp32_false_true or control.bool_false_true),
        "sequence batching must not specify either 'int32_false_true', 'fp32_false_true' or 'bool_false_true' for "
        f"{text} for {name}",
    )
    require(
        control.data_type in _CORRID_TYPES,
        f"unexpected data type for control {text} for {name}. Allowed data types are TYPE_UINT64, TYPE_INT64, "
        "TYPE_UINT32, TYPE_INT32 and TYPE_STRING",
    )


def _validate_initial_state(state: Any) -> None:
    name = state.input_name
    count = len(state.initial_state)
    require(
        count <= 1,
        f"initial_state field for state input '{name}' must contain exactly one or zero element. Found '{count}' "
        "elements.",
    )
    for initial in state.initial_state:
        require(
            initial.data_type == state.data_type,
            f"The data type used for 'initial_state' field of state '{name}' does not match the state data type.",
        )
        require(bool(initial.name), f"Field 'name' must be set when using initial_state for state input '{name}'.")
        require(
            len(initial.dims) == len(state.dims),
            "Number of dimensions in 'initial_state' doesn't match the size of 'state' dimensions for state input "
            f"'{name}'. {len(initial.dims)} != {len(state.dims)}",
        )
        for got, expected in zip(initial.dims, state.dims, strict=True):
            require(
                got != WILDCARD, f"'initial_state' field for state input name '{name}' contains variable dimensions."
            )
            require(
                expected in (WILDCARD, got),
                f"'initial_state' dim for input name '{name}' doesn't match 'state' dim description. {got} != "
                f"{expected}",
            )
        require(
            initial.WhichOneof("state_data") is not None,
            f"initial_state setting expects state'{name}' to have state_data set",
        )
