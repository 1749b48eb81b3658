"""ZeroMQ's protocol, without sockets: however the bytes are cut, and whatever they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorhub.ipc import zmtp

OPENING = zmtp.opening("PUSH")
BODIES = st.lists(st.one_of(st.binary(max_size=300), st.integers(250, 700_000).map(bytes)), max_size=6)


def received(data: bytes, cuts: list[int]) -> list[bytes]:
    """What a decoder makes of the data if it comes in pieces of these sizes, over and over."""
    decoder = zmtp.Decoder()
    frames: list[bytes] = []
    position = turn = 0
    while position < len(data):
        room = decoder.room()
        assert len(room)
        piece = data[position : position + min(cuts[turn % len(cuts)], len(room))]
        room[: len(piece)] = piece
        frames.extend(decoder.took(len(piece)))
        position += len(piece)
        turn += 1
    return frames


@given(BODIES, st.lists(st.integers(1, 400_000), min_size=1, max_size=5))
def test_frames_come_out_however_the_bytes_are_cut(bodies: list[bytes], cuts: list[int]) -> None:
    data = OPENING + b"".join(map(zmtp.frame, bodies))
    assert received(data, [max(cut, len(data) // 1_000) for cut in cuts]) == bodies


@given(st.binary(max_size=400), st.booleans(), st.integers(1, 50))
def test_any_bytes_are_frames_or_an_error(noise: bytes, greeted: bool, cut: int) -> None:
    try:
        frames = received((OPENING if greeted else b"") + noise, [cut])
    except zmtp.ProtocolError:
        return
    assert sum(map(len, frames)) <= len(noise)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_an_opening_is_whole_a_beginning_or_an_error(noise: bytes, keep: int) -> None:
    opening = zmtp.opening("PULL")
    assert zmtp.is_whole_opening(opening, "PULL")
    for end in range(1, len(opening)):
        assert not zmtp.is_whole_opening(opening[:end], "PULL")
    data = opening[:keep] + noise
    try:
        whole = zmtp.is_whole_opening(data, "PULL") if data else False
    except zmtp.ProtocolError:
        return
    assert not whole or len(data) == len(opening)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff" + bytes(8) + b"\x7f\x01" + bytes(53), "ZMTP 1"),
        (OPENING.replace(b"NULL", b"PLAIN"), "PLAIN"),
        (zmtp.opening("PULL"), "not a PUSH socket"),
        (OPENING[:64] + b"\x00\x01x", "before READY"),
        (OPENING + b"\x01\x01x", "one frame"),
        (OPENING + b"\x02" + (1 << 40).to_bytes(8, "big"), "allowed are"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, message: str) -> None:
    with pytest.raises(zmtp.ProtocolError, match=message):
        received(data, [len(data)])
