"""Which run directory a process has that was not told of one. Pure; what lies in it is `ipc.rundir`'s business.

Apart from the settings, so that a frontend whose options all come from the hub need not read the table of them.
"""

from collections.abc import Mapping
from pathlib import Path

RUN_DIR_VARIABLE = "TENSORHUB_RUN_DIR"


def default_run_dir(environ: Mapping[str, str], uid: int) -> Path:
    """Return the run directory of a process that was not told of one; whoever opens it also makes it."""
    if environ.get(RUN_DIR_VARIABLE):
        return Path(environ[RUN_DIR_VARIABLE])
    if uid == 0:
        return Path("/run/tensorhub")
    if environ.get("XDG_RUNTIME_DIR"):
        return Path(environ["XDG_RUNTIME_DIR"]) / "tensorhub"
    return Path(f"/tmp/tensorhub-{uid}")
