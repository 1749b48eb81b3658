"""Command line of the bench: reads options, has everything measured, prints and keeps the results."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from tools.bench import h2load, history, machine, plot, report, wrk
from tools.bench.alternation import Plan, compare
from tools.bench.errors import BenchError
from tools.bench.servers import FreePorts, Launch, split_command
from tools.bench.table import WORKLOADS, select
from tools.bench.workloads import Driver, Workload

MODELS = Path(__file__).resolve().parent / "models"
TRITON = Path(__file__).resolve().parents[1] / "peers" / "triton.sh"
PORT_COUNT = 90

_PORT_OPTIONS = ("--http-port={http_port}", "--grpc-port={grpc_port}", "--metrics-port={metrics_port}")
TRITON_COMMAND = ("bash", str(TRITON), "--model-repository={repository}", *_PORT_OPTIONS, "--log-info=false")
TENSORHUB_COMMAND = (
    *(sys.executable, "-m", "tensorhub", "serve", "--model-repository={repository}"),
    *_PORT_OPTIONS,
    *("--run-dir={run_dir}", "--log-info=false"),
)
_GENERATORS = {Driver.WRK: wrk, Driver.H2LOAD: h2load}

_EPILOG = """\
Placeholders in commands: {repository} {http_port} {grpc_port} {metrics_port} {run_dir}

Examples:
  python -m tools.bench                                  everything, against a real Triton (installed at the first time)
  python -m tools.bench --workloads 'grpc_*,shm_16m'     some of it
  python -m tools.bench --peer-name before --peer-cmd 'OLD/.venv/bin/python -m tensorhub serve
      --model-repository={repository} --http-port={http_port} --grpc-port={grpc_port}
      --metrics-port={metrics_port} --run-dir={run_dir}'

Every ratio says how many times better tensorhub is. Answers are checked before anything is measured: a wrong one ends
the bench. Small requests need wrk and h2load (Debian: apt install wrk nghttp2-client); without them those workloads are
left out.
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
    add("--peer-cmd", metavar="CMD", help="the server to compare with (default: tools/peers/triton.sh)")
    add("--peer-name", metavar="NAME", help="what the report calls it (default: triton; with --peer-cmd: peer)")
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench and return the exit status: 0 if all was measured, 1 for a failure, 130 when interrupted."""
    options = parser().parse_args(arguments)
    if options.list:
        _list_workloads()
        return 0
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    rows: list[report.Row] = []
    status, end = 0, ""
    try:
        plan = _plan(options)
        for comparison in compare(plan):
            rows.append(report.row(comparison))
        _keep(rows, plan, options)
    except BenchError as exc:
        status, end = 1, f"bench: {exc}"
    except KeyboardInterrupt:
        status, end = 130, "bench: interrupted; the servers are stopped"
    if rows:
        print(report.markdown(rows, _peer_name(options)), end="")
    if end:
        print(end, file=sys.stderr)
    return status


def _plan(options: argparse.Namespace) -> Plan:
    chosen = _drivable(select([name.strip() for name in options.workloads.split(",") if name.strip()]))
    if not options.repository.is_dir():
        raise BenchError(f"no folder {options.repository}")
    if options.plot and not plot.installed():
        raise BenchError("--plot needs matplotlib: pip install -e '.[bench]'")
    # Now, and not at the peer's first start, whose time is measured.
    if options.peer_cmd is None and subprocess.run(["bash", str(TRITON), "install"], check=False).returncode != 0:
        raise BenchError("Triton could not be installed; its messages are above")
    logs = options.output.resolve() / "logs"
    return Plan(
        workloads=chosen,
        tensorhub=_launch("tensorhub", options.server_cmd, TENSORHUB_COMMAND, logs / "tensorhub.log"),
        peer=_launch(_peer_name(options), options.peer_cmd, TRITON_COMMAND, logs / "peer.log"),
        repository=options.repository.resolve(),
        ports=FreePorts(options.first_port, PORT_COUNT),
        alternations=options.alternations,
        seconds=options.seconds,
        idle_s=options.idle_seconds,
        tell=lambda line: print(line, file=sys.stderr, flush=True),
    )


def _launch(name: str, text: str | None, default: Sequence[str], log: Path) -> Launch:
    log.unlink(missing_ok=True)
    return Launch(name, split_command(text) if text is not None else default, log)


def _peer_name(options: argparse.Namespace) -> str:
    name: str = options.peer_name or ("triton" if options.peer_cmd is None else "peer")
    return name


def _drivable(chosen: Sequence[Workload]) -> list[Workload]:
    """Return the workloads whose load generator is installed; say what is left out, and why."""
    kept = []
    for workload in chosen:
        generator = _GENERATORS.get(workload.driver)
        if generator is None or generator.installed():
            kept.append(workload)
        else:
            program = workload.driver.value
            print(
                f"{workload.name}: left out, needs {program} (Debian: apt install {generator.PACKAGE})", file=sys.stderr
            )
    if not kept:
        raise BenchError("nothing is left to measure")
    return kept


def _keep(rows: Sequence[report.Row], plan: Plan, options: argparse.Namespace) -> None:
    """Write the history line and the files that were asked for; say which ratios fell."""
    facts = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "machine": machine.machine(),
        "peer": plan.peer.name,
        "server_cmd": options.server_cmd,
        "peer_cmd": options.peer_cmd,
        "alternations": plan.alternations,
        "seconds": plan.seconds,
    }
    line = history.entry(rows, facts)
    path = options.output / "history.jsonl"
    older = history.comparable(history.read(path), line)
    history.append(path, line)
    for loss in history.losses(older, line):
        print(loss, file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(line, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if options.markdown:
        text = (
            f"{facts['date']}, commit {facts['commit']}, {facts['machine']}\n\n{report.markdown(rows, plan.peer.name)}"
        )
        options.markdown.write_text(text, encoding="utf-8")
    if options.plot:
        plot.draw(options.output / "ratios.png", rows, [*older, line])


def _list_workloads() -> None:
    width = max(len(workload.name) for workload in WORKLOADS)
    for workload in WORKLOADS:
        goal = report.goal_text(workload.goal, workload.metric)
        print(f"{workload.name:{width}}  {workload.title} [{workload.metric.unit}; goal {goal}]")


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Turn the first signal into KeyboardInterrupt; further ones must not cut the stopping of the servers short."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stopping)
    raise KeyboardInterrupt


def _stopping(signum: int, frame: FrameType | None) -> None:
    """Say why nothing more happens. Not SIG_IGN: a signal that came together with the first one would be an error."""
    print("bench: the servers are being stopped", file=sys.stderr)


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


if __name__ == "__main__":
    sys.exit(main())
