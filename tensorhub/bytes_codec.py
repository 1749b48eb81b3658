"""BYTES tensors: from the wire's length-prefixed elements to NumPy object arrays and back. Pure.

      u32 length, little-endian | length bytes | u32 length | length bytes | ...      row-major, nothing between

Where an element starts depends on all the lengths before it, so a plain reader takes a Python step for each element.
The strategy here is to guess and to prove: in text, three zero bytes in a row after any byte are the length of an
element shorter than 256 bytes, so NumPy finds all such places at once; they are the true starts exactly if each one
plus its own length leads to the next, which NumPy checks at once too. What cannot be proved is read step by step.
Elements of one length are then cut out together, because NumPy makes bytes objects of equal size without a Python step.

Lengths come from clients: they are added in unlimited or 64-bit integers and compared with what is left before use.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any

import numpy as np
import numpy.typing as npt

from tensorhub.requests import Buffer

_LENGTH = Struct("<I")
_LENGTH_SIZE = 4

_GUESS_FROM = 2048
"""Bytes. PERF: below it, stepping is cheaper than NumPy's fixed costs."""

_GROUPS_MAX = 8
"""Different lengths up to which cutting by groups pays. PERF: each group costs a pass over all lengths."""

_SAMPLE = 64
"""Elements that are looked at before their bytes are."""

_PRUNINGS = 2
"""Passes that throw places out which no other place leads to, before the chain is followed step by step."""

Objects = npt.NDArray[np.object_]
_Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scan:
    """What a buffer holds.

    Attributes:
        count: elements that have begun: those whose length could be read.
        partial_length: bytes at the end that are too few for a length (1 to 3), or 0.
        overrun: (length, available) of a last element that is longer than what is left, or None; it is in `count`.
    """

    count: int
    partial_length: int = 0
    overrun: tuple[int, int] | None = None


class BytesFormatError(ValueError):
    """The buffer is not a sequence of whole elements."""


def count_elements(data: Buffer, limit: int | None = None) -> Scan:
    """Count the elements of a buffer.

    Args:
        data: any bytes.
        limit: stop as soon as more elements than this have begun.
    """
    view = memoryview(data).cast("B")
    if len(view) >= _GUESS_FROM:
        starts = _proved_starts(np.frombuffer(view, np.uint8))
        if starts is not None:
            count = len(starts)
            return Scan(count if limit is None else min(count, limit + 1))
    return _step(view, limit)


def deserialize(data: Buffer) -> Objects:
    """Read all elements into a 1-D array of bytes objects.

    Raises:
        BytesFormatError: the last element, or its length, is cut off.
    """
    view = memoryview(data).cast("B")
    if len(view) >= _GUESS_FROM and _few_lengths(view):
        raw = np.frombuffer(view, np.uint8)
        starts = _proved_starts(raw)
        if starts is not None:
            lengths = raw[starts]
            present = np.flatnonzero(np.bincount(lengths, minlength=256))
            if len(present) <= _GROUPS_MAX:
                return _cut(raw, starts + _LENGTH_SIZE, lengths, present.tolist())
    return _object_array(_read(bytes(view)))


def serialize(elements: npt.NDArray[Any] | Sequence[Any]) -> bytes:
    """Write elements in row-major order: bytes as they are, everything else as the UTF-8 form of its `str`.

    Args:
        elements: an array of any shape with dtype object, "S" or "U", or a flat sequence.

    Raises:
        ValueError: an element is longer than a length can say.
    """
    items: list[Any] = elements.ravel().tolist() if isinstance(elements, np.ndarray) else list(elements)
    if len(items) == 1 and type(items[0]) is bytes:
        return _prefix(len(items[0])) + items[0]
    if not items:
        return b""
    # PERF: the type's own length tells in one go that all are bytes, and how long.
    try:
        sizes = list(map(bytes.__len__, items))
    except TypeError:
        if set(map(type, items)) == {str} and all(map(str.isascii, items)):
            return _serialize_ascii(items)
        items = [item if type(item) is bytes else _encode(item) for item in items]
        sizes = list(map(len, items))
    if sizes.count(sizes[0]) == len(sizes):
        prefix = _prefix(sizes[0])
        return prefix + prefix.join(items)
    parts: list[bytes] = items * 2
    parts[0::2] = map(_PREFIXES.__getitem__, sizes) if max(sizes) < len(_PREFIXES) else map(_prefix, sizes)
    parts[1::2] = items
    return b"".join(parts)


