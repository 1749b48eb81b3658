"""The BYTES codec against a plain reader, on everything that hypothesis can think of."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorhub.bytes_codec import BytesFormatError, Scan, count_elements, deserialize, serialize

ELEMENTS = st.lists(st.binary(max_size=40), max_size=400)
# Enough of them that the vectorised paths are taken, with and without zero bytes inside.
MANY = st.lists(st.sampled_from([b"", b"a", b"12345", b"\0", b"\0\0\0\0\0", b"x\0\0\0y", b"x" * 255]), min_size=300)
LONG = st.lists(st.sampled_from([b"a" * 9, b"b" * 256, b"c" * 70_000]), max_size=20)


def plain(elements: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def plain_scan(data: bytes) -> Scan:
    offset = count = 0
    while len(data) - offset >= 4:
        count += 1
        length = int.from_bytes(data[offset : offset + 4], "little")
        offset += 4
        if length > len(data) - offset:
            return Scan(count, overrun=(length, len(data) - offset))
        offset += length
    return Scan(count, partial_length=len(data) - offset)


def objects(elements: list) -> np.ndarray:
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return array


@given(ELEMENTS | MANY | LONG)
def test_round_trip(elements: list[bytes]) -> None:
    data = serialize(objects(elements))
    assert data == plain(elements)
    assert deserialize(data).tolist() == elements
    assert count_elements(data) == Scan(len(elements))


@given(ELEMENTS | MANY, st.data())
def test_cut_off_anywhere(elements: list[bytes], data: st.DataObject) -> None:
    whole = plain(elements)
    part = whole[: data.draw(st.integers(0, len(whole)))]
    scan = plain_scan(part)
    assert count_elements(part) == scan
    if scan.partial_length or scan.overrun:
        with pytest.raises(BytesFormatError):
            deserialize(part)
    else:
        assert serialize(deserialize(part)) == part


@given(st.binary(max_size=200) | st.lists(st.sampled_from([b"\0", b"\1", b"\5", b"a"]), max_size=5000).map(b"".join))
def test_any_bytes(data: bytes) -> None:
    scan = count_elements(data)
    assert scan == plain_scan(data)
    if scan.partial_length or scan.overrun:
        with pytest.raises(BytesFormatError):
            deserialize(data)
    else:
        assert serialize(deserialize(data)) == data


@given(ELEMENTS | MANY, st.integers(0, 1000))
def test_limit_stops_the_count(elements: list[bytes], limit: int) -> None:
    scan = count_elements(plain(elements), limit)
    assert scan.count == min(len(elements), limit + 1)


@pytest.mark.parametrize("length", [1, 4, 2**31 - 1, 2**31, 2**32 - 1])
def test_a_length_that_lies(length: int) -> None:
    data = struct.pack("<I", length)
    assert count_elements(data) == Scan(1, overrun=(length, 0))
    with pytest.raises(BytesFormatError, match=f"an element of {length} bytes, but only 0"):
        deserialize(data)


@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_too_short_for_a_length(size: int) -> None:
    assert count_elements(bytes(size)) == Scan(0, partial_length=size)


@given(st.lists(st.text(max_size=300), max_size=300))
def test_text_becomes_utf8(elements: list[str]) -> None:
    assert serialize(objects(elements)) == plain([element.encode() for element in elements])


def test_other_elements_become_their_text() -> None:
    assert serialize(objects([1, 2.5, None, b"x", "\u00e4", bytearray(b"y")])) == plain(
        [b"1", b"2.5", b"None", b"x", "\u00e4".encode(), b"y"]
    )


def test_fixed_width_arrays_and_row_major_order() -> None:
    assert serialize(np.array([b"a", b"bc"])) == plain([b"a", b"bc"])
    assert serialize(np.array(["a", "\u00e4"])) == plain([b"a", "\u00e4".encode()])
    table = objects([b"1", b"2", b"3", b"4"]).reshape(2, 2)
    assert serialize(table.T) == plain([b"1", b"3", b"2", b"4"])
    assert serialize(np.array([b"x"], np.object_).reshape(())) == plain([b"x"])
    assert serialize([]) == b""


def test_any_buffer_is_read() -> None:
    data = plain([b"ab", b""])
    for buffer in (bytearray(data), memoryview(data), np.frombuffer(data, np.uint8)):
        assert deserialize(buffer).tolist() == [b"ab", b""]
        assert count_elements(buffer) == Scan(2)
