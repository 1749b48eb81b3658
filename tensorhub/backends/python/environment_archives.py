"""Archives of Python environments, unpacked into the user's cache folder.

Each has a folder there, under a name that is made of its path, time and size:

    lock     whoever unpacks holds it, also against other servers of the user; the kernel frees it
    env/     the environment
    ready    is there when all of env/ is: what a process that died has left is thrown away and made anew

An archive of conda-pack finishes itself: its `bin/conda-unpack` writes the folder's path to where the packages have
theirs. It runs after `bin/activate`, as conda-pack's documentation says. Triton does not run it, so an archive in which
it fails is used all the same.

SAFETY: an archive is data until all of it is unpacked. Nothing is written outside of its folder: names that lead out
and links that point out are refused, devices too, and so is what is too large. Only bin/python* may be a link to an
interpreter elsewhere, as it is in every virtual environment. Where links point to is judged by `tarfile`, of which some
versions can be misled (CVE-2025-4517). So nothing is written or linked through a link, wherever it points to; `tar` and
conda-pack make no such archives.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tensorhub.backends.python.activation import EnvironmentFault, activate, find_python

MAX_UNPACKED_BYTES = 32 << 30
"""Of one environment; a large one with CUDA libraries has a third of it. A small archive may hold much more."""

MAX_MEMBERS = 1_000_000

_FINISH_S = 600.0
"""How long conda-unpack may take: it reads and writes each file that has a path in it."""

_INTERPRETER = re.compile(r"(?:\./)?bin/python[0-9.]*")


def unpacked(archive: str, warn: Callable[[str], None]) -> str:
    """Return the folder of an archive's environment; it is unpacked if it is not yet.

    Args:
        archive: its real path.
        warn: is told what does not keep the environment from being used.

    Raises:
        EnvironmentFault: it cannot be unpacked; nothing of it is left.
    """
    status = os.stat(archive)
    key = f"{archive}\0{status.st_mtime_ns}\0{status.st_size}"
    place = _cache() / hashlib.blake2b(key.encode(), digest_size=12).hexdigest()
    target = place / "env"
    ready = place / "ready"
    with _locked(place):
        if not ready.exists() or not target.is_dir():
            ready.unlink(missing_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            unpack(archive, target)
            _finish(target, archive, warn)
            ready.touch()
    return str(target)


def unpack(archive: str, target: Path) -> None:
    """Unpack an archive into a new folder.

    Raises:
        EnvironmentFault: it is no archive, is too large, or contains what leads out of the folder, which is gone then.
    """
    try:
        if not tarfile.is_tarfile(archive):
            raise EnvironmentFault(f"the Python environment {archive} is neither a folder nor an archive of tar")
        target.mkdir(mode=0o700)
        with tarfile.open(archive) as opened:
            _extract(archive, opened, target)
    except (tarfile.TarError, OSError, EOFError) as exc:
        shutil.rmtree(target, ignore_errors=True)
        raise EnvironmentFault(f"the Python environment {archive} cannot be unpacked: {exc}") from exc
    except EnvironmentFault:
        shutil.rmtree(target, ignore_errors=True)
        raise


def _extract(archive: str, opened: tarfile.TarFile, content: Path) -> None:
    size = 0
    folders: set[str] = set()
    for count, member in enumerate(opened, 1):
        size += member.size
        if count > MAX_MEMBERS or size > MAX_UNPACKED_BYTES:
            raise EnvironmentFault(
                f"the Python environment {archive} has more than {MAX_UNPACKED_BYTES} bytes or {MAX_MEMBERS} files"
            )
        _refuse_links(member, content, folders)
        try:
            opened.extract(member, content, filter="data")
        except (tarfile.AbsoluteLinkError, tarfile.LinkOutsideDestinationError):
            if not (member.issym() and _INTERPRETER.fullmatch(member.name)):
                raise
            (content / "bin").mkdir(exist_ok=True)
            (content / member.name).symlink_to(member.linkname)


def _refuse_links(member: tarfile.TarInfo, content: Path, folders: set[str]) -> None:
    """Raise TarError if a member would be written through a link, or be a hard link to what is found through one.

    Args:
        folders: names of folders that are known to be no links; added to. No member can put a link in their place.
    """
    for name in (member.name, member.linkname) if member.islnk() else (member.name,):
        *parents, last = [part for part in name.split("/") if part not in ("", ".")] or ["."]
        if ".." in (*parents, last):
            raise tarfile.TarError(f"'{name}' has '..' in its name")
        path = ""
        for parent in parents:
            path = f"{path}{parent}/"
            if path not in folders:
                if (content / path.rstrip("/")).is_symlink():
                    raise tarfile.TarError(f"'{name}' leads through a link")
                if (content / path).is_dir():
                    folders.add(path)
        if (content / path / last).is_symlink():
            raise tarfile.TarError(f"'{name}' is there already, as a link")
    if member.islnk() and not (content / member.linkname).is_file():
        raise tarfile.TarError(f"'{member.name}' is a hard link to '{member.linkname}', which is not there as a file")


def _finish(folder: Path, archive: str, warn: Callable[[str], None]) -> None:
    script = folder / "bin" / "conda-unpack"
    if not script.is_file():
        return
    try:
        environ = activate(str(folder)).environ
        command = [find_python(str(folder)), str(script)]
        subprocess.run(
            command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, cwd="/", timeout=_FINISH_S, check=True
        )
    except subprocess.CalledProcessError as exc:
        lines = exc.stderr.decode("utf-8", "replace").strip().splitlines()
        last = lines[-1] if lines else f"status {exc.returncode}"
        warn(f"conda-unpack of the Python environment {archive} failed, so some files have wrong paths: {last}")
    except (OSError, subprocess.TimeoutExpired) as exc:
        warn(f"conda-unpack of the Python environment {archive} failed, so some files have wrong paths: {exc}")


def _cache() -> Path:
    """Return our part of the user's cache folder, private to the user.

    Raises:
        EnvironmentFault: it belongs to somebody else, or cannot be made.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tensorhub" / "environments"
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = base.stat()
    except OSError as exc:
        raise EnvironmentFault(f"the folder {base} for unpacked Python environments: {exc.strerror}") from exc
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise EnvironmentFault(f"the folder {base} for unpacked Python environments can be written by others")
    return base


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise EnvironmentFault(f"the folder {place} for an unpacked Python environment: {exc.strerror}") from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
