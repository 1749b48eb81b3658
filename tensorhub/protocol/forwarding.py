"""Headers of HTTP and metadata of gRPC that become parameters of a request. Pure.

Source of the reserved names and the text: Triton's server, later than 2.51, which refuses none.
"""

import re

from tensorhub.errors import InvalidArgument

_RESERVED = frozenset(
    ("sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "headers", "binary_data_output")
)


def forward_pattern(text: str, option: str) -> re.Pattern[str] | None:
    """Compile the value of an option, which ignores case unless it begins with (?-i), as in RE2's syntax.

    Raises:
        InvalidArgument: it is no regular expression.
    """
    if not text:
        return None
    pattern = text.removeprefix("(?-i)")
    try:
        return re.compile(pattern, 0 if pattern != text else re.IGNORECASE)
    except re.error as exc:
        raise InvalidArgument(f"{option} is no regular expression: {exc}") from exc


def is_forwarded(name: str, pattern: re.Pattern[str]) -> bool:
    """Whether the header `name`, in lower case, becomes a parameter.

    Raises:
        InvalidArgument: it would, and parameters of that name have a meaning.
    """
    if not pattern.search(name):
        return False
    if name in _RESERVED or name.startswith("triton_"):
        raise InvalidArgument(f"Header '{name}' is reserved for Triton usage and cannot be forwarded.")
    return True
