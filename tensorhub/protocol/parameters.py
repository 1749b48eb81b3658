"""Parameters in protobuf messages. Pure."""

from typing import Any

from tensorhub.protocol.json_values import MAX_INT64
from tensorhub.requests import Parameter


def write_parameter(parameter: Any, value: Parameter) -> None:
    """Put a value into an `inference.InferParameter`; an integer that is too large for int64 goes as uint64.

    Raises:
        ValueError: an integer that fits neither.
    """
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        if value > MAX_INT64:
            parameter.uint64_param = value
        else:
            parameter.int64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    else:
        parameter.string_param = value
