"""The workers of a server by name: which are there, which devices they have, and which of them load a model. Pure."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from tensorhub.hub import placement
from tensorhub.hub.loads import WANTED, Load
from tensorhub.hub.own_workers import OwnWorker, is_own
from tensorhub.hub.plans import LoadPlan


@dataclass(slots=True)
class Worker:
    """A worker by name; without a pid it is expected or being restarted.

    Attributes:
        gpu: an ordinal, or placement.CPU.
        environment: of a worker of a model's own: where its Python is; "" for the server's.
    """

    name: str
    gpu: int = placement.CPU
    pid: int = 0
    environment: str = ""


class WorkerTable:
    """See the module."""

    def __init__(self, names: Iterable[str]) -> None:
        self._workers: dict[str, Worker] = {}
        for name in names:
            self.expect(name)

    def __repr__(self) -> str:
        return f"<WorkerTable of {len(self._workers)}>"

    def __len__(self) -> int:
        return len(self._workers)

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers.values())

    def __contains__(self, name: str) -> bool:
        return name in self._workers

    def __getitem__(self, name: str) -> Worker:
        return self._workers[name]

    def get(self, name: str) -> Worker | None:
        """Return a worker, or None if there is none of that name."""
        return self._workers.get(name)

    def expect(self, name: str, environment: str = "") -> Worker:
        """Return the worker of a name, which from now on is one of the server's."""
        return self._workers.setdefault(name, Worker(name, placement.gpu_of_name(name), environment=environment))

    def remove(self, name: str) -> None:
        """A worker is not one of the server's any more."""
        del self._workers[name]

    @property
    def pids(self) -> dict[str, int]:
        """Worker's name to its pid, 0 for one that is not there."""
        return {worker.name: worker.pid for worker in self}

    @property
    def devices(self) -> dict[str, int]:
        """Worker's name to the ordinal of its GPU, or placement.CPU."""
        return {worker.name: worker.gpu for worker in self}

    def running(self, names: Iterable[str] | None = None) -> list[int]:
        """Return the pids of the workers with these names, or of all, that are running."""
        chosen = self._workers if names is None else names
        return [pid for name in chosen if (pid := self._workers[name].pid)]

    def gpu_missing(self) -> bool:
        """Whether the worker of some GPU is not there."""
        return any(not worker.pid and worker.gpu != placement.CPU for worker in self)

    def own(self, loads: Iterable[Load]) -> list[OwnWorker]:
        """Return the workers of models' own that have something to do, and must run."""
        wanted = {name for load in loads if load.state in WANTED for name in load.workers}
        return [OwnWorker(name, self._workers[name].environment) for name in sorted(wanted) if is_own(name)]

    def choose(self, plan: LoadPlan, loads: Collection[Load]) -> tuple[str, ...]:
        """Return those of each device that have the fewest of `loads`, as many as a plan has instances."""
        shared = {name: gpu for name, gpu in self.devices.items() if not is_own(name)}
        burden = {name: sum(name in load.workers for load in loads) for name in shared}
        wanted = plan.by_device or {placement.CPU: plan.instances}
        if plan.meets_others:
            return placement.choose_workers(dict.fromkeys(wanted, 1), shared, lambda name: 0)
        if plan.keeps_order:
            wanted = dict.fromkeys(wanted, 1)
        return placement.choose_workers(wanted, shared, burden.__getitem__)


def next_loads(name: str, loads: Collection[Load]) -> list[Load]:
    """Return what a worker is to be told to load now, of what it should have and has not.

    A load that has killed a worker runs alone: nothing else is begun beside it.
    """
    missing = [
        load
        for load in sorted(loads, key=lambda load: (load.crashes, load.load_id))
        if name in load.workers and name not in load.ready | load.told and load.state in WANTED
    ]
    under_way = [load for load in loads if name in load.told]
    chosen: list[Load] = []
    for load in missing:
        busy = [*under_way, *chosen]
        if any(other.crashes for other in busy) or (load.crashes and busy):
            break
        chosen.append(load)
    return chosen