def _serialize_ascii(items: list[str]) -> bytes:
    """Join as text, in which every character stands for one byte: no element is encoded by itself."""
    parts = items * 2
    parts[0::2] = [_TEXT_PREFIXES[len(item)] if len(item) < 256 else _text_prefix(len(item)) for item in items]
    parts[1::2] = items
    return "".join(parts).encode("latin-1")


def _encode(item: Any) -> bytes:
    return bytes(item) if isinstance(item, (bytes, bytearray)) else str(item).encode()


def _prefix(size: int) -> bytes:
    if size > 0xFFFFFFFF:
        raise ValueError(f"an element of {size} bytes; at most {0xFFFFFFFF} can be written")
    return _LENGTH.pack(size)


def _text_prefix(size: int) -> str:
    return _prefix(size).decode("latin-1")


_PREFIXES = [_prefix(size) for size in range(256)]
_TEXT_PREFIXES = [_text_prefix(size) for size in range(256)]


def _step(view: memoryview, limit: int | None) -> Scan:
    """Walk from length to length."""
    unpack = _LENGTH.unpack_from
    end = len(view)
    last_length = end - _LENGTH_SIZE
    offset = count = 0
    while offset <= last_length:
        count += 1
        if limit is not None and count > limit:
            return Scan(count)
        (length,) = unpack(view, offset)
        offset += _LENGTH_SIZE
        if length > end - offset:
            return Scan(count, overrun=(length, end - offset))
        offset += length
    return Scan(count, partial_length=end - offset)


def _read(data: bytes) -> list[bytes]:
    unpack = _LENGTH.unpack_from
    end = len(data)
    offset = 0
    result = []
    while offset < end:
        if end - offset < _LENGTH_SIZE:
            raise BytesFormatError(f"{end - offset} bytes are left at the end, too few for a length of 4 bytes")
        (length,) = unpack(data, offset)
        start = offset + _LENGTH_SIZE
        offset = start + length
        if offset > end:
            raise BytesFormatError(f"an element of {length} bytes, but only {end - start} bytes are left")
        result.append(data[start:offset])
    return result


def _few_lengths(view: memoryview) -> bool:
    """Look at the first elements: do they promise that cutting by groups pays?"""
    lengths = set()
    offset = 0
    last_length = len(view) - _LENGTH_SIZE
    for _ in range(_SAMPLE):
        if offset > last_length:
            break
        (length,) = _LENGTH.unpack_from(view, offset)
        lengths.add(length)
        offset += _LENGTH_SIZE + length
    return len(lengths) <= _GROUPS_MAX and max(lengths) < 256


def _proved_starts(raw: npt.NDArray[np.uint8]) -> _Offsets | None:
    """Return where the lengths stand, or None if that cannot be proved from the short ones alone."""
    zero = raw == 0
    # A place where bytes 1, 2 and 3 are zero reads as a length below 256. The first element must be such a place.
    if not (zero[1] and zero[2] and zero[3]):
        return None
    places = np.flatnonzero(zero[1:-2] & zero[2:-1] & zero[3:])
    following = places + (_LENGTH_SIZE + raw[places].astype(np.int64))
    if following[-1] == len(raw) and np.array_equal(following[:-1], places[1:]):
        return places
    return _follow(places, following, len(raw))


def _follow(places: _Offsets, following: _Offsets, end: int) -> _Offsets | None:
    """Pick the true starts out of `places`, among which there are others (empty elements, zero bytes in elements)."""
    for _ in range(_PRUNINGS):
        nearest = np.searchsorted(places, following)
        linked = np.append(places, end)[nearest] == following
        reached = np.zeros(len(places) + 1, np.bool_)
        reached[nearest[linked]] = True
        reached[0] = True
        if not reached[-1]:
            return None  # nothing ends where the data ends
        places, following = places[reached[:-1]], following[reached[:-1]]
        if following[-1] == end and np.array_equal(following[:-1], places[1:]):
            return places
    return None


def _cut(
    raw: npt.NDArray[np.uint8], begins: _Offsets, lengths: npt.NDArray[np.uint8], present: Sequence[int]
) -> Objects:
    """Make the bytes objects of elements of few different lengths, all in one go for each length."""
    result = np.empty(len(begins), np.object_)
    for length in present:
        if length == 0:
            result[lengths == 0] = b""
            continue
        members = lengths == length
        # A sliding window is a view: row i is the `length` bytes from i on; taking rows copies them side by side.
        block = np.lib.stride_tricks.sliding_window_view(raw, length)[begins[members]]
        # "V" and not "S": NumPy cuts trailing zero bytes off "S".
        result[members] = _object_array(block.view(f"V{length}").ravel().tolist())
    return result


def _object_array(items: list[bytes]) -> Objects:
    result = np.empty(len(items), np.object_)
    result[:] = items
    return result
