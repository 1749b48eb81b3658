"""`tensorhub-hub`: the process around the hub's loop: its command line, its lock, its port and its signals."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path

from tensorhub import settings
from tensorhub.errors import TensorhubError, Unavailable
from tensorhub.hub.catalogue import ModelCatalogue
from tensorhub.hub.cloud import mirror_folder
from tensorhub.hub.loop import Hub
from tensorhub.hub.metrics_endpoint import MetricsEndpoint
from tensorhub.ipc import wire
from tensorhub.ipc.gpus import find_gpus
from tensorhub.ipc.lifeline import follow_parent
from tensorhub.ipc.node import Node
from tensorhub.ipc.rundir import RunDir, RunDirError
from tensorhub.ipc.stop_signals import came, stop_signals
from tensorhub.logs import set_up

_PROG = "tensorhub-hub"


def _open_metrics(chosen: settings.Settings, hub: Hub) -> MetricsEndpoint | ExitStack:
    """Serve metrics, unless they are switched off, until the result is closed.

    Raises:
        Unavailable: the port is taken, or the address is not one of this host.
    """
    if not chosen.metrics.allow_metrics:
        return ExitStack()
    place = settings.metrics_address(chosen), chosen.metrics.metrics_port
    try:
        endpoint = MetricsEndpoint(*place, hub.make_page)
    except OSError as exc:
        raise Unavailable(
            f"cannot serve metrics at {place[0]}:{place[1]} (--metrics-address, --metrics-port): {exc.strerror or exc}"
        ) from exc
    endpoint.start()
    return endpoint


def main(argv: Sequence[str] | None = None) -> int:
    """Run the hub until SIGTERM. Returns the exit status: 1 if it cannot start."""
    try:
        chosen = settings.load(sys.argv[1:] if argv is None else argv)
        settings.check_servable(chosen)
    except settings.HelpRequested:
        sys.stdout.write(settings.help_text(_PROG))
        return 0
    except settings.SettingsError as exc:
        sys.stderr.write(f"{_PROG}: {exc}\n")
        return 1
    supervised = follow_parent()
    set_up(chosen.as_strings(), "hub")
    run_dir = RunDir(Path(chosen.server.run_dir))
    paths = chosen.repository.model_repository
    gpus = [gpu.uuid for gpu in find_gpus()] if chosen.processes.gpu_workers else []
    try:
        run_dir.open()
        # A supervisor has the lock, from before its first child, and so has this process from it.
        with mirror_folder(paths) as mirrors, nullcontext() if supervised else run_dir.lock():
            catalogue = ModelCatalogue(
                chosen.repository,
                gpus,
                supervised=supervised,
                mirrors_in=mirrors,
                rate_limit=chosen.rate_limiter.rate_limit == "execution_count",
            )
            catalogue.check()
            run_dir.forget_the_dead()
            node = Node(run_dir, wire.Role.HUB)
            hub = Hub(node, chosen, catalogue, gpus)
            with ExitStack() as held:
                signals = held.enter_context(stop_signals())
                node.watcher.on_readable(signals, lambda: hub.stop() if came(signals) else None)
                held.callback(node.close)
                held.callback(hub.close)
                held.callback(_open_metrics(chosen, hub).close)
                hub.run()
    except (RunDirError, TensorhubError) as exc:
        sys.stderr.write(f"{_PROG}: {exc}\n")
        return 1
    except OSError as exc:
        sys.stderr.write(f"{_PROG}: --shm-socket={chosen.shared_memory.shm_socket}: {exc.strerror or exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
