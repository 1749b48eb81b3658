"""The allocator against a model that remembers every byte."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorhub.ipc.arena import ALIGNMENT, Allocator

SIZE = 32 * ALIGNMENT

_steps = st.lists(st.one_of(st.integers(0, SIZE + 1), st.tuples(st.integers(0, 40))), max_size=80)


def free_runs(taken: dict[int, int]) -> list[int]:
    """The lengths of the gaps between the blocks, in order."""
    runs, position = [], 0
    for offset, length in sorted(taken.items()):
        runs.append(offset - position)
        position = offset + length
    return [*runs, SIZE - position]


@settings(max_examples=300)
@given(steps=_steps)
def test_against_a_model(steps: list[int | tuple[int]]) -> None:
    """A number asks for that many bytes; a tuple frees one of the blocks."""
    allocator = Allocator(SIZE)
    taken: dict[int, int] = {}
    for step in steps:
        if isinstance(step, tuple):
            if taken:
                offset = sorted(taken)[step[0] % len(taken)]
                assert allocator.free(offset) == taken.pop(offset)
        else:
            length = max(ALIGNMENT, -(-step // ALIGNMENT) * ALIGNMENT)
            got = allocator.allocate(step)
            if got is None:
                assert max(free_runs(taken)) < length  # joined gaps, and not one of them large enough
            else:
                assert got % ALIGNMENT == 0
                assert got >= 0
                assert got + length <= SIZE
                assert all(got + length <= start or start + size <= got for start, size in taken.items())
                taken[got] = length
        assert (allocator.used, allocator.blocks) == (sum(taken.values()), len(taken))
    for offset in taken:
        allocator.free(offset)
    assert (allocator.used, allocator.blocks) == (0, 0)
    assert allocator.allocate(SIZE) == 0


def test_blocks_that_are_to_end_early() -> None:
    allocator = Allocator(SIZE)
    end = 4 * ALIGNMENT
    assert [allocator.allocate(size, end) for size in (end + 1, 1, end, 3 * ALIGNMENT, 1)] == [
        None,
        0,
        None,
        ALIGNMENT,
        None,
    ]
    assert allocator.allocate(10 * ALIGNMENT) == end
    assert allocator.used_below(end) == end
    assert allocator.used_below(end + 1) == 14 * ALIGNMENT
    allocator.free(0)
    assert allocator.allocate(2 * ALIGNMENT, end) is None
    assert allocator.allocate(ALIGNMENT, end) == 0


def test_the_lowest_place_is_taken_first() -> None:
    allocator = Allocator(SIZE)
    offsets = [allocator.allocate(1) for _ in range(4)]
    assert offsets == [0, 64, 128, 192]
    allocator.free(128)
    allocator.free(0)
    assert [allocator.allocate(64), allocator.allocate(65), allocator.allocate(0)] == [0, 256, 128]


@pytest.mark.parametrize("order", [(0, 64, 128), (128, 64, 0), (0, 128, 64), (64, 0, 128), (64, 128, 0), (128, 0, 64)])
def test_neighbours_are_joined_in_any_order(order: tuple[int, ...]) -> None:
    allocator = Allocator(3 * ALIGNMENT)
    for _ in order:
        allocator.allocate(1)
    assert allocator.allocate(0) is None
    for offset in order:
        allocator.free(offset)
    assert allocator.allocate(3 * ALIGNMENT) == 0


def test_exactly_all_and_one_too_many() -> None:
    allocator = Allocator(SIZE)
    assert allocator.allocate(SIZE + 1) is None
    assert allocator.allocate(SIZE) == 0
    assert allocator.allocate(0) is None


@pytest.mark.parametrize("size", [0, -64, 1, 65])
def test_impossible_arenas(size: int) -> None:
    with pytest.raises(ValueError, match="positive multiple of 64"):
        Allocator(size)


def test_impossible_calls() -> None:
    allocator = Allocator(SIZE)
    with pytest.raises(ValueError, match="-1 bytes"):
        allocator.allocate(-1)
    with pytest.raises(KeyError):
        allocator.free(0)
    allocator.allocate(1)
    allocator.free(0)
    with pytest.raises(KeyError):
        allocator.free(0)
