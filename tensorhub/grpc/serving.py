"""The daemon's life: gateway, engine, and an orderly end.

It never forks: neither gRPC's core nor ZeroMQ survives that.
"""

import gc
import logging
import select
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tensorhub.frontend.port import GatewayPort
from tensorhub.grpc.engine import Endpoint, Mail, Tls
from tensorhub.grpc.listening import check_port
from tensorhub.grpc.options import GrpcOptions, TlsFiles
from tensorhub.grpc.routes import methods
from tensorhub.grpc.self_test import choose
from tensorhub.ipc.stop_signals import came, stop_signals
from tensorhub.settings import SettingsError

log = logging.getLogger(__name__)


class OwnedGateway(GatewayPort, Mail, Protocol):
    """A gateway that the daemon opened."""

    def close(self) -> None:
        """Leave the server; requests in flight get no answer any more."""


GatewayFactory = Callable[[Path], OwnedGateway]


def join_server(run_dir: Path) -> OwnedGateway:
    """Join the server in `run_dir`.

    Raises:
        RunDirError: the run directory cannot be used.
    """
    # Not at the top: who brings a gateway of his own needs no ZeroMQ.
    from tensorhub.frontend.gateways import open_thread_gateway

    return open_thread_gateway(run_dir)


def serve(options: GrpcOptions, open_gateway: GatewayFactory = join_server) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        SettingsError, ListenError, EngineUnfit, RunDirError: it cannot begin; nothing is left open.
    """
    tls = None if options.tls is None else _read_tls(options.tls)
    check_port(options.host, options.port, shared=options.reuse_port)
    with stop_signals() as signals:
        engine_class = choose(options.engine)
        gateway = open_gateway(options.run_dir)
        try:
            endpoint = Endpoint(options.address, options.channel_options, options.compression_level, tls)
            engine = engine_class(methods(gateway, options.rules), endpoint, gateway)
            port = engine.start()
            # PERF: what is here now stays; the collector need not look at it again.
            gc.collect()
            gc.freeze()
            log.info("Started GRPCInferenceService at %s:%d", options.address.rpartition(":")[0], port)
            while not came(signals):
                select.select([signals], [], [])
            log.info("stopping: up to %g s for %d calls in progress", options.exit_timeout_s, engine.calls)
            engine.stop(options.exit_timeout_s)
        finally:
            gateway.close()


def _read_tls(files: TlsFiles) -> Tls:
    return Tls(
        _read("--grpc-server-cert", files.certificate),
        _read("--grpc-server-key", files.key),
        None if files.root is None else _read("--grpc-root-cert", files.root),
        files.mutual,
    )


def _read(option: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise SettingsError(f"cannot read {option} {path}: {exc.strerror}") from exc
