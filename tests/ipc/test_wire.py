"""Frames: what goes in comes out, and nothing else gets in."""

import contextlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tensorhub.ipc import wire
from tensorhub.ipc.wire import Kind, Role, WireError

_u32 = st.integers(0, 2**32 - 1)
_u64 = st.integers(0, 2**64 - 1)
_messages = st.builds(
    wire.Message,
    st.sampled_from(Kind),
    st.sampled_from(Role),
    st.integers(0, 255),
    _u32,
    _u64,
    _u32,
    st.integers(-(2**63), 2**63 - 1),
    _u64,
    st.binary(max_size=40),
    st.binary(max_size=40),
)


def encode(message: wire.Message) -> bytes:
    kind, role, flags, sender, request_id, generation, deadline_ns, number, head, tail = message
    return wire.encode(
        kind,
        role,
        sender,
        request_id=request_id,
        generation=generation,
        flags=flags,
        deadline_ns=deadline_ns,
        number=number,
        head=head,
        tail=tail,
    )


@given(message=_messages)
def test_round_trip(message: wire.Message) -> None:
    frame = encode(message)
    assert len(frame) == wire.HEADER_SIZE + len(message.head) + len(message.tail)
    assert wire.decode(frame) == message


@given(message=_messages)
def test_one_byte_short_and_one_too_many(message: wire.Message) -> None:
    frame = encode(message)
    for wrong in (frame[:-1], frame + b"\0"):
        with pytest.raises(WireError):
            wire.decode(wrong)


@settings(max_examples=1_000)
@given(frame=st.binary(max_size=200))
@example(frame=b"")
@example(frame=bytes(wire.HEADER_SIZE))
@example(frame=b"\xff" * wire.HEADER_SIZE)
def test_any_bytes(frame: bytes) -> None:
    with contextlib.suppress(WireError):
        assert encode(wire.decode(frame)) == frame[:20] + bytes(4) + frame[24:]  # the padding is not looked at


@settings(max_examples=1_000)
@given(message=_messages, position=st.integers(0, 127), byte=st.integers(0, 255))
def test_one_wrong_byte(message: wire.Message, position: int, byte: int) -> None:
    frame = bytearray(encode(message))
    frame[position % len(frame)] = byte
    with contextlib.suppress(WireError):
        wire.decode(bytes(frame))


@pytest.mark.parametrize(("position", "byte"), [(0, 0), (0, 17), (1, 0), (1, 2), (2, 0), (2, 6), (2, 255)])
def test_unknown_kinds_versions_and_roles(position: int, byte: int) -> None:
    frame = bytearray(wire.encode(Kind.INFER, Role.HTTP, 1))
    frame[position] = byte
    with pytest.raises(WireError):
        wire.decode(bytes(frame))


@pytest.mark.parametrize(
    "field",
    [
        {"sender": -1},
        {"sender": 2**32},
        {"request_id": 2**64},
        {"generation": 2**32},
        {"flags": 256},
        {"deadline_ns": 2**63},
        {"number": -1},
    ],
)
def test_numbers_that_do_not_fit(field: dict[str, int]) -> None:
    with pytest.raises(WireError, match=r"^a header field is out of range"):
        wire.encode(Kind.INFER, Role.HTTP, **{"sender": 1, **field})  # type: ignore[arg-type]


def test_lengths_that_do_not_wrap() -> None:
    frame = bytearray(wire.encode(Kind.INFER, Role.HTTP, 1, head=b"abcd"))
    frame[40:48] = b"\xff\xff\xff\xff\x05\x00\x00\x00"  # 2**32 - 1 + 5 is 4 in 32 bits
    with pytest.raises(WireError, match=r"^parts of 4294967295 and 5 bytes in a frame of 52$"):
        wire.decode(bytes(frame))


def test_what_nobody_would_take_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_FRAME_SIZE", 1_000)
    assert len(wire.encode(Kind.INFER, Role.HTTP, 1, head=bytes(900), tail=bytes(52))) == 1_000
    with pytest.raises(WireError, match=r"^a message of 953 bytes; a frame has at most 1000$"):
        wire.encode(Kind.INFER, Role.HTTP, 1, head=bytes(900), tail=bytes(53))
