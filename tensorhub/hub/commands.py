"""The processes of a server, as command lines. Pure: settings in, values out."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tensorhub import logs
from tensorhub.hub.libraries import large_copies, library_threads
from tensorhub.hub.placement import CPU, worker_names
from tensorhub.hub.ports import hosted_address, hosted_endpoints
from tensorhub.ipc.gpus import VISIBLE_VARIABLE
from tensorhub.ipc.wire import Role
from tensorhub.settings import Settings

_NO_TLS: Mapping[str, str] = {"TENSORHUB_HTTP_CERT": "", "TENSORHUB_HTTP_KEY": "", "TENSORHUB_HTTP_CLIENT_CA": ""}
"""Said in so many words, since children have our environment too."""


@dataclass(frozen=True, slots=True)
class Command:
    """One process to run.

    Attributes:
        environ: added to the supervisor's own.
        own: a worker of one model, which is needed as long as the hub says so.
    """

    name: str
    role: Role
    argv: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict)
    own: bool = False

    @property
    def vital(self) -> bool:
        """Without it there is no server: when it cannot be kept alive, the server ends."""
        return self.role is not Role.WORKER


def commands(settings: Settings, gpus: Sequence[str] = ()) -> list[Command]:
    """Return what a server consists of, in the order to start it.

    Args:
        gpus: UUIDs of the GPUs that are to have workers. Each of these sees its own GPU and no other.
    """
    argv = settings.to_argv()
    python = sys.executable
    found = [Command("hub", Role.HUB, (python, "-m", "tensorhub.hub.main", *argv))]
    threads = _threads(settings)
    for name, gpu in worker_names(settings.processes.workers, len(gpus), settings.processes.gpu_workers).items():
        own = () if gpu == CPU else ("--gpu", gpus[gpu])
        environ = {} if gpu == CPU else {VISIBLE_VARIABLE: gpus[gpu]}
        command = (python, "-m", "tensorhub.workers.main", "--name", name, *own, *argv)
        found.append(Command(name, Role.WORKER, command, threads | environ))
    if settings.http.allow_http:
        found.append(_http(settings))
    found += [_hosted(settings, word.replace("-", "_"), port) for _, word, port in hosted_endpoints(settings)]
    if settings.grpc.allow_grpc:
        count = max(1, settings.processes.grpc_workers)
        options = [*argv, "--reuse-grpc-port=true"] if count > 1 and not settings.grpc.reuse_grpc_port else argv
        found += [
            Command(f"grpc{index}", Role.GRPC, (python, "-m", "tensorhub.grpc.main", *options), _shared(settings))
            for index in range(count)
        ]
    return found


def own_worker_command(settings: Settings, name: str, environment: str) -> Command:
    """Return the command of a worker that one model has to itself.

    Args:
        environment: the folder or archive of its Python environment; "" for the server's.
    """
    module = "tensorhub.workers.launch" if environment else "tensorhub.workers.main"
    where = ("--environment", environment) if environment else ()
    argv = (sys.executable, "-m", module, "--name", name, *where, *settings.to_argv())
    return Command(name, Role.WORKER, argv, _threads(settings), own=True)


def _threads(settings: Settings) -> dict[str, str]:
    threads = library_threads(settings.processes.workers, len(os.sched_getaffinity(0)), os.environ)
    return threads | large_copies(os.environ)


def _http(settings: Settings) -> Command:
    http = settings.http
    return _gunicorn(
        settings,
        "http",
        "tensorhub.http:app",
        {
            "TENSORHUB_HTTP_ADDRESS": http.http_address.strip("[]"),
            "TENSORHUB_HTTP_PORT": str(http.http_port),
            "TENSORHUB_HTTP_WORKERS": str(max(1, settings.processes.http_workers)),
            "TENSORHUB_HTTP_REUSE_PORT": "true" if http.reuse_http_port else "false",
            **_tls(settings),
        },
    )


def _hosted(settings: Settings, name: str, port: int) -> Command:
    """An endpoint of a hosting service; it is not encrypted, as the service is the only client."""
    # One process for SageMaker: it alone knows which models were loaded over it.
    workers = 1 if name == "sagemaker" else max(1, settings.processes.http_workers)
    return _gunicorn(
        settings,
        name,
        f"tensorhub.http.{name}:create()",
        {
            "TENSORHUB_HTTP_ADDRESS": hosted_address(settings).strip("[]"),
            "TENSORHUB_HTTP_PORT": str(port),
            "TENSORHUB_HTTP_WORKERS": str(workers),
            "TENSORHUB_HTTP_REUSE_PORT": "false",
            **_NO_TLS,
        },
    )


def _gunicorn(settings: Settings, name: str, app: str, environ: Mapping[str, str]) -> Command:
    return Command(
        name,
        Role.HTTP,
        (sys.executable, "-m", "gunicorn", "-c", "python:tensorhub.http.gunicorn_conf", app),
        {
            **environ,
            "TENSORHUB_EXIT_TIMEOUT": str(max(1, settings.server.exit_timeout_secs)),
            "TENSORHUB_RUN_DIR": settings.server.run_dir,
            **_shared(settings),
        },
    )


def _tls(settings: Settings) -> Mapping[str, str]:
    tls = settings.http_tls
    if not (tls.http_use_ssl or tls.http_use_ssl_mutual):
        return _NO_TLS
    files = {"TENSORHUB_HTTP_CERT": tls.http_server_cert, "TENSORHUB_HTTP_KEY": tls.http_server_key}
    return {**files, "TENSORHUB_HTTP_CLIENT_CA": tls.http_root_cert if tls.http_use_ssl_mutual else ""}


def _shared(settings: Settings) -> dict[str, str]:
    """What both kinds of frontend take from the environment."""
    budget = str(settings.shared_memory.arena_byte_size)
    return {"TENSORHUB_ARENA_BYTE_SIZE": budget, **logs.to_environ(settings.as_strings())}
