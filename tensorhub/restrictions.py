"""Restricted operations: which header or metadata a request must carry for which category. Pure.

The one rule of `--http-restricted-api` and `--grpc-restricted-protocol`. Whoever serves an operation names its category
and asks `denial` before anything else; inside a restricted category everything is denied that does not carry the pair.
Source: restricted_features.h of Triton's server.
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NamedTuple

from tensorhub.errors import InvalidArgument


class Category(Enum):
    """What an operation belongs to; the value is the option's word for it."""

    HEALTH = "health"
    METADATA = "metadata"
    INFERENCE = "inference"
    SHARED_MEMORY = "shared-memory"
    MODEL_CONFIG = "model-config"
    MODEL_REPOSITORY = "model-repository"
    STATISTICS = "statistics"
    TRACE = "trace"
    LOGGING = "logging"


class Flavour(NamedTuple):
    """How one protocol speaks of restrictions: the option, its word for an operation, and what keys begin with."""

    option: str
    word: str
    prefix: str


HTTP = Flavour("--http-restricted-api", "api", "")
GRPC = Flavour("--grpc-restricted-protocol", "protocol", "triton-grpc-protocol-")

_WORDS = {"api": "API", "protocol": "protocol"}


class _Pair(NamedTuple):
    """What a request must carry; `text` and `raw` are the name in lower case and the value."""

    shown: str
    text: tuple[str, str]
    raw: tuple[bytes, bytes]


class Restrictions:
    """Which header each category needs; none by default."""

    __slots__ = ("_flavour", "_required")

    def __init__(self, required: Mapping[Category, _Pair], flavour: Flavour) -> None:
        self._required = required
        self._flavour = flavour

    def __repr__(self) -> str:
        return f"<Restrictions on {', '.join(category.value for category in self._required) or 'nothing'}>"

    def __bool__(self) -> bool:
        return bool(self._required)

    @staticmethod
    def parse(text: str, flavour: Flavour = HTTP) -> "Restrictions":
        """Read the option's values, one a line.

        Raises:
            InvalidArgument: not `<category>[,<category>...]:<key>=<value>`, or a category is unknown or named twice.
        """
        required: dict[Category, _Pair] = {}
        for line in filter(None, map(str.strip, text.splitlines())):
            names, colon, rest = line.partition(":")
            key, equals, value = rest.partition("=")
            if not (names and colon and key and equals):
                raise InvalidArgument(f"{flavour.option} takes <category>[,<category>...]:<key>=<value>, got: {line}")
            shown, value = flavour.prefix + key.strip(), value.strip()
            lower = shown.lower()
            pair = _Pair(shown, (lower, value), (lower.encode(), value.encode()))
            for name in names.split(","):
                try:
                    category = Category(name.strip())
                except ValueError:
                    known = ", ".join(item.value for item in Category)
                    raise InvalidArgument(f"unknown restricted {flavour.word} '{name}'; there are {known}") from None
                if category in required:
                    raise InvalidArgument(f"restricted {flavour.word} '{name}' can not be specified in multiple groups")
                required[category] = pair
        return Restrictions(required, flavour)

    def key(self, category: Category) -> str | None:
        """Return the name of the header that a category needs, None if it is not restricted."""
        required = self._required.get(category)
        return None if required is None else required.shown

    def denial(self, category: Category, headers: Iterable[tuple[object, object]]) -> str | None:
        """Return the text of the refusal, or None if the operation is allowed.

        Args:
            category: of the operation.
            headers: what the request carries, names in lower case; both names and values bytes, or both text.
        """
        required = self._required.get(category)
        if required is None:
            return None
        (text_name, text_value), (raw_name, raw_value) = required.text, required.raw
        for name, value in headers:
            if name in (text_name, raw_name):
                if value in (text_value, raw_value):
                    return None
                break  # Of several, the first counts.
        return f"This {_WORDS[self._flavour.word]} is restricted, expecting header '{required.shown}'"
