"""Compressed bodies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorhub.errors import InvalidArgument
from tensorhub.protocol import compression


@given(st.binary(max_size=3000), st.sampled_from(["gzip", "deflate"]))
def test_compression_reads_back(data: bytes, encoding: str) -> None:
    packed = b"".join(compression.compress(encoding, [data, memoryview(data)]))
    assert compression.decompress(packed, 6000) == data * 2
    if len(data) > 1:
        with pytest.raises(InvalidArgument, match="exceeds the maximum allowed value of"):
            compression.decompress(packed, 2 * len(data) - 1)


def test_a_bomb_is_not_unpacked() -> None:
    packed = b"".join(compression.compress("gzip", [bytes(100_000_000)]))
    with pytest.raises(InvalidArgument):
        compression.decompress(packed, 1000)


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("gzip", "gzip"),
        ("deflate, gzip", "deflate"),
        ("identity;q=0.5, gzip;q=0.8", "gzip"),
        ("gzip;q=0.5,deflate;q=0.6", "deflate"),
        ("gzip; q=0.5,deflate;q=0.1", "deflate"),
        ("gzip;q=x,deflate;q=0.1", "deflate"),
        ("identity, gzip", "identity"),
        ("gzip;q=0", "identity"),
        ("GZIP", "identity"),
        ("*", "identity"),
        (";q=1", "identity"),
        ("", "identity"),
    ],
)
def test_the_encoding_of_the_response(accepted: str, chosen: str) -> None:
    assert compression.response_encoding(accepted) == chosen
