"""Parameters of requests, tensors and responses, from JSON to `inference.InferParameter` and back. Pure."""

from typing import Any

import orjson

from tensorhub.errors import InternalError, InvalidArgument, Unsupported
from tensorhub.protocol import json_text, json_values
from tensorhub.protocol.affinity import MAX_CORRELATION_ID_SIZE
from tensorhub.protocol.json_values import MAX_INT64, MAX_UINT64, MIN_INT64, read_field

NO_PARAMETERS: dict[str, Any] = {}
"""What a tensor without parameters has; nobody writes to it."""


def c_string(text: str) -> str:
    """Ids and parameters are C strings in Triton: they end at a NUL."""
    return text.partition("\0")[0] if "\0" in text else text


def decode_parameters(parameters: Any, into: Any) -> bool:
    """Copy the request's parameters; return whether outputs are binary by default.

    Raises:
        TensorhubError: Triton's error for the first that is wrong.
    """
    binary = False
    try:
        items = json_values.members(parameters)
    except InternalError as exc:
        raise InternalError(f"failed to get request params.: {exc.message}") from None
    for name, value in items.items():
        if name == "binary_data_output":
            binary = read_field(name, json_values.as_bool, value)
        elif name == "sequence_id":
            _set_correlation_id(into[name], value)
        elif name in ("sequence_start", "sequence_end"):
            if read_field(name, json_values.as_bool, value):
                into[name].bool_param = True
        elif name in ("priority", "timeout"):
            set_uint(into[name], read_field(name, json_values.as_uint, value))
        elif name.startswith("triton_"):
            raise InvalidArgument(
                "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified."
            )
        else:
            set_custom(into, name, value)
    return binary


def _set_correlation_id(parameter: Any, value: Any) -> None:
    if type(value) is int and 0 <= value <= MAX_UINT64:
        set_uint(parameter, value)
        return
    text = c_string(read_field("sequence_id", json_values.as_string, value))
    if len(text.encode()) > MAX_CORRELATION_ID_SIZE:
        raise Unsupported(f"string correlation ID cannot be longer than {MAX_CORRELATION_ID_SIZE} characters")
    parameter.string_param = text


def set_uint(parameter: Any, value: int) -> None:
    """Set an `inference.InferParameter` to a number that fits 64 bits, with or without a sign."""
    if value <= MAX_INT64:
        parameter.int64_param = value
    else:
        parameter.uint64_param = value


def set_custom(into: Any, name: str, value: Any) -> None:
    """Set a parameter that means nothing to the server, for the model.

    Raises:
        InvalidArgument: its value is of a type that parameters have not.
    """
    kind = type(value)
    name = c_string(name)
    if kind is str:
        into[name].string_param = c_string(value)
    elif kind is int and MIN_INT64 <= value <= MAX_INT64:
        into[name].int64_param = value
    elif kind is bool:
        into[name].bool_param = value
    elif kind is int or kind is float:
        into[name].double_param = value
    else:
        raise InvalidArgument(f"parameter '{name}' has invalid type. It should be either 'int', 'bool', or 'string'.")


def set_region(into: Any, parameters: dict[str, Any]) -> None:
    """Copy where in shared memory a tensor is.

    Raises:
        InternalError: a member is of the wrong type.
    """
    into["shared_memory_region"].string_param = read_field(
        "shared_memory_region", json_values.as_string, parameters["shared_memory_region"]
    )
    if "shared_memory_offset" in parameters:
        offset = read_field("shared_memory_offset", json_values.as_uint, parameters["shared_memory_offset"])
        if offset:
            set_uint(into["shared_memory_offset"], offset)
    set_uint(
        into["shared_memory_byte_size"],
        read_field("shared_memory_byte_size", json_values.as_uint, parameters.get("shared_memory_byte_size", 0)),
    )


def parameter_value(parameter: Any) -> Any:
    """Return the value of an `inference.InferParameter` as orjson is to write it."""
    choice = parameter.WhichOneof("parameter_choice")
    if choice == "double_param":
        return orjson.Fragment(json_text.double(parameter.double_param).encode())
    return getattr(parameter, choice) if choice else None
