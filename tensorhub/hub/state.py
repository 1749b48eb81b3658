"""What the hub knows and decides. Pure: events in, actions out; no clock, no socket, no file.

    processes       who is there, and which snapshot each has
    lifecycle       which models are wanted, and which load serves each version (see `lifecycle`)
    ensembles       which of them can be served, given the models of their steps (see `ensembles`)
    regions         which are registered (see `regions`)

A control call is answered when its work is done *and* every frontend has acknowledged the snapshot that shows it, so
that a client sees its own change through any frontend.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from tensorhub.hub import inventory
from tensorhub.hub.actions import Action, Answer, Asker
from tensorhub.hub.ensembles import Ensembles, is_ensemble
from tensorhub.hub.lifecycle import Lifecycle
from tensorhub.hub.own_workers import is_own
from tensorhub.hub.plans import LoadFailure, LoadPlan
from tensorhub.hub.regions import Account, RegionBook, RegionKey
from tensorhub.option_groups import SharedMemory
from tensorhub.protocol import messages

DEFAULT_LIMITS = SharedMemory()

FRONTEND_ROLES = frozenset(("HTTP", "GRPC"))
CALLER_ROLES = FRONTEND_ROLES | {"WORKER"}
"""Whoever sends requests to models: models call each other as well."""


class HubState:
    """See the module. `dirty`: the snapshot has changed since it was published."""

    def __init__(
        self,
        worker_names: Iterable[str],
        next_load_id: int,
        limits: SharedMemory = DEFAULT_LIMITS,
        account: Account = lambda count, byte_size: (0, 0),
        grown: Callable[[], int] = lambda: 0,
    ) -> None:
        self.revision = 0
        self.stopping = False
        self.processes: dict[int, Any] = {}
        self.lifecycle = Lifecycle(worker_names, next_load_id)
        self.ensembles = Ensembles(self.lifecycle)
        self._kept: list[Action] = []
        workers = self.lifecycle.workers
        self.regions = RegionBook(limits, workers.running, workers.gpu_missing, account, grown)
        self._restarts = {"worker": 0, "http": 0, "grpc": 0}
        self._restarts_before: Mapping[str, int] = {}
        self._deaths = dict.fromkeys(self._restarts, 0)
        self._changed = True
        self._acknowledged: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<HubState revision {self.revision}, {self.lifecycle!r}, {self.regions!r}>"

    @property
    def dirty(self) -> bool:
        return self._changed or self.lifecycle.dirty or self.regions.changed

    @property
    def started(self) -> bool:
        return self.lifecycle.started

    @property
    def restarts(self) -> dict[str, int]:
        """How many processes of each role have died and come back."""
        return {role: count + self._restarts_before.get(role, 0) for role, count in self._restarts.items()}

    def inherit_restarts(self, before: Mapping[str, int]) -> None:
        """Add those that another hub has counted, in the place of what was added before."""
        self._restarts_before = dict(before)

    def stop(self) -> None:
        """The server is about to end."""
        self.stopping = self._changed = True

    # Processes

    def hello(self, hello: Any) -> list[Action]:
        """A process has joined, or come back to a new hub."""
        process = messages.Process()
        process.CopyFrom(hello.process)
        known = process.pid in self.processes
        self.processes[process.pid] = process
        self._changed = True
        if known:
            return []
        role = process.role.lower()
        if self._deaths.get(role):
            self._deaths[role] -= 1
            self._restarts[role] += 1
        if process.role != "WORKER":
            return self.lifecycle.adopt_settled(hello.known)
        self.lifecycle.rejoined |= hello.rejoining
        # The lifecycle first: it knows which workers are there.
        loads = self.lifecycle.worker_joined(process.name, process.pid, hello.models, process.environment)
        return self.regions.joined(process.pid, hello) + loads + self.ensembles.settle()

    def died(self, pid: int) -> list[Action]:
        """A process has died."""
        process = self.processes.pop(pid, None)
        if process is None:
            return []
        self._changed = True
        if process.role.lower() in self._deaths and not self._has_ended(process):
            self._deaths[process.role.lower()] += 1
        self._acknowledged.pop(pid, None)
        loads: list[Action] = []
        if process.role == "WORKER" and self.lifecycle.workers.pids.get(process.name) == pid:
            loads = self._after_ensembles(self.lifecycle.worker_died(process.name) + self.ensembles.settle())
        return self.regions.left(pid) + loads

    def _has_ended(self, process: Any) -> bool:
        """Whether a worker of a model's own is gone because its model is."""
        return is_own(process.name) and process.name not in self.lifecycle.workers

    def reported(self, pid: int, report: Any, request_id: int) -> list[Action]:
        """A worker says what became of an order."""
        process = self.processes.get(pid)
        if process is None:
            return []
        if request_id:
            return self.regions.reported(report, request_id)
        return self._after_ensembles(self.lifecycle.reported(process.name, report) + self.ensembles.settle())

    def _after_ensembles(self, actions: list[Action]) -> list[Action]:
        """Keep answers back while ensembles follow what has happened to their models: that belongs to it."""
        if not self.ensembles.follow:
            kept, self._kept = self._kept, []
            return actions + kept
        self._kept += [action for action in actions if isinstance(action, Answer)]
        return [action for action in actions if not isinstance(action, Answer)]

    # Models

    def begin(
        self,
        plans: Sequence[LoadPlan],
        failed: Sequence[LoadFailure],
        now_ns: int,
        brought: Sequence[LoadPlan] = (),
    ) -> list[Action]:
        """Load the start-up models.

        Args:
            failed: those that cannot even be tried; `brought`: what is loaded only because ensembles need it.
        """
        self.ensembles.adopt()
        for plan in brought:
            self.ensembles.bring(plan.model)
        plans = [*plans, *brought]
        ensembles = [plan for plan in plans if is_ensemble(plan)]
        for plan in ensembles:
            self.ensembles.want(plan)
        self.lifecycle.awaited = {plan.model for plan in ensembles}
        actions = self.lifecycle.begin([plan for plan in plans if plan not in ensembles], failed, now_ns)
        return actions + self.ensembles.settle()

    def load(self, plan: LoadPlan, asker: Asker | None, now_ns: int, steps: Sequence[LoadPlan] = ()) -> list[Action]:
        """A model is to be loaded, or loaded anew; `asker` hears what became of it.

        Args:
            steps: of an ensemble: the models that it needs, which are loaded with it.
        """
        actions: list[Action] = []
        for step in steps:
            self.ensembles.bring(step.model)
            actions += self._load(step, None, now_ns)
        self.ensembles.chosen(plan.model)
        return actions + self._load(plan, asker, now_ns) + self.ensembles.settle()

    def _load(self, plan: LoadPlan, asker: Asker | None, now_ns: int) -> list[Action]:
        if is_ensemble(plan):
            self.ensembles.want(plan, asker)
            return []
        return self.lifecycle.load(plan, asker, now_ns)

    def unload(self, name: str, *, with_steps: bool = False) -> list[Action]:
        """A model is to go; an unknown one is gone already.

        Args:
            with_steps: of an ensemble: the models that came with it and that nobody else needs go as well.
        """
        return self.ensembles.unload(name, with_steps=with_steps) + self.ensembles.settle()

    def paths(self) -> set[str]:
        """Return the folders of all that is loaded, or is to be when the models of its steps allow it."""
        return {load.path for load in self.lifecycle.loads.values()} | self.ensembles.paths()

    # Regions

    def register(self, kind: str, message: Any, asker: Asker) -> list[Action]:
        """A client registers a region; see RegionBook."""
        return self.regions.register(kind, message, asker)

    def unregister(self, kind: str, owner: str, name: str, asker: Asker) -> list[Action]:
        """A client lets a region go, or (name "") all of its owner's of that kind."""
        return self.regions.unregister(kind, owner, name, asker)

    def reap(self, keys: Iterable[RegionKey]) -> list[Action]:
        """The memory of these regions is no longer of use to anybody."""
        return self.regions.reap(keys)

    def client_died(self, pid: int, ticks: int) -> list[Action]:
        """A process that has registered regions is no more."""
        return self.regions.client_died(pid, ticks)

    # The snapshot

    def acknowledged(self, pid: int, revision: int) -> None:
        """A process has this revision."""
        self._acknowledged[pid] = max(revision, self._acknowledged.get(pid, 0))

    def all_have(self, revision: int, roles: Collection[str] = FRONTEND_ROLES) -> bool:
        """Every process of these roles has acknowledged it."""
        return all(
            self._acknowledged.get(process.pid, 0) >= revision
            for process in self.processes.values()
            if process.role in roles
        )

    def touch(self) -> None:
        """Something has changed that is in the snapshot and not here."""
        self._changed = True

    def publish(self, hub: Any, settings: dict[str, str]) -> Any:
        """Make the next revision, for everyone."""
        self.revision += 1
        self._changed = self.lifecycle.dirty = self.regions.changed = False
        return self.snapshot(hub, settings)

    def snapshot(self, hub: Any, settings: dict[str, str]) -> Any:
        """Return the state as a `tensorhub.wire.Snapshot`; `hub` is the hub's own `tensorhub.wire.Process`."""
        message = messages.Snapshot(
            revision=self.revision,
            hub_pid=hub.pid,
            hub_start_ticks=hub.start_ticks,
            started=self.started,
            stopping=self.stopping,
            processes=self.processes.values(),
            settings=settings,
        )
        pids = self.lifecycle.workers.pids
        message.own_workers.extend(self.own_workers())
        message.models.extend(model.show(pids) for model in self.lifecycle.models.values())
        for region in self.regions.shown():
            shown = message.system_regions if region.kind == "system" else message.cuda_regions
            shown.add().CopyFrom(region.message)
        return message

    def own_workers(self) -> list[Any]:
        """Return the `tensorhub.wire.OwnWorker` messages of those that have something to do, and must run."""
        own_worker = messages.message_class("tensorhub.wire.OwnWorker")
        found = self.lifecycle.workers.own(self.lifecycle.loads.values())
        return [own_worker(name=own.name, environment=own.environment) for own in found]

    def index(self, names: Collection[str], duplicates: Collection[str], now_ns: int) -> list[Any]:
        """Every model of the repositories and its versions, for the repository index; see `Lifecycle.index`."""
        return inventory.index(self.lifecycle.models, names, duplicates, self.lifecycle.workers.pids, now_ns)
