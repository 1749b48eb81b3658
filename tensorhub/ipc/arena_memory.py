"""Arenas in memory: an anonymous file that its owner writes and its peers map.

The file has no name: nothing can open it by a key, and the kernel frees it with its last holder, also after kill -9.
It is sealed against shrinking, so that no peer can be hit by SIGBUS. It is as large as its budget from the start, but
pages exist only once they are touched.

A process that has a GPU locks the first of its pages, so that the GPU's copies from and to tensors that lie there need
no detour over the driver's own memory. Blocks are taken from the front, so most tensors do.
"""

import fcntl
import mmap
import os
import threading
from collections.abc import Callable

from tensorhub.errors import InternalError, Unavailable
from tensorhub.ipc.arena import ALIGNMENT, Allocator
from tensorhub.ipc.copying import fill

DEFAULT_BYTE_SIZE = 1 << 30
"""The budget of one process. Address space, not memory: only what is in use at a time has pages."""

KEEP_BYTE_SIZE = 64 << 20
"""Pages below this offset stay when their block is freed (they will be used again); those above are given back."""


class Block:
    """A taken piece of an arena: write into `view`, pass on `offset`, and `free` it once."""

    __slots__ = ("_arena", "byte_size", "offset", "view")

    def __init__(self, arena: "Arena", offset: int, byte_size: int, view: memoryview) -> None:
        self._arena: Arena | None = arena
        self.offset = offset
        self.byte_size = byte_size
        self.view = view

    def fill(self, data: memoryview) -> None:
        """See tensorhub.memory.Slot."""
        fill(self.view, data)

    def free(self) -> None:
        """Give the piece back; does nothing the second time."""
        arena, self._arena = self._arena, None
        if arena is not None:
            arena._give_back(self.offset, self.byte_size)


class Arena:
    """The memory that this process sends tensors in. Thread-safe.

    Attributes:
        locked_byte_size: so many bytes at the front are locked.
    """

    def __init__(self, byte_size: int = DEFAULT_BYTE_SIZE) -> None:
        self.byte_size = -(-byte_size // ALIGNMENT) * ALIGNMENT
        self.fd = os.memfd_create("tensorhub-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.fd, self.byte_size)
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            self._map = mmap.mmap(self.fd, self.byte_size)
        except BaseException:
            os.close(self.fd)
            raise
        self._view = memoryview(self._map)
        self._allocator = Allocator(self.byte_size)
        self._lock = threading.Lock()
        self.locked_byte_size = 0
        self._unlock: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        return f"<Arena {self._allocator!r}>"

    @property
    def used(self) -> int:
        """Bytes that are taken."""
        return self._allocator.used

    @property
    def blocks(self) -> int:
        """How many blocks are taken."""
        return self._allocator.blocks

    def allocate(self, byte_size: int) -> Block:
        """Take a block; the caller owns it until `free`.

        Raises:
            Unavailable: the budget does not allow it now, or never.
        """
        with self._lock:
            offset = self._allocator.allocate(byte_size)
        if offset is None:
            raise Unavailable(
                f"the server's transfer memory is full: {byte_size} bytes wanted, {self.used} of {self.byte_size} "
                "bytes in use. Try again later, use a shared memory region, or raise --arena-byte-size"
            )
        return Block(self, offset, byte_size, self._view[offset : offset + byte_size])

    def lock_pages(self, byte_size: int, lock: Callable[[memoryview], Callable[[], None]]) -> None:
        """Have the first pages locked, until `close`; not for use while another thread does the same.

        Args:
            byte_size: how much of the arena, at the most.
            lock: locks memory, and returns what unlocks it; what it raises is passed on.
        """
        byte_size = min(byte_size, self.byte_size) // mmap.PAGESIZE * mmap.PAGESIZE
        if byte_size:
            self._unlock = lock(self._view[:byte_size])
            self.locked_byte_size = byte_size

    @property
    def locked_used(self) -> int:
        """Bytes that are taken where pages are locked."""
        with self._lock:
            return self._allocator.used_below(self.locked_byte_size)

    def maybe_allocate_locked(self, byte_size: int) -> Block | None:
        """Take a block of locked pages, which the caller owns until `free`; None if there is none."""
        if not self.locked_byte_size:
            return None
        with self._lock:
            offset = self._allocator.allocate(byte_size, self.locked_byte_size)
        return None if offset is None else Block(self, offset, byte_size, self._view[offset : offset + byte_size])

    def _give_back(self, offset: int, byte_size: int) -> None:
        page = mmap.PAGESIZE
        # What is locked must keep its pages: the GPU knows them by their place in the machine's memory.
        start = max(-(-offset // page) * page, KEEP_BYTE_SIZE, self.locked_byte_size)
        with self._lock:
            end = (offset + byte_size) // page * page
            if end > start:
                self._map.madvise(mmap.MADV_REMOVE, start, end - start)
            self._allocator.free(offset)

    def close(self) -> None:
        """Let the arena go. Views that someone still holds keep the mapping until they are gone."""
        self._unlock()
        self.locked_byte_size = 0
        os.close(self.fd)


class PeerArena:
    """Another process's arena, mapped here. Its content is data only: no offset or length is ever read from it."""

    def __init__(self, fd: int) -> None:
        """Map the arena behind `fd`, which stays the caller's.

        Raises:
            InternalError: the file is not sealed against shrinking, so that mapping it would not be safe; or it cannot
                be mapped.
        """
        if not fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
            raise InternalError("a peer's arena is not sealed")
        self.byte_size = os.fstat(fd).st_size
        try:
            self._view = memoryview(mmap.mmap(fd, self.byte_size))
        except OSError as exc:
            raise InternalError(f"a peer's arena cannot be mapped: {exc.strerror}") from exc

    def view(self, offset: int, byte_size: int) -> memoryview:
        """View a range.

        Raises:
            InternalError: it is not inside the arena.
        """
        if offset < 0 or byte_size < 0 or offset + byte_size > self.byte_size:
            raise InternalError(f"{byte_size} bytes at {offset} are outside an arena of {self.byte_size} bytes")
        return self._view[offset : offset + byte_size]
