"""Arenas: sealed, bounded, and seen by a peer."""

import mmap
import os

import pytest

from tensorhub.errors import InternalError, Unavailable
from tensorhub.ipc.arena_memory import KEEP_BYTE_SIZE, Arena, PeerArena

SIZE = 1 << 20


def test_it_cannot_be_resized_or_unsealed() -> None:
    arena = Arena(SIZE)
    for byte_size in (0, SIZE - 1, SIZE + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(arena.fd, byte_size)
    assert os.fstat(arena.fd).st_size == SIZE
    arena.close()


def test_a_peer_sees_what_is_written() -> None:
    arena = Arena(SIZE)
    peer = PeerArena(arena.fd)
    block = arena.allocate(100)
    block.view[:5] = b"hello"
    view = peer.view(block.offset, 100)
    assert bytes(view[:5]) == b"hello"
    view[:1] = b"J"
    assert bytes(block.view[:5]) == b"Jello"
    arena.close()
    assert bytes(view[:5]) == b"Jello"


@pytest.mark.parametrize(
    ("offset", "byte_size"),
    [(-1, 1), (0, -1), (0, SIZE + 1), (1, SIZE), (SIZE, 1), (SIZE + 1, 0), (2**63, 2**63), (2**64 - 1, 1), (0, 2**64)],
)
def test_a_peer_sees_nothing_outside(offset: int, byte_size: int) -> None:
    arena = Arena(SIZE)
    peer = PeerArena(arena.fd)
    with pytest.raises(InternalError, match="are outside an arena of 1048576 bytes"):
        peer.view(offset, byte_size)
    arena.close()


@pytest.mark.parametrize(("offset", "byte_size"), [(0, 0), (0, SIZE), (SIZE, 0), (SIZE - 1, 1)])
def test_a_peer_sees_up_to_the_edges(offset: int, byte_size: int) -> None:
    arena = Arena(SIZE)
    assert len(PeerArena(arena.fd).view(offset, byte_size)) == byte_size
    arena.close()


def test_memory_that_is_not_sealed_is_refused() -> None:
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, SIZE)
        with pytest.raises(InternalError, match="not sealed"):
            PeerArena(fd)
    finally:
        os.close(fd)


def test_a_full_arena_says_so() -> None:
    arena = Arena(SIZE)
    block = arena.allocate(SIZE)
    with pytest.raises(Unavailable, match="1 bytes wanted, 1048576 of 1048576 bytes in use"):
        arena.allocate(1)
    block.free()
    block.free()
    assert (arena.used, arena.blocks) == (0, 0)
    arena.allocate(SIZE).free()
    arena.close()


def test_high_pages_are_given_back() -> None:
    arena = Arena(KEEP_BYTE_SIZE + SIZE)
    low = arena.allocate(KEEP_BYTE_SIZE)
    low.view[: mmap.PAGESIZE] = b"x" * mmap.PAGESIZE
    high = arena.allocate(SIZE)
    high.view[:] = b"y" * SIZE
    assert os.fstat(arena.fd).st_blocks * 512 >= SIZE + mmap.PAGESIZE
    high.free()
    low.free()
    assert os.fstat(arena.fd).st_blocks * 512 == mmap.PAGESIZE
    arena.close()
