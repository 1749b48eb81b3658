"""Print a ModelConfig as Triton's `GET /v2/models/M/config` does. Pure.

It is protobuf's JSON with proto field names and all primitive fields at their defaults, and with 64-bit integers as
numbers, where protobuf would print strings. Triton converts the fields it knows and leaves three kinds of 64-bit
integers as strings; clients see that, so it is kept.
"""

import math
import struct
from collections.abc import Mapping
from typing import Any

_STAY_STRINGS = frozenset(
    {
        "inference.ModelSequenceBatching.InitialState.dims",
        "inference.ModelOptimizationPolicy.Cuda.GraphSpec.Shape.dim",
        "inference.ModelInstanceGroup.SecondaryDevice.device_id",
    }
)

_LARGEST_SINGLE = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]


def to_json(config: Any) -> dict[str, Any]:
    """Return the JSON object of an `inference.ModelConfig`, in Triton's order of fields.

    Unset messages are left out; map keys are strings, sorted.
    """
    return _message(config)


def _message(message: Any) -> dict[str, Any]:
    result: dict[str, Any] = {}
    chosen: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.is_repeated:
            result[field.name] = _repeated(field, value)
        elif field.message_type is not None:
            if message.HasField(field.name):
                result[field.name] = _message(value)
        elif field.containing_oneof is None:
            result[field.name] = _scalar(field, value)
        elif message.HasField(field.name):
            # Triton prints the chosen primitive of a oneof after all other fields.
            chosen[field.name] = _scalar(field, value)
    return result | chosen


def _repeated(field: Any, value: Any) -> Any:
    entry = field.message_type
    if entry is None:
        return [_scalar(field, item) for item in value]
    if not isinstance(value, Mapping):
        return [_message(item) for item in value]
    value_field = entry.fields_by_name["value"]
    return {
        str(key): _message(value[key]) if value_field.message_type is not None else _scalar(value_field, value[key])
        for key in sorted(value)
    }


def _scalar(field: Any, value: Any) -> Any:
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return value if known is None else known.name
    if isinstance(value, float):
        return _float(value, single=field.type == field.TYPE_FLOAT)
    return str(value) if field.full_name in _STAY_STRINGS else value


def _float(value: float, *, single: bool) -> float | int | str:
    """Return the shortest number that reads back as `value`; the special values as protobuf's JSON spells them."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if single:
        for digits in range(6, 10):
            shorter = float(f"{value:.{digits}g}")
            # The largest single would be rounded up to a number that readers of protobuf's JSON call out of range.
            if abs(shorter) <= _LARGEST_SINGLE and struct.pack("<f", shorter) == struct.pack("<f", value):
                value = shorter
                break
    if value == 0:
        return 0 if math.copysign(1, value) > 0 else value
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
