"""Options of the bench's command line, and how Triton and tensorhub are started."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.bench.baselines import BASELINES

MODELS = Path(__file__).resolve().parent / "models"
GPU_MODELS = MODELS.parent / "gpu_models"
TRITON = Path(__file__).resolve().parents[1] / "peers" / "triton.sh"
PORT_COUNT = 90

_PORT_OPTIONS = ("--http-port={http_port}", "--grpc-port={grpc_port}", "--metrics-port={metrics_port}")
TRITON_COMMAND = ("bash", str(TRITON), "--model-repository={repository}", *_PORT_OPTIONS, "--log-info=false")
TENSORHUB_COMMAND = (
    *(sys.executable, "-m", "tensorhub", "serve", "--model-repository={repository}"),
    *_PORT_OPTIONS,
    *("--run-dir={run_dir}", "--log-info=false"),
)

_EPILOG = """\
Placeholders in commands: {repository} {http_port} {grpc_port} {metrics_port} {run_dir}

Examples:
  python -m tools.bench                                  everything, against a real Triton (installed at the first time)
  python -m tools.bench --workloads 'grpc_*,shm_16m'     some of it
  python -m tools.bench --baseline mlserver --baseline grpc_server
                                                         other servers as well, each beside tensorhub
  python -m tools.bench --peer-name before --peer-cmd 'OLD/.venv/bin/python -m tensorhub serve
      --model-repository={repository} --http-port={http_port} --grpc-port={grpc_port}
      --metrics-port={metrics_port} --run-dir={run_dir}'

Every ratio says how many times better tensorhub is. Answers are checked before anything is measured: a wrong one of
tensorhub ends the bench, and a row in which the peer fails twice is left out. Most rows need wrk and h2load (Debian:
apt install wrk nghttp2-client), some need more cores, or a GPU and CuPy; what is left out is told, with the reason.
DIR/history.jsonl keeps every finished run, and a row that falls behind the runs before it is marked LOSS. Servers,
shared memory and temporary files are gone when the bench is, however it ends.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m tools.bench",
        description="Compare tensorhub with a peer server: same models, same machine, in turn (A B A B ...).",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("--list", action="store_true", help="list the workloads with their goals and stop")
    add("--workloads", default="", metavar="A,B", help="only these; NAME* means all that begin so (default: all)")
    add("--alternations", type=_at_least_one, default=5, metavar="N", help="pairs of runs (default: 5)")
    add("--seconds", type=_positive, default=3.0, metavar="S", help="length of a run (default: 3)")
    add("--idle-seconds", type=_positive, default=5.0, metavar="S", help="length of idle_cpu (default: 5)")
    add("--server-cmd", metavar="CMD", help="how to start tensorhub (default: this Python's `-m tensorhub serve`)")
    add("--peer-cmd", metavar="CMD", help="the server to compare with (default: Triton, by tools/peers/triton.sh)")
    add("--peer-name", metavar="NAME", help="what the report calls it (default: triton; with --peer-cmd: peer)")
    add(
        "--baseline",
        action="append",
        default=[],
        choices=sorted(BASELINES),
        help="measure beside this as well (installed at the first time); may be given several times: "
        + "; ".join(f"{name}: {baseline.title}" for name, baseline in sorted(BASELINES.items())),
    )
    add("--no-peer", action="store_true", help="only the baselines, and what tensorhub is measured in by itself")
    add("--repository", type=Path, default=MODELS, metavar="DIR", help="models (default: tools/bench/models)")
    add(
        "--first-port",
        type=int,
        default=21100,
        metavar="PORT",
        help=f"take ports from these {PORT_COUNT} (default: 21100)",
    )
    add(
        "--output",
        type=Path,
        default=Path("bench-results"),
        metavar="DIR",
        help="history, logs (default: bench-results)",
    )
    add("--json", type=Path, metavar="FILE", help="write the results as JSON, too")
    add("--markdown", type=Path, metavar="FILE", help="write the table as Markdown, too")
    add("--plot", action="store_true", help="draw ratios and history into DIR/ratios.png (needs matplotlib)")
    return made


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text}")
    return value
