"""The kinds of values that options of the command line take: from text to a value, and back. Pure.

A kind is a pair of functions and two texts for people. `parse` raises ValueError with the reason, in Triton's words
where Triton has some; whoever calls it adds the option's name. `parse(unparse(value)) == value` for every value.
Source of the formats: command_line_parser.cc in Triton's server.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

RESTRICTED_CATEGORIES = (
    "health",
    "metadata",
    "inference",
    "shared-memory",
    "model-config",
    "model-repository",
    "statistics",
    "trace",
    "logging",
)
"""What --http-restricted-api and --grpc-restricted-protocol can restrict."""

EVERY_DEVICE = -1
"""The device of a resource that was given without one."""

_TRUE = frozenset(("true", "on", "1"))
_FALSE = frozenset(("false", "off", "0"))


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value.

    Attributes:
        parse: text to value; raises ValueError with the reason.
        unparse: value to text.
        metavar: what the help writes behind the option.
        allowed: the allowed values, for error texts.
    """

    parse: Callable[[str], Any]
    unparse: Callable[[Any], str]
    metavar: str
    allowed: str


@dataclass(frozen=True, slots=True)
class Pair:
    """`name=value`."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Scoped:
    """`scope,name=value`; where the scope may be left out it is ""."""

    scope: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Restriction:
    """`category[,category...]:key=value`: these operations need the header `key` with this value."""

    categories: tuple[str, ...]
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Resource:
    """`name:count[:device]` of the rate limiter."""

    name: str
    count: int
    device: int = EVERY_DEVICE


@dataclass(frozen=True, slots=True)
class PerDevice:
    """`gpu:amount`: bytes, or a fraction."""

    device: int
    amount: float


def _parse_bool(text: str) -> bool:
    word = text.lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"invalid value for bool option: {text}")


def _unparse_bool(value: bool) -> str:
    return "true" if value else "false"


BOOL = Kind(_parse_bool, _unparse_bool, "<boolean>", "true, on, 1, false, off, 0")


def _parse_text(text: str) -> str:
    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in text):
        raise ValueError("control characters are not allowed in a value")
    return text


TEXT = Kind(_parse_text, str, "<string>", "text without control characters")


def _parse_word(text: str) -> str:
    if any(char.isspace() for char in text):
        raise ValueError("a name must not contain white space")
    return _parse_text(text)


WORD = Kind(_parse_word, str, "<string>", "text without white space")


def _parse_pattern(text: str) -> str:
    try:
        # RE2's way to respect upper and lower case, which users of Triton write and Python's syntax does not have.
        re.compile(text.removeprefix("(?-i)"))
    except re.error as exc:
        raise ValueError(f"it is no regular expression: {exc}. Got {text}") from None
    return _parse_text(text)


PATTERN = Kind(_parse_pattern, str, "<regex>", "a regular expression")


def _parse_shm_scope(text: str) -> str:
    if text not in ("global", "peer") and not re.fullmatch(r"header:[!#$%&'*+.^_`|~0-9A-Za-z-]+", text):
        raise ValueError(f"invalid argument: {text}")
    return text


SHM_SCOPE = Kind(
    _parse_shm_scope, str, "global|header:NAME|peer", "global, header:NAME with the name of a header, peer"
)


def _number(text: str) -> int:
    try:
        return int(text, 10)
    except ValueError:
        raise ValueError(f"Invalid option value. Got {text}") from None


def integer(low: int, high: int, unit: str = "") -> Kind:
    """An integer from `low` to `high`."""

    def parse(text: str) -> int:
        number = _number(text)
        if not low <= number <= high:
            raise ValueError(f"the value is out of range. Got {text}")
        return number

    return Kind(parse, str, "<integer>", f"an integer from {low} to {high}{' ' + unit if unit else ''}")


INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1

PORT = integer(1, 65535)
COUNT = integer(0, INT32_MAX)
POSITIVE = integer(1, INT32_MAX)
SECONDS = integer(0, INT32_MAX, "seconds")
MILLISECONDS = integer(0, INT32_MAX, "ms")
BYTE_SIZE = integer(0, INT64_MAX, "bytes")


def _parse_log_level(text: str) -> int:
    try:
        return int(_parse_bool(text))
    except ValueError:
        return int(COUNT.parse(text))


LOG_LEVEL = Kind(_parse_log_level, str, "<integer>", f"true, false, or an integer from 0 to {INT32_MAX}")


def _flag_or_bool(text: str) -> bool:
    return True if text == "" else _parse_bool(text)


FLAG = Kind(_flag_or_bool, _unparse_bool, "", BOOL.allowed)
"""A boolean whose option may stand without a value, which means true."""


def real(low: float) -> Kind:
    """A finite number of at least `low`."""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise ValueError(f"Invalid option value. Got {text}") from None
        if not (math.isfinite(number) and number >= low):
            raise ValueError(f"the value is out of range. Got {text}")
        return number

    return Kind(parse, repr, "<float>", f"a number of at least {low:g}")


def choice(*words: str) -> Kind:
    """One of `words`, exactly as written."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"invalid argument: {text}")
        return text

    return Kind(parse, str, "|".join(words), ", ".join(words))


