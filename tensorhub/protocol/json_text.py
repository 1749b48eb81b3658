"""JSON as Triton's HTTP interface reads and writes it. Pure.

Reading: orjson, and RapidJSON (the library that Triton uses) when orjson refuses. RapidJSON then either accepts what
only it accepts, the literals NaN, Inf and Infinity, or tells the error in the words and with the offset that clients
know.
The typed accessors carry Triton's texts for members of the wrong type; all of these errors are INTERNAL, HTTP 500.

Writing: orjson, and a slow writer for the numbers that orjson writes in another way than RapidJSON: NaN, the infinities
and what needs an exponent.

Known difference: of an object's duplicate keys the last one counts here, the first one in Triton.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import orjson
import rapidjson

from tensorhub.errors import InternalError, InvalidArgument, TensorhubError

MAX_UINT64 = 2**64 - 1
MAX_INT64 = 2**63 - 1
MIN_INT64 = -(2**63)

MAX_DEPTH = 100
"""Triton's limit for the nesting of a tensor's `data`; here also what a document gets that no parser follows."""

DEPTH_TEXT = f"JSON nesting depth exceeds maximum allowed limit ({MAX_DEPTH})"

_NUMBER_MODE = rapidjson.NM_NAN | rapidjson.NM_NATIVE
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# Where RapidJSON's wording has changed between the version that Triton has and the one that Python has.
_RAPIDJSON_TEXTS = {"Invalid encoding in string.": "Invalid escape character in string."}

Buffer = bytes | bytearray | memoryview

_T = TypeVar("_T")


def parse(text: Buffer) -> Any:
    """Read one JSON document.

    Numbers are int if they are written as integers and fit 64 bits, else float.

    Raises:
        InternalError: `failed to parse the request JSON buffer: <RapidJSON's text> at <offset>`.
        InvalidArgument: nested deeper than any use of it.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return _parse_as_triton(bytes(text))


def _parse_as_triton(text: bytes) -> Any:
    mark = len(_BYTE_ORDER_MARK) if text.startswith(_BYTE_ORDER_MARK) else 0
    try:
        return rapidjson.loads(text[mark:], number_mode=_NUMBER_MODE)
    except rapidjson.JSONDecodeError as exc:
        _, _, rest = str(exc).partition("offset ")
        offset, _, reason = rest.partition(": ")
        raise _parse_error(_RAPIDJSON_TEXTS.get(reason, reason), int(offset) + mark) from exc
    except UnicodeDecodeError as exc:
        # Triton takes such strings as they are. Here text is text; raw bytes have the binary data format.
        raise _parse_error("Invalid encoding in string.", exc.start + mark) from exc
    except RecursionError as exc:
        raise InvalidArgument(DEPTH_TEXT) from exc


def _parse_error(reason: str, offset: int) -> InternalError:
    return InternalError(f"failed to parse the request JSON buffer: {reason} at {offset}")


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


def dumps(document: Any) -> bytes:
    """Write compact JSON. Floats of the document are written by orjson; for tensors use `floats`."""
    return orjson.dumps(document)


def error_body(message: str) -> bytes:
    """Triton's error object."""
    return b'{"error":%b}' % dump_string(message)


def dump_string(text: str) -> bytes:
    """Write one string; what no UTF-8 can hold (a lone surrogate) becomes a question mark."""
    try:
        return orjson.dumps(text)
    except orjson.JSONEncodeError:
        return orjson.dumps(text.encode("utf-8", "replace").decode())


def floats(values: Sequence[float]) -> bytes:
    """Write an array of floats as RapidJSON does: shortest digits that read back as the same double, an exponent only
    outside 1e-6 to 1e21, and the literals NaN, Infinity and -Infinity."""
    text = orjson.dumps(values)
    # PERF: orjson writes an exponent or null wherever it would differ, and one search finds that out.
    if b"e" not in text and b"null" not in text:
        return text
    return b"[%b]" % ",".join(map(double, values)).encode()


def double(value: float) -> str:
    """Write one float as RapidJSON does; see `floats`."""
    text = repr(value)
    mantissa, exponent_mark, exponent_text = text.partition("e")
    if not exponent_mark:
        return _LITERALS.get(text, text)
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = whole + (fraction if fraction != "0" else "")
    point = len(whole) + int(exponent_text)
    return sign + _place_point(digits, point)


_LITERALS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def _place_point(digits: str, point: int) -> str:
    """Write 0.DIGITS x 10^point; `digits` has no leading and no trailing zero."""
    if len(digits) <= point <= 21:
        return digits + "0" * (point - len(digits)) + ".0"
    if 0 < point <= 21:
        return digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return "0." + "0" * -point + digits
    exponent = f"e{point - 1}"
    return (digits if len(digits) == 1 else digits[0] + "." + digits[1:]) + exponent


def strings(elements: Iterable[Buffer]) -> bytes:
    """Write an array of strings from their UTF-8 bytes. Bytes that are no UTF-8 go out as they are, as in Triton."""
    elements = list(elements)
    try:
        return orjson.dumps([str(element, "utf-8") for element in elements])
    except UnicodeDecodeError:
        return b"[%b]" % b",".join(map(_raw_string, elements))


def _raw_string(element: Buffer) -> bytes:
    # An undecodable byte becomes one of U+DC80..U+DCFF, which orjson refuses; so they go in pieces around it.
    text = str(element, "utf-8", "surrogateescape")
    parts: list[bytes] = []
    start = 0
    for index, char in enumerate(text):
        if "\udc80" <= char <= "\udcff":
            parts += (orjson.dumps(text[start:index])[1:-1], char.encode("utf-8", "surrogateescape"))
            start = index + 1
    parts.append(orjson.dumps(text[start:])[1:-1])
    return b'"%b"' % b"".join(parts)
