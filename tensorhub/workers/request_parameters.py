"""The parameters of a request: those that Triton gives a meaning, and those that are the model's. Pure.

What a parameter may be depends on the way that a request came: our HTTP frontend writes what is above an int64 as
uint64_param, which a gRPC client may not.
"""

from typing import Any

from tensorhub.errors import InvalidArgument, Unsupported
from tensorhub.protocol.affinity import MAX_CORRELATION_ID_SIZE
from tensorhub.requests import FLAG_SEQUENCE_END, FLAG_SEQUENCE_START, InferRequest, Parameter

_UINT64 = 2**64 - 1

_EMPTY_FINAL = "triton_enable_empty_final_response"


def read_parameters(request: InferRequest, parameters: Any, from_http: bool) -> None:
    """Set what Triton gives a meaning, and keep the rest for the model.

    Raises:
        InvalidArgument: one of them has a type that it may not have, or a name that Triton keeps for itself.
        Unsupported: the correlation id is too long.
    """
    custom: dict[str, Parameter] = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if name in _READERS:
            _READERS[name](request, name, choice, parameter, from_http)
        elif name.startswith("triton_") and not from_http:
            raise InvalidArgument(
                "parameter keys starting with 'triton_' are reserved for Triton usage. Only the following keys "
                f"starting with 'triton_' are allowed: {_EMPTY_FINAL}"
            )
        elif choice is None or (choice == "uint64_param" and not from_http):
            raise _wrong_parameter(name, "int64_param, bool_param, or string_param")
        else:
            custom[name] = value_of(parameter)
    if custom:
        request.parameters = custom


def value_of(parameter: Any) -> Parameter:
    """Return the value of an `inference.InferParameter`."""
    value: Parameter = getattr(parameter, parameter.WhichOneof("parameter_choice") or "string_param")
    return value


def _read_sequence_id(request: InferRequest, name: str, choice: str | None, parameter: Any, from_http: bool) -> None:
    if choice == "string_param":
        text = parameter.string_param
        if len(text.encode()) > MAX_CORRELATION_ID_SIZE:
            raise Unsupported(f"string correlation ID cannot be longer than {MAX_CORRELATION_ID_SIZE} characters")
        request.correlation_id = text
    elif choice == "int64_param":
        request.correlation_id = parameter.int64_param & _UINT64
    elif choice == "uint64_param" and from_http:
        request.correlation_id = parameter.uint64_param
    else:
        raise _wrong_parameter(name, "int64_param or string_param")


def _read_sequence_flag(request: InferRequest, name: str, choice: str | None, parameter: Any, from_http: bool) -> None:
    if choice != "bool_param":
        raise _wrong_parameter(name, "bool_param")
    if parameter.bool_param:
        request.flags |= FLAG_SEQUENCE_START if name == "sequence_start" else FLAG_SEQUENCE_END


def _read_priority(request: InferRequest, name: str, choice: str | None, parameter: Any, from_http: bool) -> None:
    if choice not in ("int64_param", "uint64_param"):
        raise _wrong_parameter(name, "int64_param or uint64_param")
    request.priority = getattr(parameter, choice)
    if request.priority < 0:
        raise InvalidArgument("invalid value for 'priority', expected value >= 0.")


def _read_timeout(request: InferRequest, name: str, choice: str | None, parameter: Any, from_http: bool) -> None:
    if choice == "uint64_param" and from_http:
        request.timeout_us = parameter.uint64_param
    elif choice == "int64_param":
        request.timeout_us = parameter.int64_param & _UINT64
    else:
        raise _wrong_parameter(name, "int64_param")


def _read_empty_final(request: InferRequest, name: str, choice: str | None, parameter: Any, from_http: bool) -> None:
    """Only the frontend, which ends the stream, does something with it."""
    if choice != "bool_param":
        raise _wrong_parameter(name, "bool_param")


_READERS = {
    "sequence_id": _read_sequence_id,
    "sequence_start": _read_sequence_flag,
    "sequence_end": _read_sequence_flag,
    "priority": _read_priority,
    "timeout": _read_timeout,
    _EMPTY_FINAL: _read_empty_final,
}


def _wrong_parameter(name: str, expected: str) -> InvalidArgument:
    return InvalidArgument(f"invalid value type for '{name}' parameter, expected {expected}.")