def _split(text: str, separator: str, shape: str) -> tuple[str, str]:
    first, found, second = text.partition(separator)
    if not (first and found):
        raise ValueError(f"the format is '{shape}'. Got {text}")
    return first, second


def _parse_pair(text: str) -> Pair:
    return Pair(*_split(_parse_text(text), "=", "<setting>=<value>"))


PAIR = Kind(_parse_pair, lambda pair: f"{pair.name}={pair.value}", "<setting>=<value>", "<setting>=<value>")


def scoped(scope: str, *, optional: bool, scopes: Sequence[str] = ()) -> Kind:
    """`<scope>,<setting>=<value>`.

    Args:
        scope: the help's word for the scope.
        optional: it may be left out.
        scopes: the allowed ones; empty: any.
    """
    shape = f"<{scope}>,<setting>=<value>"
    allowed = f"{shape} or <setting>=<value>" if optional else shape
    if scopes:
        allowed += f", <{scope}> one of {', '.join(scopes)}"

    def parse(text: str) -> Scoped:
        left, value = _split(_parse_text(text), "=", shape)
        first, comma, second = left.partition(",")
        if not comma and optional:
            return Scoped("", first, value)
        if not (first and second):
            raise ValueError(f"the format is '{shape}'. Got {text}")
        if scopes and first not in scopes:
            raise ValueError(f"unknown {scope} '{first}'")
        return Scoped(first, second, value)

    def unparse(item: Scoped) -> str:
        return f"{item.scope},{item.name}={item.value}" if item.scope else f"{item.name}={item.value}"

    return Kind(parse, unparse, shape, allowed)


def restriction(what: str) -> Kind:
    """Restricted operations; `what` is Triton's word for one: api, protocol."""
    shape = f"<{what}>[,<{what}>...]:<key>=<value>"

    def parse(text: str) -> Restriction:
        names, rest = _split(_parse_text(text), ":", shape)
        key, value = _split(rest, "=", shape)
        categories = tuple(names.split(","))
        for index, name in enumerate(categories):
            if name not in RESTRICTED_CATEGORIES:
                raise ValueError(f"unknown restricted {what} '{name}'")
            if name in categories[:index]:
                raise ValueError(f"restricted {what} '{name}' can not be specified in multiple config groups")
        return Restriction(categories, key, value)

    def unparse(item: Restriction) -> str:
        return f"{','.join(item.categories)}:{item.key}={item.value}"

    return Kind(parse, unparse, shape, f"{shape}, <{what}> one of {', '.join(RESTRICTED_CATEGORIES)}")


def _parse_resource(text: str) -> Resource:
    parts = _parse_text(text).split(":")
    if len(parts) not in (2, 3) or not parts[0]:
        raise ValueError(f"the format is '<resource_name>:<count>:<device>' or '<resource_name>:<count>'. Got {text}")
    return Resource(parts[0], COUNT.parse(parts[1]), COUNT.parse(parts[2]) if len(parts) == 3 else EVERY_DEVICE)


def _unparse_resource(item: Resource) -> str:
    return f"{item.name}:{item.count}" + (f":{item.device}" if item.device != EVERY_DEVICE else "")


RESOURCE = Kind(
    _parse_resource, _unparse_resource, "<name>:<count>[:<device>]", "<name>:<count> or <name>:<count>:<device>"
)


def per_device(amount: Kind, what: str) -> Kind:
    """`<gpu>:<amount>`."""
    shape = f"<gpu>:<{what}>"

    def parse(text: str) -> PerDevice:
        device, value = _split(text, ":", shape)
        return PerDevice(COUNT.parse(device), amount.parse(value))

    return Kind(
        parse, lambda item: f"{item.device}:{amount.unparse(item.amount)}", shape, f"{shape}, with {amount.allowed}"
    )


def _parse_fraction(text: str) -> float:
    number = float(real(-math.inf).parse(text))
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"expects limit fraction to be in range [0.0, 1.0], got {number:f}")
    return number


FRACTION = Kind(_parse_fraction, repr, "<fraction>", "a fraction from 0.0 to 1.0")


def _parse_port_range(text: str) -> str:
    if text:
        low, high = (PORT.parse(part) for part in _split(text, "-", "<integer>-<integer>"))
        if low > high:
            raise ValueError(f"the first port is above the second. Got {text}")
    return text


PORT_RANGE = Kind(_parse_port_range, str, "<port>-<port>", "two ports with a hyphen between them, the lower one first")


def _parse_trace_level(text: str) -> str:
    if text.upper() not in ("OFF", "TIMESTAMPS", "TENSORS"):
        raise ValueError(f"invalid value for trace level option: {text}")
    return text.upper()


TRACE_LEVEL = Kind(_parse_trace_level, str, "OFF|TIMESTAMPS|TENSORS", "OFF, TIMESTAMPS, TENSORS")
