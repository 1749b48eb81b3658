"""The order of things: which server is measured when. A B A B ..., each pair close together in time.

Processes are measured first, each server alone; then both servers are started once, for all load workloads, and only
one of them is loaded at a time. What tensorhub is not compared with the peer in comes last, with the peer stopped.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from tools.bench import footprint, leftovers
from tools.bench.errors import ServerError
from tools.bench.measurements import Comparison, Sample
from tools.bench.servers import FreePorts, Launch, Server
from tools.bench.workloads import Against, Driver, Transport, Workload

if TYPE_CHECKING:
    from tools.bench.load import Target

WARM_UP_S = 1.0
ONE_INSTANCE = "count: 1 "


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured, with what.

    Attributes:
        peer: None: only what tensorhub is measured in by itself.
        gpu_repository: models for the workloads with CUDA regions.
        seconds: length of a run.
        idle_s: length of the time without requests in which idle CPU is counted.
        tell: takes one line of progress.
    """

    workloads: Sequence[Workload]
    tensorhub: Launch
    peer: Launch | None
    gpu_repository: Path
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
    with_peer = [workload for workload in plan.workloads if plan.peer and workload.against is Against.PEER]
    processes = [workload for workload in with_peer if workload.driver is Driver.FOOTPRINT]
    loads = [workload for workload in with_peer if workload.driver is not Driver.FOOTPRINT]
    if plan.peer and processes:
        yield from _compare_footprints(plan, plan.peer, processes)
    if plan.peer and loads:
        yield from _compare_loads(plan, plan.peer, loads)
    alone = [workload for workload in plan.workloads if workload.against is not Against.PEER]
    for key, some in groupby(alone, lambda workload: (workload.transport is Transport.GRPC_CUDA, workload.processes)):
        yield from _measure_alone(plan, list(some), *key)


def estimate_s(plan: Plan) -> float:
    """Return about how long `compare` takes, in seconds."""
    total = 0.0
    for workload in plan.workloads:
        sides = 1 if workload.against is Against.NOTHING else 2
        if workload.driver is Driver.FOOTPRINT:
            total += plan.alternations * sides * (plan.idle_s if workload.name == "idle_cpu" else 3.0)
        elif plan.peer or workload.against is not Against.PEER:
            total += sides * (WARM_UP_S + plan.alternations * plan.seconds)
    return total


def _compare_footprints(plan: Plan, peer: Launch, workloads: Sequence[Workload]) -> Iterator[Comparison]:
    idle_s = plan.idle_s if any(workload.name == "idle_cpu" for workload in workloads) else 0.0
    pairs: list[tuple[dict[str, Sample], dict[str, Sample]]] = []
    with tempfile.TemporaryDirectory(prefix=leftovers.folder_prefix()) as folder:
        mine, theirs = (
            footprint.with_one_model(launch, Path(folder, str(place)))
            for place, launch in enumerate((plan.tensorhub, peer))
        )
        patience = _Patience(plan, peer)
        while len(pairs) < plan.alternations:
            plan.tell(f"processes: pair {len(pairs) + 1} of {plan.alternations}")
            try:
                a = footprint.measure(mine, plan.ports.take(), idle_s)
                b = footprint.measure(theirs, plan.ports.take(), idle_s)
            except ServerError as exc:
                if patience.is_over(exc, "processes"):
                    return
                continue
            pairs.append((a, b))
    for workload in workloads:
        name = workload.name
        yield Comparison(workload, [a[name] for a, _ in pairs], [b[name] for _, b in pairs])


def _compare_loads(plan: Plan, peer: Launch, workloads: Sequence[Workload]) -> Iterator[Comparison]:
    # Not before the footprints are taken: this loads NumPy and gRPC into this process, and a page that a server shares
    # with it would count as half a page.
    from tools.bench import load

    waiting, patience = deque(workloads), _Patience(plan, peer)
    while waiting:
        with ExitStack() as stack:
            mine = stack.enter_context(Server(plan.tensorhub, plan.ports.take()))
            theirs = stack.enter_context(Server(peer, plan.ports.take()))
            while waiting:
                workload = waiting[0]
                plan.tell(f"{workload.name}: {workload.title}")
                try:
                    with load.target(workload, mine) as a, load.target(workload, theirs) as b:
                        pairs = _pairs(plan, a, b)
                except ServerError as exc:
                    if patience.is_over(exc, workload.name):
                        waiting.popleft()
                    break
                yield Comparison(workload, [x for x, _ in pairs], [y for _, y in pairs])
                waiting.popleft()


class _Patience:
    """What is done about a peer that fails: it is started anew for a second chance, and then the row is left out.

    Triton has been seen to crash under load, and hours of other rows must not be lost for that.
    """

    def __init__(self, plan: Plan, peer: Launch) -> None:
        self._plan = plan
        self._peer = peer
        self._failed = ""

    def is_over(self, error: ServerError, row: str) -> bool:
        """Return whether the row is to be left out, and tell; an error that is not the peer's is raised again."""
        if error.server != self._peer.name or self._peer.name == self._plan.tensorhub.name:
            raise error
        over, self._failed = self._failed == row, row
        self._plan.tell(f"{row}: {'left out' if over else 'once more'}, {error}")
        return over


def _pairs(plan: Plan, a: Target, b: Target) -> list[tuple[Sample, Sample]]:
    for target in (a, b):
        target.drive(min(WARM_UP_S, plan.seconds))
    return [(a.measure(plan.seconds), b.measure(plan.seconds)) for _ in range(plan.alternations)]


def _measure_alone(plan: Plan, workloads: Sequence[Workload], on_gpu: bool, processes: int) -> Iterator[Comparison]:
    """Measure tensorhub by itself, in a server of so many processes of each kind."""
    from tools.bench import load

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=leftovers.folder_prefix())))
        repository = plan.gpu_repository if on_gpu else plan.tensorhub.repository
        launch = replace(plan.tensorhub, repository=_with_instances(repository, folder / "models", processes))
        if processes > 1:
            launch = launch.with_options(
                f"--{kind}={processes}" for kind in ("workers", "http-workers", "grpc-workers")
            )
        server = stack.enter_context(Server(launch, plan.ports.take()))
        for workload in workloads:
            plan.tell(f"{workload.name}: {workload.title}")
            with ExitStack() as opened:
                targets = [opened.enter_context(load.target(workload, server))]
                if workload.against is Against.SYSTEM_REGIONS:
                    other = replace(workload, name=f"{workload.name}_system", transport=Transport.GRPC_SHM)
                    targets.append(opened.enter_context(load.target(other, server)))
                for target in targets:
                    target.drive(min(WARM_UP_S, plan.seconds))
                turns = [[target.measure(plan.seconds) for target in targets] for _ in range(plan.alternations)]
            yield Comparison(workload, [turn[0] for turn in turns], [turn[1] for turn in turns if len(turn) > 1])


def _with_instances(repository: Path, copy: Path, count: int) -> Path:
    """Return a copy of a repository whose models of one instance have `count`: one for each worker."""
    shutil.copytree(repository, copy)
    for config in copy.glob("*/config.pbtxt"):
        text = config.read_text(encoding="utf-8")
        config.write_text(text.replace(ONE_INSTANCE, f"count: {count} "), encoding="utf-8")
    return copy
