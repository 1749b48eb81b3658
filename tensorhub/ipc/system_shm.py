"""One segment of POSIX shared memory that a client made: opened by key, checked, and read and written safely.

The key comes from outside, so everything about it is checked: its form, and what lies behind it. Sizes are compared as
Python's integers, which do not wrap.

Who truncates a file that another process has mapped, kills that process with SIGBUS at its next access. A segment of
our own user is mapped and used in place: who controls it could kill us anyway. One of another user is never mapped:
ranges of it are copied with preadv and pwritev, which report a short file instead.
"""

import errno
import fcntl
import logging
import mmap
import os
import re
import stat
from collections.abc import Collection
from pathlib import Path

import posix_ipc

from tensorhub.errors import InternalError, InvalidArgument
from tensorhub.ipc.descriptors import check_spare
from tensorhub.ipc.growth import Extent

log = logging.getLogger(__name__)

RESERVED_PREFIX = "triton_python_backend_shm_region_"
"""Triton's Python backend keeps private memory under such keys, on hosts where both servers run."""

MAX_COPY_BYTE_SIZE = 4 << 30
"""Bytes of one tensor in a segment of another user. A sparse segment costs its maker nothing and a copy of it costs us
all of it, so there has to be a limit."""

_FOLDER = "/dev/shm"
"""Where the C library's shm_open has its names, shm_overview(7)."""

_KEY = re.compile(r"/?([A-Za-z0-9._-]{1,200})")


def check_key(region: str, key: str) -> str:
    """Return the name to open: one slash, then the key's characters.

    Raises:
        InvalidArgument: the key is malformed or reserved.
    """
    if key.lstrip("/").startswith(RESERVED_PREFIX):
        raise InvalidArgument(
            f"cannot register shared memory region '{region}' with key '{key}' as the key contains the reserved prefix "
            f"'{RESERVED_PREFIX}'"
        )
    match = _KEY.fullmatch(key)
    if match is None:
        raise InvalidArgument(f"cannot register shared memory region '{region}' - invalid shm key '{key}'")
    return f"/{match[1]}"


