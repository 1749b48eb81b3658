"""The daemons of a server, each started by itself as a service manager does, without a supervisor."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.serving import EXAMPLE_MODELS, PROJECT, free_ports
from tests.waiting import DEADLINE_S

ADD_SUB = {
    "inputs": [
        {"name": "INPUT0", "datatype": "INT32", "shape": [1, 16], "data": list(range(16))},
        {"name": "INPUT1", "datatype": "INT32", "shape": [1, 16], "data": [7] * 16},
    ]
}


def ask(
    port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """Send one HTTP request on a connection of its own. Returns status and body; a refused connection is status 0."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    try:
        connection.request(method, path, body=sent, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as exc:
        return 0, str(exc).encode()
    finally:
        connection.close()


def adds(port: int) -> bool:
    """Whether add_sub answers, and rightly."""
    status, body = ask(port, "POST", "/v2/models/add_sub/infer", ADD_SUB)
    if status != 200:
        return False
    outputs = {output["name"]: output["data"] for output in json.loads(body)["outputs"]}
    assert outputs == {"OUTPUT0": [item + 7 for item in range(16)], "OUTPUT1": [item - 7 for item in range(16)]}
    return True


def run_to_end(*command: str, **environ: str) -> tuple[int, str]:
    """Run a program that is expected to end by itself. Returns its status and all that it said."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=PROJECT,
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


Process = subprocess.Popen[bytes]


@dataclass(slots=True)
class Daemons:
    """The daemons of one run directory; each method starts one and returns at once."""

    run_dir: Path
    work: Path
    started: list[Process] = field(default_factory=list)
    http_port: int = 0
    grpc_port: int = 0

    def __str__(self) -> str:
        """All that they have said: the account of a failure."""
        return f"\n{self.log('*')}"

    def hub(self, *options: str, repository: Path = EXAMPLE_MODELS) -> Process:
        """Start the hub; without metrics, whose port is one for the whole host, unless the options say otherwise."""
        command = ["tensorhub.hub.main", f"--model-repository={repository}", "--allow-metrics=false"]
        return self._start("hub", [*command, *self._here(), *options])

    def worker(self, name: str = "cpu0", *options: str) -> Process:
        return self._start("worker", ["tensorhub.workers.main", "--name", name, *self._here(), *options])

    def grpc(self, port: int = 0) -> Process:
        """Start the gRPC daemon, on a free port if none is given."""
        self.grpc_port = port or free_ports(1)[0]
        return self._start("grpc", ["tensorhub.grpc.main", f"--grpc-port={self.grpc_port}", *self._here()])

    def http(self, *, config: bool = True, **environ: str) -> Process:
        """Start Gunicorn, bare or with the configuration that comes with the project."""
        [self.http_port] = free_ports(1)
        how = ["-c", "etc/tensorhub/gunicorn.conf.py"]
        if not config:
            how = ["--bind", f"127.0.0.1:{self.http_port}", "--no-control-socket"]
        surroundings = {
            "TENSORHUB_RUN_DIR": str(self.run_dir),
            "TENSORHUB_HTTP_PORT": str(self.http_port),
            "TENSORHUB_EXIT_TIMEOUT": "5",
            **environ,
        }
        return self._start("http", ["gunicorn", *how, "tensorhub.http:app"], surroundings)

    def log(self, kind: str) -> str:
        return "\n".join(path.read_text("utf-8", "replace") for path in sorted(self.work.glob(f"{kind}-*.log")))

    def _here(self) -> list[str]:
        return [f"--run-dir={self.run_dir}"]

    def _start(self, kind: str, command: Sequence[str], environ: dict[str, str] | None = None) -> Process:
        with (self.work / f"{kind}-{len(self.started)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=PROJECT,
                env={**os.environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.started.append(process)
        return process


def end(process: Process) -> int:
    """Stop a daemon the ordinary way. Returns its exit status."""
    process.send_signal(signal.SIGTERM)
    return process.wait(DEADLINE_S)


def kill(process: Process) -> None:
    process.kill()
    process.wait()


@contextmanager
def daemons(work: Path) -> Iterator[Daemons]:
    """A run directory for daemons; those that still run at the end of the block are killed."""
    run_dir = Path(f"/tmp/tensorhub-test-{os.getpid()}-{free_ports(1)[0]}")
    found = Daemons(run_dir, work)
    try:
        yield found
    finally:
        for process in found.started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + DEADLINE_S
        for process in found.started:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                kill(process)
        shutil.rmtree(run_dir, ignore_errors=True)
