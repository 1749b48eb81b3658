"""Python environments of models (EXECUTION_ENV_PATH): unpacked where they are archives, and made to run a worker.

An environment is a folder with bin/activate and bin/python, or an archive of one: what conda-pack, venv-pack or a plain
`tar` of a virtual environment makes. An archive is unpacked once, into the user's cache folder, under a name that is
made of its path, time and size.

The environment's Python runs tensorhub itself as well. If it has the same version as ours, our libraries are put at
the end of its path, where they fill in what the environment lacks and replace nothing of it; otherwise the environment
needs a tensorhub of its own.

SAFETY: an archive is data. Nothing is written outside of its folder: names that lead out and links that point out are
refused, devices too, and so is what is too large. Only bin/python* may be a link to an interpreter elsewhere, as it is
in every virtual environment.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tensorhub
from tensorhub.version import VERSION

MAX_UNPACKED_BYTES = 32 << 30
"""Of one environment; a large one with CUDA libraries has a third of it. A small archive may hold much more."""

MAX_MEMBERS = 1_000_000

TRIAL_S = 120.0
"""How long a first start of the environment's Python may take: a cold disk, and all of its libraries unread."""

_INTERPRETER = re.compile(r"(?:\./)?bin/python[0-9.]*")

# Prints what we have to know of a Python, as JSON. The path is ours, for the case that its version is, too.
_TRIAL = """
import json, sys
report = {"version": list(sys.version_info[:2])}
if report["version"] == %(version)r:
    sys.path += %(path)r
try:
    from tensorhub.version import VERSION
    import tensorhub.workers.main
    report["tensorhub"] = VERSION
except ImportError as error:
    report["error"] = str(error)
print(json.dumps(report))
"""
_START = "import sys; sys.path += %(path)r; from tensorhub.workers.main import main; sys.exit(main())"


class EnvironmentFault(Exception):
    """An environment cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """How a worker is started under another Python: how its command line begins, and what its environment adds."""

    argv: tuple[str, ...]
    environ: Mapping[str, str]


def prepare(path: str) -> Interpreter:
    """Make an environment usable.

    Args:
        path: of its folder or archive.

    Raises:
        EnvironmentFault: it cannot be.
    """
    folder = _folder(path)
    if not os.path.isfile(os.path.join(folder, "bin", "activate")):
        raise EnvironmentFault(
            f"Path {folder}/bin/activate does not exist. The Python environment should contain an 'activate' script."
        )
    python = os.path.join(folder, "bin", "python")
    if not os.access(python, os.X_OK):
        raise EnvironmentFault(f"the Python environment {path} has no bin/python that can be run")
    environ = _environ(folder)
    extra = _try(python, environ, path)
    return Interpreter((python, "-P", "-c", _START % {"path": extra}), environ)


def _folder(path: str) -> str:
    real = os.path.realpath(path)
    if os.path.isdir(real):
        return real
    try:
        status = os.stat(real)
    except OSError as exc:
        raise EnvironmentFault(f"Failed to get the canonical path for {path}.") from exc
    key = f"{real}\0{status.st_mtime_ns}\0{status.st_size}"
    target = _cache() / hashlib.blake2b(key.encode(), digest_size=12).hexdigest()
    if not target.is_dir():
        unpack(real, target)
    return str(target)


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


def unpack(archive: str, target: Path) -> None:
    """Unpack an archive into a folder that is there when all of it is, and not before.

    Raises:
        EnvironmentFault: it is no archive, is too large, or contains what leads out of the folder.
    """
    with tempfile.TemporaryDirectory(prefix=f"{target.name}.", dir=target.parent) as work:
        content = Path(work, "content")
        content.mkdir(mode=0o700)
        try:
            if not tarfile.is_tarfile(archive):
                raise EnvironmentFault(f"the Python environment {archive} is neither a folder nor an archive of tar")
            with tarfile.open(archive) as opened:
                _extract(archive, opened, content)
        except (tarfile.TarError, OSError, EOFError) as exc:
            raise EnvironmentFault(f"the Python environment {archive} cannot be unpacked: {exc}") from exc
        try:
            content.rename(target)
        except OSError:  # another worker was faster
            if not target.is_dir():
                raise


def _extract(archive: str, opened: tarfile.TarFile, content: Path) -> None:
    size = 0
    for count, member in enumerate(opened, 1):
        size += member.size
        if count > MAX_MEMBERS or size > MAX_UNPACKED_BYTES:
            raise EnvironmentFault(
                f"the Python environment {archive} has more than {MAX_UNPACKED_BYTES} bytes or {MAX_MEMBERS} files"
            )
        try:
            opened.extract(member, content, filter="data")
        except (tarfile.AbsoluteLinkError, tarfile.LinkOutsideDestinationError):
            if not (member.issym() and _INTERPRETER.fullmatch(member.name)):
                raise
            # Its folder has passed the filter before, or is made here: a name of two components without "..".
            (content / "bin").mkdir(exist_ok=True)
            if os.path.realpath(content / "bin") != str(content.resolve() / "bin"):
                raise
            (content / member.name).symlink_to(member.linkname)


def _environ(folder: str) -> dict[str, str]:
    """Return what `activate` would set: the environment's programs and libraries go first."""
    kind = "VIRTUAL_ENV" if os.path.exists(os.path.join(folder, "pyvenv.cfg")) else "CONDA_PREFIX"
    found = {kind: folder, "PYTHONPATH": "", "PYTHONHOME": ""}
    for name, place in (("PATH", "bin"), ("LD_LIBRARY_PATH", "lib")):
        found[name] = os.pathsep.join(filter(None, (os.path.join(folder, place), os.environ.get(name, ""))))
    return found


def _try(python: str, environ: Mapping[str, str], path: str) -> list[str]:
    """Run the environment's Python once, and return what its path lacks for tensorhub.

    Raises:
        EnvironmentFault: it does not run, or cannot run this tensorhub.
    """
    own = list(sys.version_info[:2])
    # Where tensorhub is comes last, for one that is installed in place.
    ours = [item for item in sys.path if item and os.path.isdir(item) and "-packages" in os.path.basename(item)]
    ours.append(str(Path(tensorhub.__file__).parent.parent))
    code = _TRIAL % {"version": own, "path": ours}
    try:
        done = subprocess.run(
            [python, "-c", code],
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd="/",
            timeout=TRIAL_S,
            check=True,
        )
        report = json.loads(done.stdout)
    except subprocess.CalledProcessError as exc:
        lines = exc.stderr.strip().splitlines()
        last = lines[-1] if lines else f"status {exc.returncode}"
        raise EnvironmentFault(f"the Python of the environment {path} does not run: {last}") from exc
    except (OSError, subprocess.TimeoutExpired, ValueError) as exc:
        raise EnvironmentFault(f"the Python of the environment {path} does not run: {exc}") from exc
    found = ".".join(map(str, report["version"]))
    if report.get("tensorhub") != VERSION:
        have = f"tensorhub {report['tensorhub']}" if "tensorhub" in report else f"no tensorhub ({report['error']})"
        raise EnvironmentFault(
            f"the Python environment {path} has Python {found} and {have}; a worker needs tensorhub {VERSION}: use an "
            f"environment with Python {'.'.join(map(str, own))}, which takes it from the server, or install it there"
        )
    return ours if report["version"] == own else []
