"""What the checks of a ModelConfig share. Pure."""

from collections.abc import Iterable
from typing import Any

from tensorhub.errors import InvalidArgument

WILDCARD = -1
"""A variable dimension."""


def require(condition: bool, message: str) -> None:
    """Raise InvalidArgument with `message` unless `condition` holds."""
    if not condition:
        raise InvalidArgument(message)


def enum_name(enum: Any, number: int) -> str:
    """Return the name of an enum's value; the number, if it has none."""
    try:
        return str(enum.Name(number))
    except ValueError:
        return str(number)


def validate_preferred(sizes: Iterable[int], max_batch_size: int, what: str, name: str) -> None:
    """Check the preferred batch sizes of a batcher; `what` names them in the error."""
    for size in sizes:
        require(size > 0, f"{what} must be positive for {name}")
        require(size <= max_batch_size, f"{what} must be <= max batch size for {name}")