class SystemSegment:
    """A range of a client's segment. Not for use after `close`; views made before stay good until they are gone.

    Attributes:
        region: the name it is registered under, for messages.
        offset: where the range begins in the segment, bytes.
        growable: the range goes to the end of a file that may become larger; it is mapped when that is known.
        in_place: the range is mapped; else it is only copied, because another user owns it.
    """

    __slots__ = ("_fd", "_file", "_map", "_name", "byte_size", "growable", "in_place", "offset", "region")

    def __init__(
        self,
        region: str,
        fd: int,
        offset: int,
        byte_size: int,
        *,
        in_place: bool,
        name: str = "",
        growable: bool = False,
    ) -> None:
        """Take over `fd`, which is closed if mapping fails.

        Raises:
            InvalidArgument: it cannot be mapped.
        """
        self.region = region
        self.offset = offset
        self.byte_size = byte_size
        self.in_place = in_place
        self._name = name
        found = os.fstat(fd)
        self._file = (found.st_dev, found.st_ino)
        self._fd = fd
        self._map: mmap.mmap | None = None
        self.growable = growable
        if growable:
            return
        if in_place:
            # The mapping keeps a descriptor of its own, which `file_size` uses.
            self._fd = -1
            try:
                self._map = mmap.mmap(fd, byte_size, offset=offset)
            except ValueError as exc:
                raise _invalid_args(region) from exc  # truncated since it was checked
            except OSError as exc:
                raise _not_mappable(region, exc.errno or errno.EINVAL) from exc
            finally:
                os.close(fd)

    @classmethod
    def open(cls, region: str, key: str, offset: int, byte_size: int, allowed_uids: Collection[int]) -> "SystemSegment":
        """Open a client's segment; on failure, nothing stays open.

        Args:
            allowed_uids: users whose segments may be used, besides our own.

        Raises:
            InvalidArgument: the key is malformed or reserved, or the range is not inside the segment or not mappable.
            InternalError: there is no such segment, or it may not be used. Triton has this code for it.
            Unavailable: there are no descriptors to spare.
        """
        name = check_key(region, key)
        try:
            # O_RDWR; the C library adds O_NOFOLLOW and O_CLOEXEC.
            fd = posix_ipc.SharedMemory(name).fd
        except (posix_ipc.Error, OSError, ValueError) as exc:
            raise InternalError(f"Unable to open shared memory region: '{key}'") from exc
        try:
            check_spare(fd, f"failed to register shared memory region '{region}'")
            in_place = _check_object(fd, key, allowed_uids)
            _check_range(region, os.fstat(fd).st_size, offset, byte_size)
        except BaseException:
            os.close(fd)
            raise
        return cls(region, fd, offset, byte_size, in_place=in_place, name=name)

    @classmethod
    def adopt(cls, region: str, fd: int, offset: int, byte_size: int, *, growable: bool) -> "SystemSegment":
        """Use a file that a client has handed over, which is closed if that fails.

        Raises:
            InvalidArgument: the range is not inside the file, or not mappable.
            InternalError: the file could be made smaller, so that mapping it would not be safe.
        """
        try:
            if not fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
                raise InternalError(f"the file of region '{region}' is not sealed")
            if growable and byte_size == 0:
                _check_range(region, os.fstat(fd).st_size + 1, offset, 1)
            else:
                _check_range(region, os.fstat(fd).st_size, offset, byte_size)
        except BaseException:
            os.close(fd)
            raise
        return cls(region, fd, offset, byte_size, in_place=True, growable=growable)

    def refresh(self) -> None:
        """Find out how large a growable segment is by now, and map all of it.

        Raises:
            InternalError: it cannot be mapped; its client may have made it as large as it likes.
        """
        byte_size = os.fstat(self._fd).st_size - self.offset
        if byte_size > 0 and (self._map is None or byte_size > self.byte_size):
            try:
                self._map = mmap.mmap(self._fd, byte_size, offset=self.offset)
            except OSError as exc:
                raise InternalError(
                    f"shared memory region '{self.region}', which has become {byte_size} bytes large, cannot be "
                    f"mapped: {exc.strerror}"
                ) from exc
        self.byte_size = max(byte_size, 0)

    def missing(self, offset: int, byte_size: int) -> int:
        """Return how many bytes a growable segment lacks for a range that begins in it, or at its end.

        Raises:
            InvalidArgument: the range begins behind the end.
            InternalError: see `refresh`.
        """
        self.refresh()
        if offset > self.byte_size:
            raise InvalidArgument(f"Invalid offset for shared memory region: '{self.region}'")
        return max(0, offset + byte_size - self.byte_size)

    def grow(self, byte_size: int) -> None:
        """Make a growable segment so large, if it is smaller.

        Raises:
            InternalError: the system has no memory for it, or it cannot be mapped.
        """
        try:
            os.posix_fallocate(self._fd, self.offset, byte_size)
        except OSError as exc:
            raise InternalError(f"shared memory region '{self.region}' cannot be made larger: {exc.strerror}") from exc
        self.refresh()

    def extent(self, registered_byte_size: int) -> Extent:
        """Describe the file of which so much was registered, as it is now."""
        return Extent(self._file, self.file_size(), self.offset + registered_byte_size)

    def __repr__(self) -> str:
        return f"<SystemSegment {self.region!r} {self.byte_size} bytes {'in place' if self.in_place else 'copied'}>"

    def file_size(self) -> int:
        """Ask the kernel for the size of the whole segment as it is now, bytes."""
        if self._map is None or self.growable:
            return os.fstat(self._fd).st_size
        return self._map.size()

    def is_unlinked(self) -> bool:
        """Whether its name is gone, or another segment's by now."""
        if not self._name:
            return False
        try:
            found = os.stat(f"{_FOLDER}{self._name}", follow_symlinks=False)
        except OSError:
            return True
        return (found.st_dev, found.st_ino) != self._file

    def check_present(self, offset: int, byte_size: int) -> None:
        """Check that the segment still has a range.

        Raises:
            InvalidArgument: it has been truncated.
        """
        if self.offset + offset + byte_size > self.file_size():
            raise self._truncated()

    def view(self, offset: int, byte_size: int) -> memoryview:
        """View a range of a segment that is mapped; it keeps the mapping."""
        assert self._map is not None
        return memoryview(self._map)[offset : offset + byte_size]

    def stage(self, byte_size: int) -> bytearray:
        """Make room for a copy, filled with zeros.

        Raises:
            InvalidArgument: it is larger than the limit for copies.
        """
        if byte_size > MAX_COPY_BYTE_SIZE:
            raise InvalidArgument(
                f"{byte_size} bytes of shared memory region '{self.region}' are wanted at once; at most "
                f"{MAX_COPY_BYTE_SIZE} are allowed if another user than the server's owns the memory"
            )
        return bytearray(byte_size)

    def read(self, offset: int, byte_size: int) -> bytearray:
        """Copy a range of a segment that is not mapped.

        Raises:
            InvalidArgument: the segment has been truncated, or the range is larger than the limit for copies.
        """
        data = self.stage(byte_size)
        rest = memoryview(data)
        position = self.offset + offset
        while rest:
            count = os.preadv(self._fd, [rest], position)
            if count == 0:
                raise self._truncated()
            rest, position = rest[count:], position + count
        return data

    def write(self, offset: int, data: memoryview) -> None:
        """Copy into a segment that is not mapped.

        Raises:
            InvalidArgument: the segment has been truncated. (If that happens during the write, it may grow again.)
            InternalError: the system has no memory for it.
        """
        self.check_present(offset, len(data))
        position = self.offset + offset
        while data:
            try:
                count = os.pwritev(self._fd, [data], position)
            except OSError as exc:
                raise InternalError(f"cannot write to shared memory region '{self.region}': {exc.strerror}") from exc
            data, position = data[count:], position + count

    def close(self) -> None:
        """Let the segment go; does nothing the second time. The mapping ends with the last view of it."""
        fd, self._fd, self._map = self._fd, -1, None
        if fd >= 0:
            os.close(fd)

    def _truncated(self) -> InvalidArgument:
        return InvalidArgument(f"shared memory region '{self.region}' has become smaller than it was when registered")


