"""The order of things: which server is measured when. A B A B ..., each pair close together in time.

Processes are measured first, each server alone; then both servers are started once, for all load workloads, and only
one of them is loaded at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tools.bench import footprint
from tools.bench.measurements import Comparison, Sample
from tools.bench.servers import FreePorts, Launch, Server
from tools.bench.workloads import Driver, Workload

WARM_UP_S = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured, with what.

    Attributes:
        seconds: length of a run.
        idle_s: length of the time without requests in which idle CPU is counted.
        tell: takes one line of progress.
    """

    workloads: Sequence[Workload]
    tensorhub: Launch
    peer: Launch
    repository: Path
    ports: FreePorts
    alternations: int
    seconds: float
    idle_s: float
    tell: Callable[[str], None]


def compare(plan: Plan) -> Iterator[Comparison]:
    """Measure, and yield each workload when all its alternations are done. No server is left running, whatever happens.

    Raises:
        BenchError: a server does not start or gives a wrong answer.
    """
    processes = [workload for workload in plan.workloads if workload.driver is Driver.FOOTPRINT]
    loads = [workload for workload in plan.workloads if workload.driver is not Driver.FOOTPRINT]
    if processes:
        yield from _compare_footprints(plan, processes)
    if loads:
        yield from _compare_loads(plan, loads)


def _compare_footprints(plan: Plan, workloads: Sequence[Workload]) -> Iterator[Comparison]:
    idle_s = plan.idle_s if any(workload.name == "idle_cpu" for workload in workloads) else 0.0
    pairs: list[tuple[dict[str, Sample], dict[str, Sample]]] = []
    with tempfile.TemporaryDirectory(prefix="tensorhub-bench-") as folder:
        repository = footprint.one_model_repository(plan.repository, Path(folder))
        for turn in range(plan.alternations):
            plan.tell(f"processes: pair {turn + 1} of {plan.alternations}")
            mine = footprint.measure(plan.tensorhub, repository, plan.ports.take(), idle_s)
            theirs = footprint.measure(plan.peer, repository, plan.ports.take(), idle_s)
            pairs.append((mine, theirs))
    for workload in workloads:
        name = workload.name
        yield Comparison(workload, [mine[name] for mine, _ in pairs], [theirs[name] for _, theirs in pairs])


def _compare_loads(plan: Plan, workloads: Sequence[Workload]) -> Iterator[Comparison]:
    # Not before the footprints are taken: this loads NumPy and gRPC into this process, and a page that a server shares
    # with it would count as half a page.
    from tools.bench import load

    with ExitStack() as stack:
        mine = stack.enter_context(Server(plan.tensorhub, plan.repository, plan.ports.take()))
        theirs = stack.enter_context(Server(plan.peer, plan.repository, plan.ports.take()))
        for workload in workloads:
            plan.tell(f"{workload.name}: {workload.title}")
            with load.target(workload, mine) as a, load.target(workload, theirs) as b:
                for target in (a, b):
                    target.drive(min(WARM_UP_S, plan.seconds))
                pairs = []
                for _ in range(plan.alternations):
                    copy_s = load.copy_seconds(a.byte_size) if load.compares_with_copy(workload) else None
                    pairs.append((a.measure(plan.seconds, copy_s), b.measure(plan.seconds, copy_s)))
            yield Comparison(workload, [x for x, _ in pairs], [y for _, y in pairs])
