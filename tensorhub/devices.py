"""Memory of GPUs, as everybody who touches it sees it: the port to a driver, and a piece of a GPU's memory.

`ipc.cuda_shm` holds the real port. Every call of a port is complete when it returns: who has been told that a copy is
done may read it from any stream and any process.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from tensorhub.errors import InternalError

HANDLE_BYTE_SIZE = 64
"""Of a cudaIpcMemHandle_t."""


class Device(NamedTuple):
    """A GPU that this process can use; `uuid` is in the driver's form, GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx."""

    ordinal: int
    uuid: str


class DeviceError(InternalError):
    """A call of the driver failed.

    Attributes:
        poisoned: the context is of no use any more, and with it the process.
    """

    def __init__(self, message: str, *, poisoned: bool = False) -> None:
        super().__init__(message)
        self.poisoned = poisoned


class DevicePort(Protocol):
    """What is needed of a driver. Thread-safe. All methods raise DeviceError if the driver refuses."""

    def devices(self) -> Sequence[Device]:
        """Return the GPUs that this process can use."""

    def open_handle(self, ordinal: int, handle: bytes) -> int:
        """Map another process's allocation on a GPU; return its address, for `close_handle`."""

    def close_handle(self, ordinal: int, pointer: int) -> None:
        """Unmap what `open_handle` returned."""

    def extent(self, ordinal: int, pointer: int) -> tuple[int, int]:
        """Return base and byte size of the allocation that an address is in."""

    def owner_of(self, pointer: int) -> int:
        """Return the ordinal of the GPU that an address is on."""

    def lock_pages(self, memory: memoryview) -> Callable[[], None]:
        """Lock pages of the host's memory, so that copies from and to it need no detour; return what unlocks them.

        Args:
            memory: whole pages, writable; it has to stay where it is until then.
        """

    def allocate(self, ordinal: int, byte_size: int) -> "DeviceMemory":
        """Return new memory on a GPU, at least one byte; it is freed with the last that holds it.

        Who lets go of it has nothing under way with it but on the default stream.
        """

    def read(self, ordinal: int, pointer: int, into: memoryview) -> None:
        """Copy from a GPU to the host."""

    def write(self, ordinal: int, pointer: int, data: memoryview) -> None:
        """Copy from the host to a GPU."""

    def move(self, ordinal: int, target: int, source: int, byte_size: int) -> None:
        """Copy on a GPU, or from another one that it reaches."""

    def used(self, ordinal: int) -> int:
        """Return how many bytes of a GPU's memory are in use, by all processes together."""

    def wait(self, ordinal: int) -> None:
        """Wait until a GPU has done all it was told; finds out whether the context is poisoned."""

    def array(self, memory: "DeviceMemory", shape: Sequence[int], dtype: str) -> Any:
        """View memory as an array that has `__cuda_array_interface__` and speaks DLPack, and keeps the memory.

        Args:
            dtype: in NumPy's words; "bfloat16" for what it lacks.
        """


class DeviceMemory:
    """A piece of a GPU's memory. Whoever holds one holds its owner, and with it the memory.

    Attributes:
        owner: keeps the memory alive; opaque.
        nbytes: its size.
        allocated: by the port, so that whoever uses the memory holds this very object.
    """

    __slots__ = ("allocated", "nbytes", "ordinal", "owner", "pointer", "port")

    def __init__(
        self, port: DevicePort, ordinal: int, pointer: int, nbytes: int, owner: object, *, allocated: bool = False
    ) -> None:
        self.port = port
        self.ordinal = ordinal
        self.pointer = pointer
        self.nbytes = nbytes
        self.owner = owner
        self.allocated = allocated

    def __repr__(self) -> str:
        return f"<DeviceMemory of device {self.ordinal}, {self.nbytes} bytes>"

    def __len__(self) -> int:
        return self.nbytes

    def __buffer__(self, flags: int, /) -> memoryview:
        """Copy to the host: where only the host's memory will do, the memory of a GPU is that copy."""
        return memoryview(self.to_host())

    def to_host(self) -> bytearray:
        """Return a copy in the host's memory.

        Raises:
            DeviceError: the driver refuses.
        """
        data = bytearray(self.nbytes)
        self.read_into(memoryview(data))
        return data

    def copy(self) -> "DeviceMemory":
        """Return a copy on the same GPU; there is something to copy.

        Raises:
            DeviceError: the driver refuses, or has no room.
        """
        made = self.port.allocate(self.ordinal, self.nbytes)
        made.fill(self)
        return made

    def read_into(self, target: memoryview) -> None:
        """Copy all of it to the front of memory of the host (format "B").

        Raises:
            DeviceError: the driver refuses.
            ValueError: there is not so much room.
        """
        if self.nbytes > len(target):
            raise ValueError(f"{self.nbytes} bytes into {len(target)}")
        if self.nbytes:
            self.port.read(self.ordinal, self.pointer, target[: self.nbytes])

    def fill(self, data: "DeviceMemory | memoryview") -> None:
        """Put data at the start; what is there already is left as it is.

        Raises:
            DeviceError: the driver refuses.
            ValueError: there is not so much room.
        """
        if len(data) > self.nbytes:
            raise ValueError(f"{len(data)} bytes into {self.nbytes}")
        if not len(data):
            return
        if isinstance(data, memoryview):
            self.port.write(self.ordinal, self.pointer, data)
        elif data.pointer != self.pointer:
            self.port.move(self.ordinal, self.pointer, data.pointer, data.nbytes)
