"""The outermost layer of serialised inference messages: taking tensors out of a request, and adding them to a response.

A large ModelInferRequest is almost only tensor data. Parsing it would copy that; here its top-level fields are walked
by their lengths and the data is returned as views. Nothing below the top level is looked at: what is left is small and
is parsed as usual. Source of the rules: the Protocol Buffers encoding (protobuf.dev/programming-guides/encoding).

A field is a varint tag, number << 3 | wire type, and its value:

    0 varint      1 eight bytes      2 varint length, that many bytes      5 four bytes
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

RAW_INPUT_CONTENTS = 7
RAW_OUTPUT_CONTENTS = 6
"""Field numbers in ModelInferRequest and ModelInferResponse."""

MAX_FIELDS = 65_536
"""Top-level fields of one request. Each costs Python about a microsecond; clients have a few for each tensor."""

_RAW_INPUT_TAG = bytes((RAW_INPUT_CONTENTS << 3 | 2,))
_RAW_OUTPUT_TAG = bytes((RAW_OUTPUT_CONTENTS << 3 | 2,))
_STREAM_RESPONSE_TAG = bytes((2 << 3 | 2,))
"""Of infer_response in ModelStreamInferResponse."""

FINAL_RESPONSE = "triton_final_response"
"""The response parameter that tells whether more responses to the request will follow on the stream."""

_MAX_TAG = 2**32 - 1
_MAX_LENGTH = 2**31 - 1


class FrameError(ValueError):
    """The bytes are no serialised message, or one with too many fields."""


class Fields(NamedTuple):
    """A request taken apart; views on its bytes.

    Attributes:
        others: all other fields, serialised, in order; adjacent ones in one piece.
        raw_inputs: the entries of raw_input_contents, in order.
    """

    others: list[memoryview]
    raw_inputs: list[memoryview]


def split_request(message: bytes | memoryview) -> Fields:
    """Take the raw inputs out of a serialised ModelInferRequest.

    Raises:
        FrameError: a field is cut short, has no number, is longer than a message may be, or is of a group (which
            proto3 does not have); or there are more than MAX_FIELDS.
    """
    view = memoryview(message)
    end = len(view)
    others: list[memoryview] = []
    raw_inputs: list[memoryview] = []
    position = piece = fields = 0
    while position < end:
        fields += 1
        if fields > MAX_FIELDS:
            raise FrameError(f"more than {MAX_FIELDS} fields")
        start = position
        tag, position = _varint(view, position, 5)
        if not 8 <= tag <= _MAX_TAG:
            raise FrameError(f"a field with the tag {tag}")
        kind = tag & 7
        if kind == 2:
            length, data = _varint(view, position, 10)
            if length > _MAX_LENGTH:
                raise FrameError(f"a field of {length} bytes")
            position = data + length
            if tag >> 3 == RAW_INPUT_CONTENTS and position <= end:
                if piece < start:
                    others.append(view[piece:start])
                raw_inputs.append(view[data:position])
                piece = position
        elif kind == 0:
            _, position = _varint(view, position, 10)
        elif kind == 1:
            position += 8
        elif kind == 5:
            position += 4
        else:
            raise FrameError(f"a field of the wire type {kind}")
        if position > end:
            raise FrameError("the last field is cut short")
    if piece < end:
        others.append(view[piece:])
    return Fields(others, raw_inputs)


def _varint(view: memoryview, position: int, longest: int) -> tuple[int, int]:
    """Return the number at `position` and the position behind it."""
    value = shift = 0
    for byte in view[position : position + longest]:
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
    raise FrameError("a number is cut short or too long")


def varint(value: int) -> bytes:
    """Encode a number that is not negative."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def join_request(others: Iterable[bytes | memoryview], raw_inputs: Iterable[bytes | memoryview]) -> bytes:
    """Put a request together again: the other fields, then raw_input_contents."""
    pieces: list[bytes | memoryview] = [*others]
    for data in raw_inputs:
        pieces += (_RAW_INPUT_TAG, varint(len(data)), data)
    return b"".join(pieces)


def response_pieces(response: bytes, outputs: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
    """Return the pieces of a serialised ModelInferResponse with its outputs' data.

    Args:
        response: serialised, without raw_output_contents.
        outputs: for each output in order its bytes; C-contiguous with items of one byte. They are not copied.
    """
    pieces: list[bytes | memoryview] = [response]
    for data in outputs:
        pieces += (_RAW_OUTPUT_TAG, varint(len(data)), data)
    return pieces


def _final_parameter(final: bool) -> bytes:
    """Serialise the parameter triton_final_response as an entry of ModelInferResponse.parameters."""
    name = FINAL_RESPONSE.encode()
    value = bytes((1 << 3, final))  # InferParameter.bool_param
    entry = bytes((1 << 3 | 2, len(name))) + name + bytes((2 << 3 | 2, len(value))) + value
    return bytes((4 << 3 | 2, len(entry))) + entry


_MORE, _LAST = _final_parameter(False), _final_parameter(True)


def stream_response(response: bytes, outputs: Sequence[bytes | memoryview] | None, *, final: bool) -> bytes:
    """Make a serialised ModelStreamInferResponse of a response.

    A protobuf message may be extended by appending fields to its bytes, so the response is not parsed.

    Args:
        response: a serialised ModelInferResponse.
        outputs: its outputs' data, if they are not in it; see `response_pieces`.
        final: no other response to the same request will follow.
    """
    last = _LAST if final else _MORE
    if outputs is None:
        return b"".join((_STREAM_RESPONSE_TAG, varint(len(response) + len(last)), response, last))
    pieces = response_pieces(response, outputs)
    return b"".join((_STREAM_RESPONSE_TAG, varint(sum(map(len, pieces)) + len(last)), *pieces, last))
