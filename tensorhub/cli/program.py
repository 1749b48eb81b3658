"""How the person at the terminal calls `tensorhub`, so that what we tell to type can be pasted, and how it ends."""

import shlex
import shutil
import sys
from pathlib import PurePath

PROGRAM = "tensorhub"
BAD_USAGE = 2
"""Exit status for arguments that cannot be used."""


def own_name() -> str:
    """Return "tensorhub" if a shell finds it; else how this process was called, such as `.venv/bin/tensorhub`."""
    if shutil.which(PROGRAM) is not None:
        return PROGRAM
    called = sys.argv[0]
    return shlex.quote(called) if PurePath(called).name == PROGRAM else f"{shlex.quote(sys.executable)} -m {PROGRAM}"
