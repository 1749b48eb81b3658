"""Other ways to serve a function, to measure beside Triton with `--baseline`.

A baseline serves the same functions under the same names, and only what it has is measured: no shared memory, no
batches, no streams. One that cannot be installed or started is told in a line and left out.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.bench.errors import BenchError

HERE = Path(__file__).resolve().parent
MLSERVER = HERE.parents[1] / "peers" / "mlserver.sh"


@dataclass(frozen=True, slots=True)
class Baseline:
    """A server to compare with.

    Attributes:
        install: the command that installs it, if need be; empty if there is nothing to install.
        command: how to start it; see `servers.Launch`.
        models: its repository; None: it needs none.
        workloads: names of what it can be measured with.
    """

    name: str
    title: str
    install: Sequence[str]
    command: Sequence[str]
    models: Path | None
    workloads: frozenset[str]


BASELINES = {
    baseline.name: baseline
    for baseline in (
        Baseline(
            "mlserver",
            "MLServer 1.7 with one worker process, as it comes",
            ["bash", str(MLSERVER), "install"],
            ["bash", str(MLSERVER), "{repository}", "{run_dir}", "{http_port}", "{grpc_port}", "{metrics_port}"],
            HERE / "mlserver_models",
            frozenset({"startup", "memory", "idle_cpu", "http_json_8", "http_json_1", "grpc_8", "grpc_1"})
            | {"grpc_inline_1m", "grpc_inline_16m"},
        ),
        Baseline(
            "grpc_server",
            "a plain grpc.server whose handlers call the function themselves: no second process, no scheduler",
            [],
            [sys.executable, "-m", "tools.bench.baselines.grpc_server", "{http_port}", "{grpc_port}"],
            None,
            frozenset({"grpc_8", "grpc_1", "grpc_inline_1m", "grpc_inline_16m", "grpc_bytes_100k"}),
        ),
    )
}


def install(baseline: Baseline) -> None:
    """Install it if it is not there yet; its messages go to standard error.

    Raises:
        BenchError: it could not be installed; what it said last is in the text.
    """
    if not baseline.install:
        return
    done = subprocess.run(baseline.install, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        last = (done.stdout.strip().splitlines() or ["no message"])[-1]
        raise BenchError(f"it could not be installed: {last}")
