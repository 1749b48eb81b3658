"""What a JSON document must hold: typed accessors, with Triton's texts for what is missing or of another type. Pure.

All of these errors are INTERNAL, HTTP 500. Nothing here reads or writes JSON, and so this needs none of its libraries,
which are 0.4 MB in a process that only knows what the values of a setting may be.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from tensorhub.errors import InternalError, TensorhubError

MAX_UINT64 = 2**64 - 1
MAX_INT64 = 2**63 - 1
MIN_INT64 = -(2**63)

_T = TypeVar("_T")


def wrong_type(expected: str, kind: str) -> InternalError:
    """The error for a value of another type, e.g. wrong_type("string", "string")."""
    return InternalError(f"attempt to access JSON non-{expected} as {kind}")


def as_string(value: Any) -> str:
    """Raises: InternalError."""
    if type(value) is not str:
        raise wrong_type("string", "string")
    return value


def as_bool(value: Any) -> bool:
    """Raises: InternalError."""
    if type(value) is not bool:
        raise wrong_type("boolean", "boolean")
    return value


def as_uint(value: Any) -> int:
    """Raises: InternalError."""
    if type(value) is not int or not 0 <= value <= MAX_UINT64:
        raise wrong_type("unsigned-integer", "unsigned-integer")
    return value


def as_array(value: Any) -> list[Any]:
    """Raises: InternalError."""
    if type(value) is not list:
        raise wrong_type("array", "array")
    return value


def members(value: Any) -> dict[str, Any]:
    """Raises: InternalError."""
    if type(value) is not dict:
        raise InternalError("attempt to get members for non-object")
    return value


def member(document: Any, name: str) -> Any:
    """Return a member that must be there; a document that is no object has none.

    Raises:
        InternalError: it is not there.
    """
    if type(document) is not dict or name not in document:
        raise InternalError(f"attempt to access non-existing object member '{name}'")
    return document[name]


def in_field(name: str, error: TensorhubError) -> TensorhubError:
    """The same error, with the field that it is about in front."""
    return type(error)(f"Unable to parse '{name}': {error.message}")


def read_field(name: str, read: Callable[[Any], _T], value: Any) -> _T:
    """Read the value of a field with an accessor, whose error then names the field."""
    try:
        return read(value)
    except TensorhubError as exc:
        raise in_field(name, exc) from None


def read_member(name: str, holder: Any, read: Callable[[Any], _T]) -> _T:
    """Read a member that must be there; see `read_field`."""
    try:
        return read(member(holder, name))
    except TensorhubError as exc:
        raise in_field(name, exc) from None
