"""Python environments of models (EXECUTION_ENV_PATH): made to run a worker.

An environment is a folder with bin/activate and bin/python, or an archive of one: what conda-pack, venv-pack or a plain
`tar` of a virtual environment make. An archive is unpacked once (`environment_archives`); a folder is used as it is.

The environment's Python runs tensorhub itself as well. If it has the same version as ours, our libraries are put at
the end of its path, where they fill in what the environment lacks and replace nothing of it; otherwise the environment
needs a tensorhub of its own.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import tensorhub
from tensorhub.backends.python.activation import EnvironmentFault, activate, find_python
from tensorhub.backends.python.environment_archives import unpacked
from tensorhub.version import VERSION

WORKER = "tensorhub.workers.main"

TRIAL_S = 120.0
"""How long a first start of the environment's Python may take: a cold disk, and all of its libraries unread."""

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
_START = (
    "import os, sys; sys.path += %(path)r; os.environ.pop('LD_LIBRARY_PATH', None); os.environ.update(%(seen)r); "
    "from %(program)s import main; sys.exit(main())"
)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """How a worker is started under another Python: how its command line begins, and all of its variables."""

    argv: tuple[str, ...]
    environ: Mapping[str, str]


def prepare(path: str, warn: Callable[[str], None], program: str = WORKER) -> Interpreter:
    """Make an environment usable.

    Args:
        path: of its folder or archive.
        warn: is told what is wrong with it although it can be used.
        program: the module whose `main` is to run in it.

    Raises:
        EnvironmentFault: it cannot be.
    """
    try:
        real = os.path.realpath(path, strict=True)
    except OSError as exc:
        raise EnvironmentFault(f"Failed to get the canonical path for {path}.") from exc
    folder = real if os.path.isdir(real) else unpacked(real, warn)
    activated = activate(folder)
    python = find_python(folder)
    extra = _try(python, activated.environ, path)
    seen = {} if activated.libraries is None else {"LD_LIBRARY_PATH": activated.libraries}
    return Interpreter(
        (python, "-P", "-c", _START % {"path": extra, "seen": seen, "program": program}), activated.environ
    )


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
            env=environ,
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
