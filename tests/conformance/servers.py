"""Start the servers that cases run against, a real Triton or tensorhub, with the same options.

Each configuration works on a private copy of its model repository, so that cases may change it and no bytecode is
left in the tree.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.serving import await_grpc, free_ports

from . import http_wire
from .runner import Target
from .steps import Http

HERE = Path(__file__).parent
PROJECT = HERE.parent.parent
_START_DEADLINE_S = 120.0
_STOP_DEADLINE_S = 60.0
_READY = http_wire.request_bytes(Http("GET", "/v2/health/ready"))
_LIVE = http_wire.request_bytes(Http("GET", "/v2/health/live"))


@dataclass(frozen=True, slots=True)
class Configuration:
    """A model repository (a folder of `models/`), perhaps a second one, and the options that both servers get.

    `port_option` is the option of the port that the requests go to, if it is not --http-port's. With `metrics` the
    cases can know what waits in queues.
    `{repository}` in an option stands for the private copy.
    """

    repository: str
    options: tuple[str, ...] = ()
    second_repository: str = ""
    port_option: str = ""
    metrics: bool = False
    environ: tuple[tuple[str, str], ...] = ()


CONFIGURATIONS = {
    "core": Configuration("core"),
    "broken": Configuration("broken", ("--exit-on-error=false", "--strict-readiness=false")),
    "graph": Configuration("graph"),
    "composed": Configuration("composed"),
    "brought": Configuration(
        "composed", ("--model-control-mode=explicit", "--load-model=classy_own_deep", "--load-model=again")
    ),
    "observed": Configuration(
        "observed",
        (
            "--model-control-mode=explicit",
            "--load-model=*",
            "--trace-config=mode=triton",
            "--trace-config=triton,file={repository}/trace.json",
        ),
    ),
    "graph_broken": Configuration("graph_broken", ("--exit-on-error=false", "--strict-readiness=false")),
    "cached": Configuration(
        "cached",
        (
            "--model-control-mode=explicit",
            *(f"--load-model={name}" for name in ("cached", "uncached", "batched", "cached_graph", "graph_of_cached")),
            "--cache-config=local,size=16384",
        ),
    ),
    "control": Configuration("control", ("--model-control-mode=explicit", "--load-model=resident")),
    "edges": Configuration(
        "edges",
        (
            "--http-header-forward-pattern=x-.*|^(sequence_id|sequence_start|timeouts?|priority|headers|triton_x)$"
            "|^binary_data_output$",
        ),
    ),
    "guarded": Configuration(
        "edges",
        (
            "--http-restricted-api=inference:Infer-Key=infer value",
            "--http-restricted-api=metadata,shared-memory,model-config,model-repository,statistics,trace,logging:"
            "admin-key=admin=value",
        ),
    ),
    "python": Configuration("python"),
    "poll": Configuration(
        "control",
        (
            "--model-control-mode=poll",
            "--repository-poll-secs=1",
            "--model-load-retry-count=1",
            "--model-config-name=special",
        ),
    ),
    "duplicates": Configuration(
        "twins_a", ("--model-control-mode=explicit", "--load-model=*", "--exit-on-error=false"), "twins_b"
    ),
    "namespaces": Configuration(
        "twins_a",
        ("--model-control-mode=explicit", "--load-model=*", "--model-namespacing=true", "--exit-on-error=false"),
        "twins_b",
    ),
    "forwarding": Configuration(
        "edges",
        (
            "--grpc-header-forward-pattern=x-.*|^(sequence_id|sequence_start|timeouts?|priority|headers|triton_x)$"
            "|^binary_data_output$",
        ),
    ),
    "locked": Configuration(
        "edges",
        (
            "--grpc-restricted-protocol=inference:infer-key=infer value",
            "--grpc-restricted-protocol=health,metadata,shared-memory,model-config,model-repository,statistics,trace,"
            "logging:admin-key=admin=value",
        ),
    ),
    "sagemaker": Configuration(
        "edges",
        ("--allow-sagemaker=true", "--model-control-mode=explicit", "--load-model=*"),
        port_option="--sagemaker-port",
        environ=(("SAGEMAKER_TRITON_DEFAULT_MODEL_NAME", "echo"),),
    ),
    "vertex_ai": Configuration(
        "edges",
        ("--allow-vertex-ai=true", "--vertex-ai-default-model=echo"),
        port_option="--vertex-ai-port",
        environ=(("AIP_PREDICT_ROUTE", "/predict"), ("AIP_HEALTH_ROUTE", "/health")),
    ),
    "scheduling": Configuration("scheduling", metrics=True),
    "limited": Configuration(
        "limited",
        (
            "--model-control-mode=explicit",
            *(
                f"--load-model={name}"
                for name in ("meets", "meets_too", "meets_not", "free", "global_one", "global_two", "gathers")
            ),
            "--rate-limit=execution_count",
            *(f"--rate-limit-resource={limit}" for limit in ("R:1", "OTHER:1:0", "G:4")),
        ),
        metrics=True,
    ),
    "warmup": Configuration("warmup", ("--model-control-mode=explicit",)),
    "strict": Configuration("broken", ("--exit-on-error=false", "--disable-auto-complete-config", "--id=another-name")),
}


@dataclass(frozen=True, slots=True)
class Product:
    """How a server is started; `run_dir` names the folder for its sockets, if it takes one."""

    name: str
    command: tuple[str, ...]
    takes_run_dir: bool


def triton() -> Product:
    """A real Triton, by the script that TENSORHUB_TRITON names (default: the project's)."""
    return Product(
        "Triton",
        ("bash", os.environ.get("TENSORHUB_TRITON", str(PROJECT / "tools" / "peers" / "triton.sh"))),
        takes_run_dir=False,
    )


def tensorhub() -> Product:
    """This checkout's server."""
    return Product("tensorhub", (sys.executable, "-m", "tensorhub", "serve"), takes_run_dir=True)


class StartError(Exception):
    """A server ended, or was not ready in time; the text holds the end of its output."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was started: where it is reached, and its process."""

    target: Target
    process: subprocess.Popen[bytes]
    log: Path

    def ended(self) -> bool:
        """Whether its process is gone."""
        return self.process.poll() is not None

    def ended_within(self, seconds: float) -> bool:
        """Wait so long for its process to end; whether it did."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def last_words(self) -> str:
        """Return the end of its log."""
        return _tail(self.log)


@contextmanager
def running(product: Product, configuration: Configuration, work: Path) -> Iterator[Server]:
    """Start a server in the empty folder `work`, yield it when ready, and stop it with everything that it started.

    Ready is a 200 of `/v2/health/ready`; a configuration with `--exit-on-error=false` and strict readiness is taken
    as ready when it answers.

    Raises:
        StartError: it ended or was not ready within two minutes.
    """
    repository = work / "models"
    shutil.copytree(HERE / "models" / configuration.repository, repository)
    http_port, grpc_port, other_port = free_ports(3)
    command = [
        *product.command,
        f"--model-repository={repository}",
        "--http-address=127.0.0.1",
        f"--http-port={http_port}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={grpc_port}",
        *([f"--metrics-port={other_port}"] if configuration.metrics else ["--allow-metrics=false"]),
        *(option.replace("{repository}", str(repository)) for option in configuration.options),
    ]
    if configuration.second_repository:
        second = work / "models-2"
        shutil.copytree(HERE / "models" / configuration.second_repository, second)
        command.append(f"--model-repository={second}")
    if configuration.port_option:
        command.append(f"{configuration.port_option}={other_port}")
    if product.takes_run_dir:
        run_dir = work / "run"
        run_dir.mkdir(mode=0o700)
        command.append(f"--run-dir={run_dir}")
    log = work / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=PROJECT,
            start_new_session=True,
            env={**os.environ, **dict(configuration.environ)},
        )
    try:
        target = Target(http_port, grpc_port, repository, other_port if configuration.metrics else 0)
        strict = "--exit-on-error=false" not in configuration.options
        _await_ready(process, target, strict, log, product.name)
        if configuration.port_option:
            target = Target(other_port, grpc_port, repository)
            _await_port(target)
        await_grpc(grpc_port)
        yield Server(target, process, log)
    finally:
        _stop(process)


def _await_ready(process: subprocess.Popen[bytes], target: Target, strict: bool, log: Path, name: str) -> None:
    deadline = time.monotonic() + _START_DEADLINE_S
    while time.monotonic() < deadline:
        try:
            answers = http_wire.exchange((target.host, target.http_port), _READY if strict else _LIVE, method="GET")
        except OSError:
            answers = []
        if answers and answers[0].status == 200:
            return
        try:
            code = process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        raise StartError(f"{name} ended with {code}:\n{_tail(log)}")
    raise StartError(f"{name} was not ready after {_START_DEADLINE_S:.0f} s:\n{_tail(log)}")


def _await_port(target: Target) -> None:
    """Wait until another port of a server that is ready answers, whatever it answers."""
    deadline = time.monotonic() + _START_DEADLINE_S
    while time.monotonic() < deadline:
        with suppress(OSError):
            answers = http_wire.exchange((target.host, target.http_port), _LIVE, method="GET")
            if answers and answers[0].status != 503:  # its process knows the hub
                return
        time.sleep(0.05)
    raise StartError(f"nothing answers on port {target.http_port}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-25:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and, whatever became of it, the processes of its session."""
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_DEADLINE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
