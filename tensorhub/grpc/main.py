"""The daemon `tensorhub-grpc`: the command line, and what must be done before gRPC is imported."""

import os
import sys
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tensorhub import logs
from tensorhub.grpc import options as command_line
from tensorhub.grpc.engine import EngineUnfit, ListenError
from tensorhub.grpc.options import OptionError
from tensorhub.ipc.lifeline import follow_parent
from tensorhub.ipc.rundir import RunDirError

if TYPE_CHECKING:
    from tensorhub.grpc.serving import OwnedGateway


def main(argv: Sequence[str] | None = None, open_gateway: "Callable[[Path], OwnedGateway] | None" = None) -> int:
    """Run the daemon until SIGTERM or SIGINT, and return its exit status.

    Args:
        argv: the command line without the program; None: the process's own.
        open_gateway: joins the server in a run directory; None: the real one.
    """
    try:
        options = command_line.parse(argv, os.environ, os.geteuid())
        follow_parent()
        logs.set_up(logs.from_environ(os.environ) or options.log_options, "grpc")
        let_the_loop_poll(os.environ)
        from tensorhub.grpc import serving

        serving.serve(options, open_gateway or serving.join_server)
    except (OptionError, ListenError, EngineUnfit, RunDirError) as exc:
        print(f"tensorhub-grpc: {exc}", file=sys.stderr)
        return 1
    return 0


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
