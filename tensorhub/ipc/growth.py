"""How much larger the files of regions have become than what is registered of them, for `--shm-max-byte-size`.

An output may make the file of a region larger (`shared_memory_grow`), in any worker, and so may its client. Nobody
keeps a count of that: who wants to know asks the kernel for the size of each file, so that it is right for all workers
at once and stays so when one of them dies. It counts once for a file, however many regions are in it, and until they
are closed.

What a worker is about to add is not in the file yet: it says so first (`Holding.growing_byte_size`), and looks then.
Who looks reads what the others are about to add before the sizes, so that no byte of theirs is in neither.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tensorhub.errors import Unavailable
from tensorhub.ipc.holdings import Holdings


class Extent(NamedTuple):
    """The file of a region: device and inode, its size now, and where in it the region as it was registered ends."""

    file: tuple[int, int]
    file_byte_size: int
    registered_end: int


def grown_byte_size(extents: Iterable[Extent]) -> int:
    """Add up what the files have beyond the last byte of each that is registered."""
    files: dict[tuple[int, int], tuple[int, int]] = {}
    for file, size, end in extents:
        size_before, end_before = files.get(file, (0, 0))
        files[file] = max(size, size_before), max(end, end_before)
    return sum(max(0, size - end) for size, end in files.values())


class GrowthLimit:
    """How large one worker may make regions, with all else that is shared. For one thread at a time."""

    def __init__(self, holdings: Holdings, allowed_byte_size: int) -> None:
        """Begin.

        Args:
            holdings: of this process.
            allowed_byte_size: of everything that is registered, grown or handed out, in the whole server.
        """
        self._holdings = holdings
        self._allowed = allowed_byte_size

    @contextmanager
    def claimed(self, refused: str, more: int, registered: int, grown: Callable[[], int]) -> Iterator[None]:
        """Have room for so many bytes within; they are in a file afterwards, or nowhere.

        Args:
            refused: how the message begins if there is no room.
            registered: bytes of the regions that this process knows to be registered.
            grown: tells what all files have beyond that.

        Raises:
            Unavailable: there is no room; nothing has changed.
        """
        self._holdings.change(growing_byte_size=more)
        try:
            others = self._holdings.others()
            before = (
                max(registered, others.registered_byte_size)
                + others.handed_out_byte_size
                + self._holdings.own.handed_out_byte_size
                + others.growing_byte_size
                + grown()
            )
            if before + more > self._allowed:
                raise Unavailable(
                    f"{refused}; {before} bytes are registered, grown or handed out, and --shm-max-byte-size allows "
                    f"{self._allowed} together; unregister or release what is not used"
                )
            yield
        finally:
            self._holdings.change(growing_byte_size=0)
