"""The command line of `tensorhub-grpc`: Triton's names and defaults for gRPC, and a few of ours. Pure."""

import argparse
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tensorhub.settings import default_run_dir

ENGINES = ("auto", "reactor", "threads")
COMPRESSION_LEVELS = {"none": 0, "low": 1, "medium": 2, "high": 3}

_CHANNEL_OPTIONS: dict[str, tuple[str, int | None, str]] = {
    # option: (name in gRPC's core, default; None: not set, help)
    "grpc-keepalive-time": ("grpc.keepalive_time_ms", 7_200_000, "milliseconds after which a keepalive ping is sent"),
    "grpc-keepalive-timeout": ("grpc.keepalive_timeout_ms", 20_000, "milliseconds that its answer may take"),
    "grpc-http2-max-pings-without-data": (
        "grpc.http2.max_pings_without_data",
        2,
        "pings that may be sent while there is no data; 0: any number",
    ),
    "grpc-http2-min-recv-ping-interval-without-data": (
        "grpc.http2.min_ping_interval_without_data_ms",
        300_000,
        "milliseconds between a client's pings while there is no data; earlier ones are bad",
    ),
    "grpc-http2-max-ping-strikes": ("grpc.http2.max_ping_strikes", 2, "bad pings that are tolerated; 0: any number"),
    "grpc-max-connection-age": ("grpc.max_connection_age_ms", None, "milliseconds that a connection may live"),
    "grpc-max-connection-age-grace": (
        "grpc.max_connection_age_grace_ms",
        None,
        "milliseconds for its calls to finish after that",
    ),
}


class OptionError(Exception):
    """The command line cannot be used; the message is one line for the person who wrote it."""


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
        log_options: for `logs.set_up`.
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
    log_options: Mapping[str, str]

    @property
    def address(self) -> str:
        """Host and port in gRPC's form."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise OptionError(message + self._near(message))

    def _near(self, message: str) -> str:
        """Name the options that an unknown one was probably meant to be."""
        _, unknown, arguments = message.partition("unrecognized arguments: ")
        name = arguments.split("=")[0].split(" ")[0]
        near = difflib.get_close_matches(name, self._option_string_actions, n=3) if unknown else []
        return f". Did you mean {' or '.join(near)}?" if near else ""


def _bool(text: str) -> bool:
    lowered = text.lower()
    if lowered in ("true", "on", "1"):
        return True
    if lowered in ("false", "off", "0"):
        return False
    raise argparse.ArgumentTypeError(f"invalid value for bool option: {text}")


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, got: {text}")
    return int(text)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 2**31 - 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 2147483647, got: {text}")
    return int(text)


def _verbose(text: str) -> int:
    return _count(text) if text.isdigit() else int(_bool(text))


def parser(run_dir: Path) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = _Parser(
        prog="tensorhub-grpc",
        description="Answers gRPC clients for the server in a run directory.",
        allow_abbrev=False,
    )
    add = options.add_argument
    add("--grpc-address", default="0.0.0.0", metavar="ADDRESS", help="address to listen on (%(default)s)")
    add("--grpc-port", default=8001, type=_port, metavar="PORT", help="port to listen on (%(default)s)")
    add(
        "--reuse-grpc-port",
        default=False,
        type=_bool,
        metavar="BOOL",
        help="let several processes listen on the port; all of them must say so (false)",
    )
    add("--grpc-use-ssl", default=False, type=_bool, metavar="BOOL", help="use TLS (false)")
    add(
        "--grpc-use-ssl-mutual",
        default=False,
        type=_bool,
        metavar="BOOL",
        help="use TLS, and ask clients for a certificate (false)",
    )
    add("--grpc-server-cert", default="", metavar="FILE", help="PEM file with the server's certificate")
    add("--grpc-server-key", default="", metavar="FILE", help="PEM file with its key")
    add("--grpc-root-cert", default="", metavar="FILE", help="PEM file with the certificate that vouches for clients")
    add(
        "--grpc-infer-response-compression-level",
        default="none",
        choices=COMPRESSION_LEVELS,
        help="compression of inference responses (%(default)s)",
    )
    add(
        "--grpc-keepalive-permit-without-calls",
        default=False,
        type=_bool,
        metavar="BOOL",
        help="send keepalive pings also while there is no call (false)",
    )
    for name, (_, default, text) in _CHANNEL_OPTIONS.items():
        shown = "not set" if default is None else str(default)
        add(f"--{name}", default=default, type=_count, metavar="N", help=f"{text} ({shown})")
    add("--run-dir", default=run_dir, type=Path, metavar="DIR", help="run directory of the server (%(default)s)")
    add(
        "--grpc-engine",
        default="auto",
        choices=ENGINES,
        help="what drives gRPC: the fast reactor, plain threads, or the reactor if it works here (%(default)s)",
    )
    add(
        "--exit-timeout-secs",
        default=30,
        type=_count,
        metavar="N",
        help="seconds that calls in progress have to finish at the end (%(default)s)",
    )
    add("--log-verbose", default=0, type=_verbose, metavar="N", help="0: off (%(default)s)")
    add("--log-info", default=True, type=_bool, metavar="BOOL", help="log what happens (true)")
    add("--log-warning", default=True, type=_bool, metavar="BOOL", help="log what may be wrong (true)")
    add("--log-error", default=True, type=_bool, metavar="BOOL", help="log what is wrong (true)")
    return options


def parse(arguments: Sequence[str] | None, environ: Mapping[str, str], uid: int) -> GrpcOptions:
    """Read the command line; None: the process's own.

    Raises:
        OptionError: an option is unknown, has a wrong value, or lacks another one.
        SystemExit: --help.
    """
    found = parser(default_run_dir(environ, uid)).parse_args(arguments)
    values = vars(found)
    channel_options = [
        ("grpc.so_reuseport", int(found.reuse_grpc_port)),
        ("grpc.keepalive_permit_without_calls", int(found.grpc_keepalive_permit_without_calls)),
    ]
    for name, (core_name, _, _) in _CHANNEL_OPTIONS.items():
        value = values[name.replace("-", "_")]
        if value is not None:
            channel_options.append((core_name, value))
    return GrpcOptions(
        host=found.grpc_address.strip("[]"),
        port=found.grpc_port,
        reuse_port=found.reuse_grpc_port,
        channel_options=tuple(channel_options),
        compression_level=COMPRESSION_LEVELS[found.grpc_infer_response_compression_level],
        tls=_tls(found),
        run_dir=found.run_dir,
        engine=found.grpc_engine,
        exit_timeout_s=float(found.exit_timeout_secs),
        log_options=_log_options(found),
    )


def _tls(found: argparse.Namespace) -> TlsFiles | None:
    if not (found.grpc_use_ssl or found.grpc_use_ssl_mutual):
        return None
    if not found.grpc_server_cert or not found.grpc_server_key:
        raise OptionError("TLS needs --grpc-server-cert and --grpc-server-key")
    if found.grpc_use_ssl_mutual and not found.grpc_root_cert:
        raise OptionError("--grpc-use-ssl-mutual needs --grpc-root-cert")
    return TlsFiles(
        Path(found.grpc_server_cert),
        Path(found.grpc_server_key),
        Path(found.grpc_root_cert) if found.grpc_root_cert else None,
        found.grpc_use_ssl_mutual,
    )


def _log_options(found: argparse.Namespace) -> Mapping[str, str]:
    return {
        "log-verbose": str(found.log_verbose),
        "log-info": str(bool(found.log_info)).lower(),
        "log-warning": str(bool(found.log_warning)).lower(),
        "log-error": str(bool(found.log_error)).lower(),
    }
