"""The daemon `tensorhub-grpc`: the command line, and what must be done before gRPC is imported."""

import os
import sys
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tensorhub import logs, settings
from tensorhub.ipc.allocation import keep_large_blocks
from tensorhub.ipc.lifeline import follow_parent
from tensorhub.ipc.rundir import RunDirError

if TYPE_CHECKING:
    from tensorhub.grpc.serving import OwnedGateway

_PROG = "tensorhub-grpc"


def main(argv: Sequence[str] | None = None, open_gateway: "Callable[[Path], OwnedGateway] | None" = None) -> int:
    """Run the daemon until SIGTERM or SIGINT, and return its exit status.

    Args:
        argv: the command line without the program; None: the process's own.
        open_gateway: joins the server in a run directory; None: the real one.
    """
    try:
        chosen = settings.load(sys.argv[1:] if argv is None else argv)
    except settings.HelpRequested:
        sys.stdout.write(settings.help_text(_PROG))
        return 0
    except settings.SettingsError as exc:
        return _fail(exc)
    follow_parent()
    logs.set_up(chosen.as_strings(), "grpc")
    let_the_loop_poll(os.environ)
    keep_large_blocks()
    from tensorhub.grpc import options, serving
    from tensorhub.grpc.engine import EngineUnfit, ListenError

    try:
        serving.serve(options.from_settings(chosen), open_gateway or serving.join_server)
    except (settings.SettingsError, ListenError, EngineUnfit, RunDirError) as exc:
        return _fail(exc)
    return 0


def _fail(reason: Exception) -> int:
    print(f"{_PROG}: {reason}", file=sys.stderr)
    return 1


def let_the_loop_poll(environ: MutableMapping[str, str]) -> None:
    """Have gRPC's core read and write its sockets in the thread that asks it for events.

    By default (grpcio 1.85) threads of its own do that, and hand over. PERF: with one connection the CPU time of a call
    goes from 145 to 100 us, with eight from 53 to 42 (h2load, an echo that answers from another thread). The core reads
    the variable when it is imported. Who has set it before has a reason; a core that does not know the word logs a
    line and goes on.
    """
    environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")


if __name__ == "__main__":
    sys.exit(main())
