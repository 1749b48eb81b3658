"""Regions that a worker makes for outputs (`shared_memory_allocate`), each for the one client that takes it.

    made ----------> taken ----------> released       the hub fetches the file for a client, which then has it
      '--> expired                                    nobody has taken it in time
      '--> released                                   its client does not want it

A region is a file in memory, exactly as large as its output, sealed against any other size. Its name says which worker
has it and cannot be guessed: the owner (`--shm-scope`) for whom it was made may take it, once. From then on the memory
is its client's, and goes with the client's last use of it, whatever becomes of the server. What is kept here of it is
that it counts against the limits, until the hub says that the client has released it or is gone, or until the hub
itself is gone. The limits are the server's: what other workers have made counts as well, and what is registered, with
what outputs have made larger (`ipc.growth`).

This table is all that the server knows of them: they are no registered regions until their client registers them.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tensorhub.errors import Unavailable
from tensorhub.ipc.descriptors import check_spare
from tensorhub.ipc.handles import HandleServer
from tensorhub.ipc.holdings import Holdings
from tensorhub.option_groups import SharedMemory

PREFIX = "handed-out-"

TRIAL = bytes(range(256)) * 16
"""What is in a region that is made for a client to try whether it can take any."""

_ODD = 1 << 63
"""In every number, and in none that the hub gives to files, which are times in nanoseconds."""

_DIGITS = 16
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Place(NamedTuple):
    """Where a region that was handed out is: its number, and the name of the worker that has it."""

    number: int
    worker: str

    @property
    def name(self) -> str:
        """What clients call it."""
        return f"{PREFIX}{self.number:0{_DIGITS}x}-{self.worker}"

    def file_of(self, owner: str) -> int:
        """Return the number that its file has with the worker.

        SAFETY: It follows from the owner as well, and the owner is not in the name: who knows the name, and is another
        owner, asks for a file that is not there.
        """
        if not owner:
            return self.number
        from hashlib import blake2b  # not at the top: OpenSSL comes with it, and few servers have owners

        return self.number ^ (int.from_bytes(blake2b(owner.encode(), digest_size=8).digest()) & ~_ODD)


def maybe_place(name: str) -> Place | None:
    """Return what a name says, or None if it is not one of a region that was handed out."""
    digits, dash, worker = name.removeprefix(PREFIX).partition("-")
    if not name.startswith(PREFIX) or not dash or not worker:
        return None
    try:
        place = Place(int(digits, 16), worker)
    except ValueError:
        return None
    # SAFETY: other numbers are of other files, such as the worker's arena.
    return place if place.number & _ODD and place.name == name else None


class HandedOut:
    """See the module. Thread-safe."""

    def __init__(
        self,
        worker: str,
        files: HandleServer,
        limits: SharedMemory,
        holdings: Holdings,
        registered: Callable[[], tuple[int, int]],
        later: Callable[[float, Callable[[], None]], None],
        now_ns: Callable[[], int] = time.monotonic_ns,
        grown: Callable[[], int] = lambda: 0,
    ) -> None:
        """Begin with none.

        Args:
            files: the one of this process, from which the hub fetches.
            holdings: of this process; nobody else says there what is handed out.
            registered: tells number and bytes of the regions that this process knows to be registered.
            later: calls back after a delay in seconds.
            grown: tells by how many bytes the files of registered regions have become larger.
        """
        self._worker = worker
        self._files = files
        self._limits = limits
        self._holdings = holdings
        self._registered = registered
        self._later = later
        self._now_ns = now_ns
        self._grown = grown
        self._timeout_ns = limits.shm_allocate_timeout_secs * 1_000_000_000
        self._waiting: dict[int, tuple[int, int]] = {}  # number: byte size, when it expires; in that order
        self._taken: dict[int, int] = {}  # number: byte size
        self._count = 0
        self._byte_size = 0
        self._sweeping = False
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<HandedOut {self._count} regions, {self._byte_size} bytes>"

    @property
    def totals(self) -> tuple[int, int]:
        """Number and bytes of what has been made and is neither released nor expired."""
        return self._count, self._byte_size

    def make(self, data: memoryview, owner: str = "") -> str:
        """Make a region with a copy of these bytes (format "B"), which `owner` may take, and return its name.

        Raises:
            Unavailable: a limit is reached, or the system has no memory or no descriptor for it.
        """
        size = len(data)
        with self._lock:
            self._add(1, size)
            try:
                self._check_limits(size)
            except BaseException:
                self._forget(size)
                raise
        try:
            fd = _sealed_file(data)
        except BaseException as exc:
            with self._lock:
                self._forget(size)
            if isinstance(exc, OSError):
                raise Unavailable(f"{_refused(size)}: {exc.strerror}") from exc
            raise
        place = Place(_ODD | int.from_bytes(os.urandom(8)), self._worker)
        number = place.file_of(owner)
        self._files.give_once(number, fd)
        with self._lock:
            self._waiting[number] = size, self._now_ns() + self._timeout_ns
            first, self._sweeping = not self._sweeping, True
        if first:
            self._later(self._limits.shm_allocate_timeout_secs, self._sweep)
        return place.name

    def _check_limits(self, size: int) -> None:
        """Check that what has been counted already, one more of this size, is within the limits."""
        limits, others = self._limits, self._holdings.others()
        growing = others.growing_byte_size + self._holdings.own.growing_byte_size  # read before `grown`
        registered, byte_size = self._registered()
        # The hub knows it first, but has just begun to find out if it is new; we know what we have open.
        registered = max(registered, others.registered)
        handed_out = others.handed_out + self._count
        where = _refused(size)
        if registered + handed_out > limits.shm_max_regions:
            raise Unavailable(
                f"{where}: {registered} regions are registered and {handed_out - 1} handed out, and --shm-max-regions "
                f"allows no more than {limits.shm_max_regions}; release those that are not used"
            )
        total = max(byte_size, others.registered_byte_size) + others.handed_out_byte_size + self._byte_size
        if limits.shm_max_byte_size:
            total += growing + self._grown()
        if limits.shm_max_byte_size and total > limits.shm_max_byte_size:
            raise Unavailable(
                f"{where}: {total - size} bytes are registered or handed out, and --shm-max-byte-size allows "
                f"{limits.shm_max_byte_size} together; release what is not used"
            )
        if self._byte_size > limits.arena_byte_size:
            raise Unavailable(
                f"{where}: this process has handed out {self._byte_size - size}, and --arena-byte-size allows each "
                f"{limits.arena_byte_size}; release what is not used"
            )

    def release(self, numbers: Iterable[int]) -> None:
        """Forget regions that nobody uses any more, taken or not; unknown ones are forgotten already."""
        for number in numbers:
            with self._lock:
                size, _ = self._waiting.pop(number, (None, 0))
                if size is None:
                    size = self._taken.pop(number, None)
                if size is not None:
                    self._forget(size)
            self._files.drop(number)

    def hub_lost(self) -> None:
        """The hub has died, and with it the connections of those who have taken regions: what they have is theirs."""
        with self._lock:
            self._note_taken()
            gone = list(self._taken)
        self.release(gone)

    def _note_taken(self) -> None:
        for number in [number for number in self._waiting if not self._files.has(number)]:
            self._taken[number], _ = self._waiting.pop(number)

    def _sweep(self) -> None:
        """Release what nobody has taken in time, and come back when the next one is due."""
        now_ns = self._now_ns()
        with self._lock:
            self._note_taken()
            expired = [number for number, (_, due_ns) in self._waiting.items() if due_ns <= now_ns]
        self.release(expired)
        with self._lock:
            due_ns = next((due_ns for _, due_ns in self._waiting.values()), 0)
            self._sweeping = due_ns != 0
        if due_ns:
            self._later((due_ns - now_ns) / 1e9, self._sweep)

    def _forget(self, size: int) -> None:
        self._add(-1, -size)

    def _add(self, count: int, size: int) -> None:
        self._count += count
        self._byte_size += size
        self._holdings.change(handed_out=self._count, handed_out_byte_size=self._byte_size)


def _refused(size: int) -> str:
    return f"a region of {size} bytes cannot be made for an output"


def _sealed_file(data: memoryview) -> int:
    """Return the descriptor of a file with this content, sealed against any other size; the caller closes it.

    PERF: write takes half the time of a mapping that is written to, whose pages are made one by one, and zeroed first.

    Raises:
        OSError: there is no memory, or no descriptor.
        Unavailable: there are no descriptors to spare.
    """
    fd = os.memfd_create("handed out", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        check_spare(fd, _refused(len(data)))
        written = 0
        while written < len(data):
            written += os.write(fd, data[written:])
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd
