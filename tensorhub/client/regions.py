"""Memory that a client shares with a server on the same host, as it is made, filled and read; see `shared_memory`."""

import fcntl
import mmap
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tensorhub import bytes_codec
from tensorhub.tensors import BY_NAME, DataType, element_count

Array = npt.NDArray[Any]

_FOLDER = "/dev/shm"
_PAGE = mmap.PAGESIZE


class SharedMemoryError(Exception):
    """Memory cannot be made, opened or registered; the text says what to do."""


class Region:
    """Mapped memory; see the two kinds of it.

    Attributes:
        byte_size: how much there is.
        map: the memory itself.
    """

    def __init__(self, fd: int, byte_size: int) -> None:
        """Take over `fd`; it stays the caller's if this raises.

        Raises:
            OSError, ValueError: it cannot be mapped.
        """
        self.map = _mapped(fd, byte_size)
        self.fd = fd
        self.byte_size = byte_size

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.byte_size} bytes>"

    def array(self, datatype: str, shape: Sequence[int], offset: int = 0) -> Array:
        """View a range as an array; writing to it writes to the memory.

        Args:
            datatype: Triton's name; not BYTES, whose elements have no size (see `read`). BF16 comes as uint16.
            offset: in bytes.

        Raises:
            ValueError: the range is not inside the memory, or there is no such array.
        """
        found = _type(datatype)
        if found is DataType.BYTES:
            raise ValueError("BYTES cannot be viewed; use read")
        self._check(offset, element_count(shape) * found.item_size)
        return np.ndarray(tuple(shape), found.numpy_name, self.map, offset)

    def write(self, values: Array, offset: int = 0) -> int:
        """Put an array into the memory, and return how many bytes it takes there.

        Args:
            values: arrays of text or of `bytes` objects are written as BYTES.

        Raises:
            ValueError: it does not fit.
        """
        array = np.asarray(values)
        if array.dtype.kind in "OSU":
            texts = array.astype(np.object_) if array.dtype.kind != "O" else array
            data = bytes_codec.serialize(texts)
            self._check(offset, len(data))
            self.map[offset : offset + len(data)] = bytes(data)
            return len(data)
        self._check(offset, array.nbytes)
        if array.nbytes:
            np.ndarray(array.shape, array.dtype, self.map, offset)[...] = array
        return array.nbytes

    def read(self, datatype: str, shape: Sequence[int], offset: int = 0, byte_size: int | None = None) -> Array:
        """Return what a range has: a view, or for BYTES a new array of `bytes` objects.

        Args:
            byte_size: of BYTES, at most; None: up to the end.

        Raises:
            ValueError: the range is not inside the memory, or does not have such elements.
        """
        if _type(datatype) is not DataType.BYTES:
            return self.array(datatype, shape, offset)
        size = self.byte_size - offset if byte_size is None else byte_size
        self._check(offset, size)
        data = bytes(self.map[offset : offset + size])
        end = _end_of(data, element_count(shape))
        return bytes_codec.deserialize(data[:end]).reshape(tuple(shape))

    def close(self) -> None:
        """Let the memory go; views that are alive keep it."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, offset: int, byte_size: int) -> None:
        if offset < 0 or byte_size < 0 or offset + byte_size > self.byte_size:
            raise ValueError(f"{byte_size} bytes at {offset} are not inside a region of {self.byte_size} bytes")


class SystemRegion(Region):
    """A segment of POSIX shared memory.

    Attributes:
        key: what it is registered with; begins with a slash.
        made: it was made here, and `close` removes it.
    """

    def __init__(self, key: str, fd: int, byte_size: int, *, made: bool) -> None:
        self.key = key
        self.made = made
        super().__init__(fd, byte_size)

    @classmethod
    def create(
        cls, byte_size: int, key: str | None = None, *, mode: int = 0o600, group: int | None = None
    ) -> "SystemRegion":
        """Make a segment that nobody else has, of zeros.

        Args:
            key: None: one that cannot be guessed.
            mode: who may open it; a server of another user of `group` needs 0o660, and to be told of our uid with
                --shm-allowed-uids.
            group: the id of its group; None: ours.

        Raises:
            SharedMemoryError: there is one with this key, or not so much memory.
        """
        name = key if key is not None else f"/tensorhub-{secrets.token_hex(16)}"
        path = _path(name)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileExistsError as exc:
            raise SharedMemoryError(f"there is a segment '{name}' already; attach to it, or take another key") from exc
        except OSError as exc:
            raise SharedMemoryError(f"segment '{name}' cannot be made: {exc.strerror}") from exc
        try:
            if group is not None:
                os.fchown(fd, -1, group)
            os.fchmod(fd, mode)
            # Now, and not with SIGBUS when it is written.
            os.posix_fallocate(fd, 0, byte_size)
            return cls(name, fd, byte_size, made=True)
        except (OSError, ValueError, OverflowError) as exc:
            os.unlink(path)
            os.close(fd)
            reason = getattr(exc, "strerror", None) or exc
            raise SharedMemoryError(
                f"segment '{name}' of {byte_size} bytes cannot be made: {reason}. df -h /dev/shm shows what is left"
            ) from exc

    @classmethod
    def attach(cls, key: str) -> "SystemRegion":
        """Open a segment that somebody else has made, whole.

        Raises:
            SharedMemoryError: there is none, or it may not be opened.
        """
        try:
            fd = os.open(_path(key), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as exc:
            raise SharedMemoryError(f"segment '{key}' cannot be opened: {exc.strerror}") from exc
        try:
            return cls(key, fd, os.fstat(fd).st_size, made=False)
        except (OSError, ValueError) as exc:
            os.close(fd)
            raise SharedMemoryError(f"segment '{key}' cannot be mapped: {exc}") from exc

    def close(self) -> None:
        """Let the memory go, and remove the segment if it was made here."""
        if self.fd >= 0 and self.made:
            with suppress(FileNotFoundError):
                os.unlink(_path(self.key))
        super().close()


class FileRegion(Region):
    """An anonymous file in memory: it has no name that another process could open, and needs no /dev/shm.

    It is sealed against becoming smaller, so that a server of another user may use it in place.
    """

    @classmethod
    def create(cls, byte_size: int, *, growable: bool = False) -> "FileRegion":
        """Make a file of zeros.

        Args:
            growable: the server may make it larger, for an output that does not fit; then `refresh`.

        Raises:
            SharedMemoryError: there is not so much memory.
        """
        fd = os.memfd_create("region", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, byte_size)
            seals = fcntl.F_SEAL_SHRINK | (0 if growable else fcntl.F_SEAL_GROW)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals | fcntl.F_SEAL_SEAL)
            return cls(fd, byte_size)
        except (OSError, ValueError, OverflowError) as exc:
            os.close(fd)
            raise SharedMemoryError(f"{byte_size} bytes of memory cannot be had: {exc}") from exc

    def refresh(self) -> int:
        """Map what the server has added, and return the new size. Arrays made before stay what they were."""
        byte_size = os.fstat(self.fd).st_size
        if byte_size != self.byte_size:
            self.map = mmap.mmap(self.fd, byte_size)
            self.byte_size = byte_size
        return byte_size


def _mapped(fd: int, byte_size: int) -> mmap.mmap:
    # An empty region is for outputs that make it larger; there is nothing to map of it yet.
    return mmap.mmap(fd, byte_size) if byte_size else mmap.mmap(-1, _PAGE)


def _path(key: str) -> str:
    name = key.removeprefix("/")
    if not name or "/" in name or name in (".", ".."):
        raise SharedMemoryError(f"'{key}' is no key: it is one name, with at most one slash in front")
    return f"{_FOLDER}/{name}"


def _type(name: str) -> DataType:
    try:
        return BY_NAME[name]
    except KeyError:
        raise ValueError(f"unknown datatype '{name}'") from None


def _end_of(data: bytes, count: int) -> int:
    """Return where the first `count` elements of BYTES end."""
    end = 0
    for _ in range(count):
        if end + 4 > len(data):
            raise ValueError(f"there are no {count} elements in {len(data)} bytes")
        end += 4 + int.from_bytes(data[end : end + 4], "little")
    if end > len(data):
        raise ValueError(f"there are no {count} elements in {len(data)} bytes")
    return end
