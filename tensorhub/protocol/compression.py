"""Compressed HTTP bodies: which encodings there are, and bounded decompression. Pure.

Names are matched exactly, as in Triton, which knows gzip, deflate (with the zlib header) and identity.
"""

import re
import zlib
from collections.abc import Iterable

from tensorhub.errors import InvalidArgument

IDENTITY = "identity"
GZIP = "gzip"
DEFLATE = "deflate"

SUPPORTED = b"gzip, deflate"
"""What the answer to an unsupported Content-Encoding says in Accept-Encoding."""

_LEADING_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
"""What C++'s stod reads of a weight: what follows does not matter."""

_EITHER_HEADER = zlib.MAX_WBITS | 32  # zlib.h, inflateInit2: find out which of the two it is
_GZIP_HEADER = zlib.MAX_WBITS | 16
_PIECE_SIZE = 1 << 20


def request_encoding(value: str) -> str | None:
    """Read Content-Encoding; None: not supported. An empty value is identity."""
    if value in ("", IDENTITY):
        return IDENTITY
    return value if value in (GZIP, DEFLATE) else None


def response_encoding(value: str) -> str:
    """Choose from Accept-Encoding: the heaviest one that is known, the first of equals; malformed ones are skipped."""
    chosen, heaviest = IDENTITY, 0.0
    for entry in value.split(","):
        name, mark, weight_text = entry.lstrip(" ").partition(";q=")
        number = _LEADING_NUMBER.match(weight_text)
        if mark and number is None:
            continue
        weight = float(number[0]) if mark and number is not None else 1.0
        if name in (IDENTITY, GZIP, DEFLATE) and weight > heaviest:
            chosen, heaviest = name, weight
    return chosen


def decompress(data: bytes, max_byte_size: int) -> bytes:
    """Decompress a gzip or zlib body; what follows its end is ignored, as in Triton.

    Raises:
        InvalidArgument: empty, larger than `max_byte_size` when decompressed, or damaged.
    """
    if not data:
        raise InvalidArgument("nothing to be decompressed")
    decoder = zlib.decompressobj(_EITHER_HEADER)
    pieces: list[bytes] = []
    total = 0
    rest = data
    try:
        while not decoder.eof:
            # Output may be waiting inside when the input is used up: go on until a call gives nothing.
            piece = decoder.decompress(rest, min(_PIECE_SIZE, max_byte_size + 1))
            rest = decoder.unconsumed_tail
            if not piece and not rest:
                break
            total += len(piece)
            if total > max_byte_size:
                raise too_large(max_byte_size)
            pieces.append(piece)
    except zlib.error as exc:
        raise InvalidArgument("the request body is not the gzip or zlib data that Content-Encoding promises") from exc
    return b"".join(pieces)


def too_large(max_byte_size: int) -> InvalidArgument:
    """The error for a body that is larger than allowed when decompressed."""
    return InvalidArgument(
        f"Decompressed data size exceeds the maximum allowed value of {max_byte_size} bytes. Use --http-max-input-size "
        "to increase the limit."
    )


def compress(encoding: str, chunks: Iterable[bytes | memoryview]) -> list[bytes]:
    """Compress a body in pieces.

    Args:
        encoding: GZIP or DEFLATE.
    """
    encoder = zlib.compressobj(wbits=_GZIP_HEADER if encoding == GZIP else zlib.MAX_WBITS)
    pieces = [encoder.compress(chunk) for chunk in chunks]
    pieces.append(encoder.flush())
    return [piece for piece in pieces if piece]
