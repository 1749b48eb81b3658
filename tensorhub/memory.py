"""Where tensors may lie, as the code of a worker sees it: the port to arenas and registered regions.

`ipc` holds the real thing. The rule of ownership: what returns a Lease or a Slot hands it to the caller, who releases
it exactly once, whatever happens to the request.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from tensorhub.devices import DeviceMemory


class Held(Protocol):
    """What a request holds until it is closed."""

    def release(self) -> None:
        """End the use; does nothing the second time."""


class Staged(Held, Protocol):
    """A private copy of an input, in pages that a GPU copies from without a detour."""

    @property
    def view(self) -> memoryview:
        """The bytes (format "B"), writable."""


class Lease(Held, Protocol):
    """A use of someone else's memory: it stays mapped until `release`, even if the region is unregistered meanwhile."""

    @property
    def view(self) -> memoryview:
        """The bytes asked for (format "B"). Writable exactly if it was asked for, or if the memory is private."""

    @property
    def device(self) -> DeviceMemory | None:
        """The memory of a GPU, in place of `view`; None for memory of the host."""

    def copy_to_host(self) -> bytearray:
        """Return a copy of `device` in the host's memory; it is counted.

        Raises:
            DeviceError: the driver refuses.
        """

    def grow(self, byte_size: int) -> None:
        """Make a `view` of so many bytes, for a lease that was asked to grow, and its region larger if need be.

        Raises:
            InvalidArgument, InternalError: it cannot be made so large.
            Unavailable: a limit is reached; the region is as it was.
        """

    def fill(self, data: memoryview) -> None:
        """Copy bytes (format "B") to the front of a writable `view`."""

    def commit(self, byte_size: int) -> None:
        """Put the first bytes of a writable `view` in place, if it is a private copy; call it after writing.

        Raises:
            InvalidArgument: the client has truncated its memory.
            InternalError: the system has no memory for it.
        """


class Slot(Protocol):
    """A piece of this process's own arena, for an output on its way to a frontend."""

    @property
    def offset(self) -> int: ...

    @property
    def view(self) -> memoryview: ...

    def fill(self, data: memoryview) -> None:
        """Copy bytes (format "B") to the front of `view`."""

    def free(self) -> None: ...


class Memory(Protocol):
    """All the memory that a request can refer to."""

    def arena(self, owner: int, offset: int, byte_size: int) -> memoryview:
        """View bytes in the arena of the process with pid `owner`; private to one request, hence writable.

        Raises:
            InternalError: that process has no arena here, or the range lies outside it.
        """

    def region(
        self, name: str, offset: int, byte_size: int, *, writable: bool, owner: str = "", grow: bool = False
    ) -> Lease:
        """Pin a range of a region that a client registered.

        Args:
            owner: the one whose names the request may use.
            grow: the range has no length before `Lease.grow`.

        Raises:
            NotFound: `Unable to find shared memory region: '<name>'`.
            InvalidArgument: the range is not inside the region; Triton's texts.
        """

    def allocate(self, byte_size: int) -> Slot:
        """Take a piece of the own arena, aligned to 64 bytes.

        Raises:
            Unavailable: the arena's budget is used up.
        """

    def check_hands_out(self, output: str) -> None:
        """Check that this server makes regions for outputs, one of which is wanted so.

        Raises:
            InvalidArgument: it does not; the text says what makes it.
        """

    def hand_out(self, data: memoryview, owner: str) -> str:
        """Make a region with a copy of these bytes (format "B"), and return its name, by which its client gets it.

        It belongs to nobody here: it goes when its client lets it go, or has not taken it in time. Nobody but `owner`
        may take it.

        Raises:
            Unavailable: a limit is reached.
        """

    def take_back(self, name: str, owner: str) -> None:
        """Let go of a region whose name nobody has been told."""

    def measured_load(self) -> AbstractContextManager[Callable[[], int]]:
        """Load a model in the block; yields what says how much of this process's GPU that has taken, 0 if unknown."""

    def prepare_staging(self) -> None:
        """A model has been loaded on the GPU of this process: make ready what `maybe_stage` needs."""

    def maybe_stage(self, data: memoryview) -> Staged | None:
        """Copy an input to pages that the GPU copies from without a detour; None if there is no room, or no GPU."""
