"""The run directory: where the processes of one server find each other. It holds sockets, and a few bytes.

    hub.sock              the hub's mailbox
    <role>-<pid>.sock     the mailbox of any other process
    <pid>.fds             where that process hands out file descriptors: of its arena, and of clients' files
    <pid>.copies          where that process, a worker of a GPU, copies from and to the GPU for others
    <pid>.held            how much memory that process shares with clients (`ipc.holdings`); only with --shm-socket

Mailboxes carry the pid, so that a message for a process that has died can never reach its successor. The directory
belongs to one user, mode 0700: whoever can write to a mailbox can command the server.
"""

import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tensorhub.ipc.watch import is_running
from tensorhub.ipc.wire import Role

_SUN_PATH_LIMIT = 107  # bytes, unix(7)
_LONGEST_NAME = "worker-4194304.sock"
_OWNED = re.compile(r"^(?:[a-z]+-)?(\d+)\.(?:sock|fds|copies|held)$")


class RunDirError(Exception):
    """The run directory cannot be used; the message is one line for the person who started the process."""


class RunDir:
    """One server's run directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"<RunDir {self.path}>"

    def open(self) -> None:
        """Make the directory if it is not there, and check that it is ours alone.

        Raises:
            RunDirError: it cannot be made, is not ours, is open to others, or its path is too long for a socket.
        """
        longest = len(os.fsencode(self.path / _LONGEST_NAME))
        if longest > _SUN_PATH_LIMIT:
            raise RunDirError(
                f"the run directory {self.path} is too long a path for a Unix socket: {longest} bytes with a socket's "
                f"name, allowed are {_SUN_PATH_LIMIT}. Choose a shorter one with --run-dir"
            )
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.path.stat()
        except OSError as exc:
            raise RunDirError(
                f"cannot use the run directory {self.path}: {exc.strerror}. Choose another with --run-dir"
            ) from exc
        if not stat.S_ISDIR(found.st_mode):
            raise RunDirError(f"the run directory {self.path} is not a directory. Choose another with --run-dir")
        if found.st_uid != os.geteuid():
            raise RunDirError(
                f"the run directory {self.path} belongs to uid {found.st_uid}, and this process runs as uid "
                f"{os.geteuid()}. Choose another with --run-dir"
            )
        if found.st_mode & 0o077:
            raise RunDirError(
                f"the run directory {self.path} is open to others (mode {found.st_mode & 0o777:04o}); it must be 0700: "
                f"chmod 700 {self.path}"
            )

    @contextmanager
    def lock(self) -> Iterator[int]:
        """Hold the directory as its one hub, or as the supervisor of one.

        The lock is on the directory itself. It ends with this process and with the children that were given the
        descriptor, which this yields.

        Raises:
            RunDirError: another hub holds it.
        """
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunDirError(
                    f"the run directory {self.path} is in use by a running server. Stop that one, or give this one "
                    "another --run-dir"
                ) from None
            yield fd
        finally:
            os.close(fd)

    @property
    def hub(self) -> Path:
        """The hub's mailbox."""
        return self.path / "hub.sock"

    def mailbox(self, role: Role, pid: int) -> Path:
        """The mailbox of a process."""
        if role is Role.HUB:
            return self.hub
        return self.path / f"{role.name.lower()}-{pid}.sock"

    def handles(self, pid: int) -> Path:
        """Where a process hands out its arena, and clients' files."""
        return self.path / f"{pid}.fds"

    def copies(self, pid: int) -> Path:
        """Where a worker of a GPU copies for others."""
        return self.path / f"{pid}.copies"

    def held(self, pid: int) -> Path:
        """Where a process says how much memory it shares with clients."""
        return self.path / f"{pid}.held"

    def all_held(self) -> list[Path]:
        """Where all processes say it that do."""
        return [self.path / name for name in os.listdir(self.path) if name.endswith(".held")]

    def forget(self, pid: int) -> None:
        """Remove what a process that has died left here."""
        for path in self.path.iterdir():
            match = _OWNED.match(path.name)
            if match and int(match[1]) == pid:
                path.unlink(missing_ok=True)

    def forget_the_dead(self) -> None:
        """Remove what every process that has ended left here, as far as that can be told now."""
        for path in self.path.iterdir():
            match = _OWNED.match(path.name)
            with suppress(OSError):
                if match and not is_running(int(match[1])):
                    path.unlink(missing_ok=True)
