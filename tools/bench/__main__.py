"""Command line of the bench: reads options, has everything measured, prints and keeps the results."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from tools.bench import keeping, leftovers, plot, report, requirements
from tools.bench.alternation import Plan, compare, estimate_s
from tools.bench.baselines import BASELINES, install
from tools.bench.errors import BenchError
from tools.bench.options import GPU_MODELS, PORT_COUNT, TENSORHUB_COMMAND, TRITON, TRITON_COMMAND, parser
from tools.bench.servers import FreePorts, Launch, split_command
from tools.bench.table import WORKLOADS, select
from tools.bench.workloads import Against, Goal, Workload

Parts = dict[str, list[report.Row]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench and return the exit status: 0 if all was measured, 1 for a failure, 130 when interrupted."""
    options = parser().parse_args(arguments)
    if options.list:
        _list_workloads()
        return 0
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    for line in leftovers.remove():
        _tell(line)
    parts: Parts = {}
    lost: dict[str, list[str]] = {}
    status, end = 0, ""
    try:
        plan = _plan(options)
        _measure(plan, parts)
        for name in options.baseline:
            _measure_baseline(plan, name, options, parts)
        lost = keeping.keep(parts, keeping.facts(plan, options), options)
    except BenchError as exc:
        status, end = 1, f"bench: {exc}"
    except KeyboardInterrupt:
        status, end = 130, "bench: interrupted; the servers are stopped"
    leftovers.remove_own()
    print(keeping.text(parts, lost), end="")
    if end:
        _tell(end)
    return status


def _measure(plan: Plan, parts: Parts) -> None:
    """Measure all of a plan; the rows are in `parts` as soon as they are known."""
    rows = parts.setdefault(plan.peer.name if plan.peer else "nothing", [])
    count = len([workload for workload in plan.workloads if plan.peer or workload.against is not Against.PEER])
    if count:
        _tell(f"rows: {count}, minutes: about {max(1, round(estimate_s(plan) / 60))}")
    for comparison in compare(plan):
        rows.append(report.row(comparison))
        _tell(f"  {report.sentence(rows[-1], plan.peer.name if plan.peer else 'nothing')}")


def _measure_baseline(plan: Plan, name: str, options: argparse.Namespace, parts: Parts) -> None:
    """Measure beside a baseline. One that does not work is told of, and does not end the bench."""
    baseline = BASELINES[name]
    # Goals are for the peer.
    shared = [replace(each, goal=Goal()) for each in plan.workloads if each.name in baseline.workloads]
    if not shared:
        _tell(f"{name}: left out, it can do none of the chosen workloads")
        return
    _tell(f"{name}: {baseline.title}")
    log = options.output.resolve() / "logs" / f"{name}.log"
    log.unlink(missing_ok=True)
    launch = Launch(name, baseline.command, baseline.models or plan.tensorhub.repository, log)
    try:
        install(baseline)
        _measure(replace(plan, workloads=shared, peer=launch), parts)
    except BenchError as exc:
        _tell(f"{name}: left out: {exc}")


def _plan(options: argparse.Namespace) -> Plan:
    chosen = _possible(select([name.strip() for name in options.workloads.split(",") if name.strip()]))
    if not options.repository.is_dir():
        raise BenchError(f"no folder {options.repository}")
    if options.plot and not plot.installed():
        raise BenchError("--plot needs matplotlib: pip install -e '.[bench]'")
    for path in filter(None, (options.json, options.markdown)):
        if not path.absolute().parent.is_dir():
            raise BenchError(f"there is no folder for {path}")
    logs = options.output.resolve() / "logs"
    peer = None
    if not options.no_peer:
        peer_name = options.peer_name or ("triton" if options.peer_cmd is None else "peer")
        peer = _launch(peer_name, options.peer_cmd, TRITON_COMMAND, logs / "peer.log", options)
        # Now, and not at the peer's first start, whose time is measured.
        if options.peer_cmd is None and subprocess.run(["bash", str(TRITON), "install"], check=False).returncode != 0:
            raise BenchError("Triton could not be installed; its messages are above")
    return Plan(
        workloads=chosen,
        tensorhub=_launch("tensorhub", options.server_cmd, TENSORHUB_COMMAND, logs / "tensorhub.log", options),
        peer=peer,
        gpu_repository=GPU_MODELS,
        ports=FreePorts(options.first_port, PORT_COUNT),
        alternations=options.alternations,
        seconds=options.seconds,
        idle_s=options.idle_seconds,
        tell=_tell,
    )


def _launch(name: str, text: str | None, default: Sequence[str], log: Path, options: argparse.Namespace) -> Launch:
    log.unlink(missing_ok=True)
    return Launch(name, split_command(text) if text is not None else default, options.repository.resolve(), log)


def _possible(chosen: Sequence[Workload]) -> list[Workload]:
    """Return the workloads that can be measured here; say what is left out, and why."""
    kept = []
    for workload in chosen:
        reason = requirements.missing(workload)
        if reason:
            _tell(f"{workload.name}: left out, {reason}")
        else:
            kept.append(workload)
    if not kept:
        raise BenchError("nothing is left to measure")
    return kept


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


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


if __name__ == "__main__":
    sys.exit(main())
