"""Taking the raw inputs out of a request without parsing it, and putting outputs into a response."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorhub.protocol import messages
from tensorhub.protocol.grpc_frames import (
    MAX_FIELDS,
    FrameError,
    join_request,
    response_pieces,
    split_request,
    varint,
)

_raw_inputs = st.lists(st.one_of(st.binary(max_size=300), st.integers(0, 70_000).map(bytes)), max_size=5)


@st.composite
def requests(draw: st.DrawFn):
    """A ModelInferRequest with anything in it."""
    request = messages.ModelInferRequest(
        model_name=draw(st.text(max_size=20)),
        model_version=draw(st.text(max_size=3)),
        id=draw(st.text(max_size=200)),
    )
    for name in draw(st.lists(st.text(max_size=8), max_size=4)):
        tensor = request.inputs.add(
            name=name, datatype="INT32", shape=draw(st.lists(st.integers(-1, 2**40), max_size=4))
        )
        tensor.parameters["p"].int64_param = draw(st.integers(-5, 5))
        tensor.contents.fp64_contents.extend(draw(st.lists(st.floats(), max_size=5)))
    request.parameters["x"].string_param = draw(st.text(max_size=8))
    request.raw_input_contents.extend(draw(_raw_inputs))
    return request


# Fields that a later version of the protocol might have, one for each wire type.
_unknown = st.sampled_from(
    (b"", b"\x78\x05", b"\x79" + bytes(8), b"\x7a\x03abc", b"\x7d" + bytes(4), b"\xf8\xff\x03\x01")
)


@given(requests(), _unknown, _unknown)
def test_what_is_taken_apart_is_the_request(request, before: bytes, after: bytes) -> None:
    message = before + request.SerializeToString() + after
    others, raw_inputs = split_request(message)
    assert [bytes(data) for data in raw_inputs] == list(request.raw_input_contents)
    rest = messages.ModelInferRequest.FromString(b"".join(others))
    assert not rest.raw_input_contents
    together = messages.ModelInferRequest.FromString(join_request(others, raw_inputs))
    assert together == messages.ModelInferRequest.FromString(message)


@given(requests(), st.data())
def test_a_request_that_is_cut_short_is_refused_or_read_as_protobuf_reads_it(request, data: st.DataObject) -> None:
    whole = request.SerializeToString()
    _agrees_with_protobuf(whole[: data.draw(st.integers(0, len(whole)))])


@given(st.binary(max_size=60))
def test_any_bytes_are_read_as_protobuf_reads_them_or_refused(message: bytes) -> None:
    _agrees_with_protobuf(message)


@given(requests(), st.data())
def test_a_damaged_request_is_read_as_protobuf_reads_it_or_refused(request, data: st.DataObject) -> None:
    message = bytearray(request.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    _agrees_with_protobuf(bytes(message))


def _agrees_with_protobuf(message: bytes) -> None:
    try:
        others, raw_inputs = split_request(message)
    except FrameError:
        return
    try:
        expected = messages.ModelInferRequest.FromString(message)
    except messages.DecodeError:
        with pytest.raises(messages.DecodeError):
            messages.ModelInferRequest.FromString(b"".join(others))
        return
    assert [bytes(data) for data in raw_inputs] == list(expected.raw_input_contents)


@pytest.mark.parametrize(
    "message",
    [
        b"\x3a",  # no length
        b"\x3a\x05abcd",  # one byte short
        b"\x3a\x80",  # half a length
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # 2^64 - 1 bytes
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a length of eleven bytes
        b"\x3a\x80\x80\x80\x80\x08" + bytes(100),  # 2^31 bytes
        b"\x02\x00",  # field 0
        b"\x07",  # wire type 7
        b"\x3b\x3c",  # a group
        b"\x3f",
        b"\x39" + bytes(7),  # eight bytes, one short
        b"\x3d" + bytes(3),
        b"\x38\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",  # a number of eleven bytes
        b"\xff\xff\xff\xff\xff\x01\x00",  # a tag of six bytes
        b"\xfa\xff\xff\xff\x1f\x00",  # a tag of 33 bits
    ],
)
def test_malformed(message: bytes) -> None:
    with pytest.raises(FrameError):
        split_request(message)


def test_the_number_of_fields_is_limited() -> None:
    assert len(split_request(b"\x3a\x00" * MAX_FIELDS).raw_inputs) == MAX_FIELDS
    with pytest.raises(FrameError, match="more than"):
        split_request(b"\x3a\x00" * (MAX_FIELDS + 1))


def test_raw_inputs_are_views() -> None:
    message = bytearray(b"\x3a\x03abc")
    (data,) = split_request(message).raw_inputs
    message[2:5] = b"xyz"
    assert bytes(data) == b"xyz"


@given(st.integers(0, 2**63))
def test_varint(value: int) -> None:
    assert split_request(b"\x40" + varint(value)).others[0] == b"\x40" + varint(value)
    assert (len(varint(value)) - 1) * 7 < max(1, value.bit_length()) <= len(varint(value)) * 7


@given(st.lists(st.integers(0, 70_000).map(bytes), max_size=4))
def test_outputs_join_a_response(outputs: list[bytes]) -> None:
    response = messages.ModelInferResponse(model_name="m", id="7")
    for index in range(len(outputs)):
        response.outputs.add(name=f"O{index}", shape=[2**40])
    joined = b"".join(response_pieces(response.SerializeToString(), [memoryview(data) for data in outputs]))
    response.raw_output_contents.extend(outputs)
    assert joined == response.SerializeToString()
