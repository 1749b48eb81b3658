"""The parameters of a tensor: where its data is or goes, and what is to be made of it. Pure."""

from typing import Any

from tensorhub.errors import InvalidArgument
from tensorhub.protocol.sharing import ALLOCATE

_UINT64 = 2**64 - 1
_UINT32 = 2**32 - 1

_GROW = "shared_memory_grow"
"""Parameter of an output, ours: its region may be made larger for it."""


class Region:
    """A range of a region; offset and byte size are what Triton makes of them, unsigned."""

    __slots__ = ("byte_size", "name", "offset")

    def __init__(self, name: str, offset: int, byte_size: int) -> None:
        self.name = name
        self.offset = offset
        self.byte_size = byte_size


def region_of(parameters: Any, tensor: str, from_http: bool) -> Region | None:
    """Read the `shared_memory_*` parameters; None if there are none.

    Raises:
        InvalidArgument: they contradict each other, or have wrong types.
    """
    if "shared_memory_region" not in parameters:
        for name in ("shared_memory_offset", "shared_memory_byte_size"):
            if name in parameters:
                raise InvalidArgument(
                    f"'{name}' can not be specified without 'shared_memory_region' parameter for tensor '{tensor}'"
                )
        return None
    region = parameters["shared_memory_region"]
    if region.WhichOneof("parameter_choice") != "string_param":
        raise _wrong_region("shared_memory_region", tensor, "string_param")
    offset = _region_number(parameters, "shared_memory_offset", tensor, from_http)
    byte_size = _region_number(parameters, "shared_memory_byte_size", tensor, from_http)
    if byte_size is None:
        raise InvalidArgument(
            "'shared_memory_byte_size' must be specified along with 'shared_memory_region' parameter for tensor "
            f"'{tensor}'"
        )
    return Region(region.string_param, offset or 0, byte_size)


def _region_number(parameters: Any, name: str, tensor: str, from_http: bool) -> int | None:
    if name not in parameters:
        return None
    number = _maybe_unsigned(parameters[name], from_http)
    if number is None:
        raise _wrong_region(name, tensor, "int64_param")
    return number & _UINT64


def _maybe_unsigned(parameter: Any, from_http: bool) -> int | None:
    """Read an integer; our HTTP frontend writes what is above an int64 as uint64_param, which a client may not."""
    choice = parameter.WhichOneof("parameter_choice")
    if choice == "int64_param" or (choice == "uint64_param" and from_http):
        number: int = getattr(parameter, choice)
        return number
    return None


def _wrong_region(name: str, tensor: str, expected: str) -> InvalidArgument:
    return InvalidArgument(f"invalid value type for '{name}' parameter for tensor '{tensor}', expected {expected}.")


def allocates(parameters: Any, tensor: str) -> bool:
    """Whether the server is to make a region for an output.

    Raises:
        InvalidArgument: it is said in another type than a boolean.
    """
    if ALLOCATE not in parameters:
        return False
    if parameters[ALLOCATE].WhichOneof("parameter_choice") != "bool_param":
        raise _wrong_region(ALLOCATE, tensor, "bool_param")
    return bool(parameters[ALLOCATE].bool_param)


def classification_of(parameters: Any, from_http: bool) -> int:
    """Return how many of the largest values of an output are wanted as text, 0: the output as it is.

    Raises:
        InvalidArgument: it is no positive integer.
    """
    if "classification" not in parameters:
        return 0
    classes = _maybe_unsigned(parameters["classification"], from_http)
    if classes is None:
        raise InvalidArgument("invalid value type for 'classification' parameter, expected int64_param")
    if classes <= 0:
        raise InvalidArgument("invalid value for 'classification' parameter, expected >= 0")
    return min(classes, _UINT32)


def wants_growth(parameters: Any) -> bool:
    """Whether the region of an output may be made larger for it."""
    return _GROW in parameters and bool(parameters[_GROW].bool_param)
