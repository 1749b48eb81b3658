"""What the daemon needs to know to listen, from the server's settings. Pure."""

from dataclasses import dataclass
from pathlib import Path

from tensorhub.grpc.rules import RULES
from tensorhub.settings import OPTIONS, Settings, SettingsError

COMPRESSION_LEVELS = {"none": 0, "low": 1, "medium": 2, "high": 3}

_CHANNEL_OPTIONS = {
    "reuse-grpc-port": "grpc.so_reuseport",
    "grpc-keepalive-time": "grpc.keepalive_time_ms",
    "grpc-keepalive-timeout": "grpc.keepalive_timeout_ms",
    "grpc-keepalive-permit-without-calls": "grpc.keepalive_permit_without_calls",
    "grpc-http2-max-pings-without-data": "grpc.http2.max_pings_without_data",
    "grpc-http2-min-recv-ping-interval-without-data": "grpc.http2.min_ping_interval_without_data_ms",
    "grpc-http2-max-ping-strikes": "grpc.http2.max_ping_strikes",
}
"""Option to its name in gRPC's core."""

_CHANNEL_OPTIONS_UNLESS_ZERO = {
    "grpc-max-connection-age": "grpc.max_connection_age_ms",
    "grpc-max-connection-age-grace": "grpc.max_connection_age_grace_ms",
}


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: of --grpc-server-cert, --grpc-server-key and --grpc-root-cert (None: not given)."""

    certificate: Path
    key: Path
    root: Path | None
    mutual: bool


@dataclass(frozen=True, slots=True)
class GrpcOptions:
    """The options.

    Attributes:
        channel_options: of gRPC's core, by their names.
        rules: those of the options in `rules.RULES` that are not the default.
    """

    host: str
    port: int
    reuse_port: bool
    channel_options: tuple[tuple[str, int], ...]
    compression_level: int
    tls: TlsFiles | None
    run_dir: Path
    engine: str
    exit_timeout_s: float
    rules: dict[str, str]

    @property
    def address(self) -> str:
        """Host and port in gRPC's form."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def from_settings(settings: Settings) -> GrpcOptions:
    """Return the daemon's part of the settings.

    Raises:
        SettingsError: an option lacks another one.
    """
    grpc = settings.grpc
    texts = settings.as_strings()
    channel_options = [(core, int(settings.value(name))) for name, core in _CHANNEL_OPTIONS.items()]
    channel_options += [
        (core, settings.value(name)) for name, core in _CHANNEL_OPTIONS_UNLESS_ZERO.items() if settings.value(name)
    ]
    return GrpcOptions(
        host=grpc.grpc_address.strip("[]"),
        port=grpc.grpc_port,
        reuse_port=grpc.reuse_grpc_port,
        channel_options=tuple(channel_options),
        compression_level=COMPRESSION_LEVELS[grpc.grpc_infer_response_compression_level],
        tls=_tls(settings),
        run_dir=Path(settings.server.run_dir),
        engine=settings.processes.grpc_engine,
        exit_timeout_s=float(settings.server.exit_timeout_secs),
        rules={name: texts[name] for name in RULES if settings.value(name) != OPTIONS[name].default},
    )


def _tls(settings: Settings) -> TlsFiles | None:
    tls = settings.grpc_tls
    if not (tls.grpc_use_ssl or tls.grpc_use_ssl_mutual):
        return None
    if not tls.grpc_server_cert or not tls.grpc_server_key:
        raise SettingsError("TLS needs --grpc-server-cert and --grpc-server-key")
    if tls.grpc_use_ssl_mutual and not tls.grpc_root_cert:
        raise SettingsError("--grpc-use-ssl-mutual needs --grpc-root-cert")
    return TlsFiles(
        Path(tls.grpc_server_cert),
        Path(tls.grpc_server_key),
        Path(tls.grpc_root_cert) if tls.grpc_root_cert else None,
        tls.grpc_use_ssl_mutual,
    )
