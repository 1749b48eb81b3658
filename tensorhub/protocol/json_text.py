"""JSON as Triton's HTTP interface reads and writes it. Pure.

Reading: orjson, and RapidJSON (the library that Triton uses) when orjson refuses. RapidJSON then either accepts what
only it accepts, the literals NaN, Inf and Infinity, or tells the error in the words and with the offset that clients
know.
What a document must have and of which type is the business of `json_values`.

Writing: orjson, and a slow writer for the numbers that orjson writes in another way than RapidJSON: NaN, the infinities
and what needs an exponent.

Known difference: of an object's duplicate keys the last one counts here, the first one in Triton.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
import rapidjson

from tensorhub.errors import InternalError, InvalidArgument

MAX_DEPTH = 100
"""Triton's limit for the nesting of a tensor's `data`; here also what a document gets that no parser follows."""

DEPTH_TEXT = f"JSON nesting depth exceeds maximum allowed limit ({MAX_DEPTH})"

_NUMBER_MODE = rapidjson.NM_NAN | rapidjson.NM_NATIVE
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# Where RapidJSON's wording has changed between the version that Triton has and the one that Python has.
_RAPIDJSON_TEXTS = {"Invalid encoding in string.": "Invalid escape character in string."}

Buffer = bytes | bytearray | memoryview


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