def _check_object(fd: int, key: str, allowed_uids: Collection[int]) -> bool:
    """Check what has been opened; return whether it is our own user's.

    Raises:
        InternalError: it is not a file in memory, or belongs to somebody else.
    """
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or not _is_tmpfs(found.st_dev):
        raise InternalError(f"Invalid shared memory region: '{key}'")
    in_place = found.st_uid == os.geteuid()
    if not in_place and found.st_uid not in allowed_uids:
        log.warning(
            "refused shared memory %r: it belongs to uid %d; --shm-allowed-uids can allow it", key, found.st_uid
        )
        raise InternalError(f"Unable to open shared memory region: '{key}'")
    return in_place


def _is_tmpfs(device: int) -> bool:
    """Tell whether a device number is that of a mounted tmpfs. Source: /proc/PID/mountinfo, proc_pid_mountinfo(5)."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        mount, _, file_system = line.partition(" - ")
        if mount.split()[2] == wanted and file_system.split()[0] == "tmpfs":
            return True
    return False


def _check_range(region: str, file_size: int, offset: int, byte_size: int) -> None:
    if offset < 0 or byte_size < 0 or offset + byte_size > file_size:
        raise _invalid_args(region)
    if byte_size == 0 or offset % mmap.ALLOCATIONGRANULARITY:
        raise _not_mappable(region, errno.EINVAL)


def _invalid_args(region: str) -> InvalidArgument:
    return InvalidArgument(f"failed to register shared memory region '{region}': invalid args")


def _not_mappable(region: str, number: int) -> InvalidArgument:
    # Triton's text; it has no space there.
    return InvalidArgument(
        f"failed to register shared memory region '{region}': unable to process address space{os.strerror(number)}"
    )
