"""What `bin/activate` of a Python environment makes of a process's environment variables: it is run to find out.

Packages of conda bring scripts of their own that it runs (`etc/conda/activate.d`), and without what they set, the
libraries do not find their data. Triton 2.51 sources it too.

A virtual environment that was packed with `tar` has the path of its old place in the script. So what names the
environment is set here in any case, after the script.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

ACTIVATION_S = 120.0
"""How long the script may take: those of packages may start programs, from a cold disk."""

_LIBRARIES = "LD_LIBRARY_PATH"

# $1 is the script, $2 the program `env`; neither is an argument of the script.
_SOURCE = '_tensorhub_script=$1 _tensorhub_env=$2; shift 2; . "$_tensorhub_script" >&2; exec "$_tensorhub_env" -0'

# What the shell that is asked changes for itself.
_SHELL = frozenset(("_", "SHLVL", "PWD", "OLDPWD"))


class EnvironmentFault(Exception):
    """An environment cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Activated:
    """The variables for programs of an environment.

    Attributes:
        environ: all of them. Its own libraries go first.
        libraries: what LD_LIBRARY_PATH is without them, None if it is not set: programs of the system that a model
            starts may not run with the libraries of the environment, so Triton takes them out of its sight.
    """

    environ: Mapping[str, str]
    libraries: str | None


def activate(folder: str) -> Activated:
    """Return the variables of this process as `source bin/activate` would make them.

    Raises:
        EnvironmentFault: there is no such script, or it does not run to its end.
    """
    script = os.path.join(folder, "bin", "activate")
    if not os.path.isfile(script):
        raise EnvironmentFault(
            f"Path {script} does not exist. The Python environment should contain an 'activate' script."
        )
    # PYTHONHOME is where the server's Python has its library, which no other one can use.
    before = {name: value for name, value in os.environ.items() if name != "PYTHONHOME"}
    found = {name: value for name, value in before.items() if name in _SHELL}
    found |= {name: value for name, value in _after(script, before).items() if name not in _SHELL}
    kind = "VIRTUAL_ENV" if os.path.exists(os.path.join(folder, "pyvenv.cfg")) else "CONDA_PREFIX"
    programs = os.path.join(folder, "bin")
    wrong = os.path.join(found.get(kind, folder), "bin")
    others = [entry for entry in found.get("PATH", "").split(os.pathsep) if entry not in ("", programs, wrong)]
    found |= {kind: folder, "PATH": os.pathsep.join([programs, *others])}
    libraries = found.get(_LIBRARIES)
    found[_LIBRARIES] = os.pathsep.join(filter(None, (os.path.join(folder, "lib"), libraries)))
    return Activated(found, libraries)


def find_python(folder: str) -> str:
    """Return the path of an environment's Python.

    Raises:
        EnvironmentFault: it has none that can be run.
    """
    for name in ("python", "python3"):
        path = os.path.join(folder, "bin", name)
        if os.access(path, os.X_OK):
            return path
    raise EnvironmentFault(f"the Python environment {folder} has no bin/python that can be run")


def _after(script: str, environ: Mapping[str, str]) -> dict[str, str]:
    command = ["bash", "--noprofile", "--norc", "-c", _SOURCE, "bash", script, shutil.which("env") or "/usr/bin/env"]
    try:
        done = subprocess.run(
            command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, timeout=ACTIVATION_S, check=True
        )
    except subprocess.CalledProcessError as exc:
        raise EnvironmentFault(f"{script} ended with {_last_line(exc.stderr) or exc.returncode}") from exc
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise EnvironmentFault(f"{script} cannot be run by bash: {exc}") from exc
    if not done.stdout:
        raise EnvironmentFault(f"{script} ended the shell that runs it: {_last_line(done.stderr) or 'without a word'}")
    entries = os.fsdecode(done.stdout).split("\0")
    return {name: value for name, separator, value in (entry.partition("=") for entry in entries) if separator}


def _last_line(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""
