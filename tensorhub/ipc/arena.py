"""The allocator of an arena: which bytes of it are in use. Pure: numbers in, numbers out.

First fit at the lowest address, with neighbours joined when they are freed. Low addresses are therefore used again and
again while their pages are warm, and the high ones stay free, so that their pages can be given back (see arena_memory).
"""

from bisect import bisect_left, insort

ALIGNMENT = 64
"""Bytes: the start of every block, so that any element type is aligned and no two blocks share a cache line."""


class Allocator:
    """Hands out blocks of one range [0, size)."""

    def __init__(self, size: int) -> None:
        if size <= 0 or size % ALIGNMENT:
            raise ValueError(f"an arena of {size} bytes; it must be a positive multiple of {ALIGNMENT}")
        self.size = size
        self.used = 0
        self._free: list[tuple[int, int]] = [(0, size)]  # (offset, length), ascending, never touching each other
        self._taken: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<Allocator {self.used} of {self.size} bytes in {len(self._taken)} blocks>"

    @property
    def blocks(self) -> int:
        """How many blocks are taken."""
        return len(self._taken)

    def used_below(self, end: int) -> int:
        """Return how many bytes are taken of the blocks that begin before `end`."""
        return sum(length for offset, length in self._taken.items() if offset < end)

    def allocate(self, byte_size: int, end: int | None = None) -> int | None:
        """Take a block of at least `byte_size` bytes; None if there is no room for it.

        Args:
            end: the block is to end before this offset; default: anywhere.

        Raises:
            ValueError: byte_size is negative.
        """
        if byte_size < 0:
            raise ValueError(f"a block of {byte_size} bytes")
        length = max(ALIGNMENT, -(-byte_size // ALIGNMENT) * ALIGNMENT)
        for index, (offset, room) in enumerate(self._free):
            if end is not None and offset + length > end:
                return None
            if room >= length:
                if room == length:
                    del self._free[index]
                else:
                    self._free[index] = (offset + length, room - length)
                self._taken[offset] = length
                self.used += length
                return offset
        return None

    def free(self, offset: int) -> int:
        """Give back the block at `offset`; returns its length.

        Raises:
            KeyError: no block is taken there.
        """
        length = freed = self._taken.pop(offset)
        self.used -= length
        index = bisect_left(self._free, (offset, 0))
        if index < len(self._free) and self._free[index][0] == offset + length:
            length += self._free.pop(index)[1]
        if index and sum(self._free[index - 1]) == offset:
            before = self._free.pop(index - 1)
            offset, length = before[0], before[1] + length
        insort(self._free, (offset, length))
        return freed
