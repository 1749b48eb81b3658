"""What the hub knows and decides. Pure: events in, actions out; no clock, no socket, no file.

    workers      who is there, by name; what each has been told to load
    models       what is wanted, and for each version which load serves it
    regions      see `hub.regions`
    controls     what clients have asked for and is not finished

A model version is loaded under a *load id*, the same on every worker that shares it. A new load of a version that is
being served runs beside the old one (`incoming`) and takes its place when every worker of it is ready; a load that
fails leaves the old one in place.

A control call is answered when its work is done *and* every frontend has acknowledged the snapshot that shows it, so
that a client sees its own change through any frontend.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tensorhub.errors import (
    TITLES,
    InvalidArgument,
    TensorhubError,
    Unavailable,
    error_for,
)
from tensorhub.hub.actions import Action, Answer, Asker, Send
from tensorhub.hub.regions import RegionBook, RegionKey
from tensorhub.option_groups import SharedMemory
from tensorhub.protocol import messages

DEFAULT_LIMITS = SharedMemory()

CRASH_LIMIT = 2
"""Deaths of a worker while it loads a model, after which the model is given up."""

_FRONTEND_ROLES = frozenset(("HTTP", "GRPC"))
_UNLOADED = "unloaded"


@dataclass(slots=True)
class Load:
    """One load of one model version, on one or several workers.

    Attributes:
        workers: names of the workers that share it, in the order of their shares.
        ready: those that have loaded it.
        error: the first failure.
    """

    load_id: int
    model: str
    version: int
    path: str
    config: bytes
    workers: tuple[str, ...]
    auto_complete: bool = True
    overridden: bool = False
    ready: set[str] = field(default_factory=set)
    final_config: bytes = b""
    error: TensorhubError | None = None
    crashes: int = 0

    @property
    def complete(self) -> bool:
        return self.error is None and set(self.workers) <= self.ready


@dataclass(slots=True)
class Version:
    """One version of a model.

    Attributes:
        current: the load that serves it; `incoming`: the one that will.
        state, reason: Triton's, while nothing serves it.
    """

    number: int
    current: Load | None = None
    incoming: Load | None = None
    state: str = "UNAVAILABLE"
    reason: str = ""


@dataclass(slots=True)
class Model:
    """A model that has been asked for at least once; `known` unless its config could not even be read."""

    name: str
    wanted: bool = True
    reason: str = ""
    known: bool = True
    versions: dict[int, Version] = field(default_factory=dict)


@dataclass(slots=True)
class Worker:
    """A worker by name; without a pid it is expected or being restarted."""

    name: str
    pid: int = 0
    loading: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What is to be loaded for a model: the answer of the repository."""

    model: str
    path: str
    config: bytes
    versions: Sequence[int]
    instances: int
    overridden: bool = False
    auto_complete: bool = True


@dataclass(frozen=True, slots=True)
class LoadFailure:
    """A model that cannot even be tried; `known` if its config was read and it is something else that is missing."""

    model: str
    reason: str
    known: bool


class HubState:
    """See the module. Every method that returns actions leaves `dirty` set if the snapshot has changed."""

    def __init__(self, worker_names: Iterable[str], next_load_id: int, limits: SharedMemory = DEFAULT_LIMITS) -> None:
        self.dirty = True
        self.revision = 0
        self.started = False
        self.stopping = False
        self.processes: dict[int, Any] = {}
        self.workers: dict[str, Worker] = {name: Worker(name) for name in worker_names}
        self.models: dict[str, Model] = {}
        self.regions = RegionBook(limits, self._worker_pids)
        self.loads: dict[int, Load] = {}
        self.rejoined = False
        self.restarts = {"worker": 0, "http": 0, "grpc": 0}
        self._deaths = dict.fromkeys(self.restarts, 0)
        self._next_load_id = next_load_id
        self._load_calls: dict[str, list[Asker]] = {}
        self._startup: set[str] = set()
        self._acknowledged: dict[int, int] = {}

    # Processes

    def hello(self, hello: Any) -> list[Action]:
        """A process has joined, or come back to a new hub."""
        process = messages.Process()
        process.CopyFrom(hello.process)
        known = process.pid in self.processes
        self.processes[process.pid] = process
        self.dirty = True
        role = process.role.lower()
        if not known and self._deaths.get(role):
            self._deaths[role] -= 1
            self.restarts[role] += 1
        if process.role != "WORKER" or known:
            return []
        self.rejoined |= hello.rejoining
        worker = self.workers.setdefault(process.name, Worker(process.name))
        worker.pid = process.pid
        worker.loading.clear()
        for load in self.loads.values():
            load.ready.discard(worker.name)
        self._adopt(worker, hello)
        return self._of_regions(self.regions.joined(process.pid, hello)) + self._send_loads(worker)

    def _adopt(self, worker: Worker, hello: Any) -> None:
        """Take over what a worker already has: the hub before this one told it to."""
        for news in hello.models:
            model = self.models.setdefault(news.model, Model(news.model))
            version = model.versions.setdefault(news.version, Version(news.version))
            load = self.loads.get(news.load_id)
            if load is None:
                load = self.loads[news.load_id] = Load(
                    news.load_id, news.model, news.version, news.path, news.config, (), overridden=news.overridden
                )
                self._next_load_id = max(self._next_load_id, news.load_id + 1)
                if version.current is None:
                    version.current = load
            if worker.name not in load.workers:
                load.workers = (*load.workers, worker.name)
            if news.state == "READY":
                load.ready.add(worker.name)
                load.final_config = news.config
            else:
                worker.loading.add(news.load_id)

    def died(self, pid: int) -> list[Action]:
        """A process has died."""
        process = self.processes.pop(pid, None)
        if process is None:
            return []
        self.dirty = True
        if process.role.lower() in self._deaths:
            self._deaths[process.role.lower()] += 1
        self._acknowledged.pop(pid, None)
        actions = self._of_regions(self.regions.left(pid))
        worker = self.workers.get(process.name) if process.role == "WORKER" else None
        if worker is None or worker.pid != pid:
            return actions
        worker.pid = 0
        for load in self.loads.values():
            load.ready.discard(worker.name)
        for load_id in sorted(worker.loading):
            crashed = self.loads.get(load_id)
            if crashed is not None:
                crashed.crashes += 1
                if crashed.crashes >= CRASH_LIMIT:
                    crashed.error = Unavailable("the worker process died while it loaded the model")
                    actions += self._load_failed(crashed)
        worker.loading.clear()
        return actions

    # Models

    def begin(self, plans: Sequence[LoadPlan], failed: Sequence[LoadFailure]) -> list[Action]:
        """Load the start-up models; `failed` are those that cannot even be tried."""
        actions: list[Action] = []
        for failure in failed:
            if failure.model not in self.models:
                self.models[failure.model] = Model(failure.model, reason=failure.reason, known=failure.known)
        for plan in plans:
            if plan.model not in self.models:
                actions += self._plan(plan)
        self._startup = {plan.model for plan in plans}
        self.dirty = True
        self._check_started()
        return actions

    def serves(self, name: str) -> bool:
        """Whether a model is wanted and some version of it is loaded."""
        model = self.models.get(name)
        return model is not None and model.wanted and any(item.current for item in model.versions.values())

    def load(self, plan: LoadPlan, asker: Asker) -> list[Action]:
        """A client wants a model loaded, or loaded anew."""
        self._load_calls.setdefault(plan.model, []).append(asker)
        return self._plan(plan)

    def _plan(self, plan: LoadPlan) -> list[Action]:
        model = self.models.setdefault(plan.model, Model(plan.model))
        model.wanted = True
        model.reason = ""
        model.known = True
        actions: list[Action] = []
        names = sorted(self.workers, key=lambda name: (self._burden(name), name))
        chosen = tuple(sorted(names[: max(1, min(plan.instances, len(names)))]))
        for number in plan.versions:
            version = model.versions.setdefault(number, Version(number))
            load = Load(
                self._next_load_id,
                plan.model,
                number,
                plan.path,
                plan.config,
                chosen,
                auto_complete=plan.auto_complete,
                overridden=plan.overridden,
            )
            self._next_load_id += 1
            self.loads[load.load_id] = load
            if version.incoming is not None:
                actions += self._drop(version.incoming)
            version.incoming = load
            if version.current is None:
                version.state, version.reason = "LOADING", ""
        for number, version in model.versions.items():
            if number not in plan.versions:
                actions += self._retire(version)
        for name in chosen:
            actions += self._send_loads(self.workers[name])
        self.dirty = True
        return actions

    def _burden(self, name: str) -> int:
        return sum(name in load.workers for load in self.loads.values())

    def _send_loads(self, worker: Worker) -> list[Action]:
        """Tell a worker what it should have and has not. A load that has killed a worker runs alone."""
        if not worker.pid:
            return []
        actions: list[Action] = []
        missing = [
            load
            for load in sorted(self.loads.values(), key=lambda load: (load.crashes, load.load_id))
            if worker.name in load.workers
            and worker.name not in load.ready
            and load.load_id not in worker.loading
            and load.error is None
        ]
        for load in missing:
            suspects = [load_id for load_id in worker.loading if load_id in self.loads and self.loads[load_id].crashes]
            if suspects or (load.crashes and worker.loading):
                break
            worker.loading.add(load.load_id)
            order = messages.Order()
            order.load_model.load_id = load.load_id
            order.load_model.model = load.model
            order.load_model.version = load.version
            order.load_model.path = load.path
            order.load_model.config = load.config
            order.load_model.auto_complete = load.auto_complete
            order.load_model.overridden = load.overridden
            order.load_model.share_index = load.workers.index(worker.name)
            order.load_model.share_count = len(load.workers)
            actions.append(Send(worker.pid, order))
        return actions

    def reported(self, pid: int, report: Any, request_id: int) -> list[Action]:
        """A worker says what became of an order."""
        process = self.processes.get(pid)
        if process is None:
            return []
        if request_id:
            return self._of_regions(self.regions.reported(pid, report, request_id))
        worker = self.workers.get(process.name)
        load = self.loads.get(report.model.load_id)
        if worker is None or load is None:
            return []
        worker.loading.discard(load.load_id)
        self.dirty = True
        actions: list[Action] = []
        if report.code:
            if load.error is None:
                load.error = error_for(report.code - 1, report.message)
                actions += self._load_failed(load)
        elif report.model.state == "READY":
            load.ready.add(worker.name)
            load.final_config = report.model.config
            load.crashes = 0
            if load.complete:
                actions += self._load_done(load)
        else:
            self._unload_done(worker, load)
        return actions + self._send_loads(worker)

    def _load_done(self, load: Load) -> list[Action]:
        version = self.models[load.model].versions[load.version]
        if version.current is load:  # again, after its worker was restarted
            version.state, version.reason = "READY", ""
            return []
        return self._settle_plan(self.models[load.model])

    def _load_failed(self, load: Load) -> list[Action]:
        model = self.models[load.model]
        version = model.versions[load.version]
        if version.current is load:
            version.current = None
            version.state, version.reason = "UNAVAILABLE", _reason(load.error)
            return self._drop(load)
        return self._settle_plan(model)

    def _settle_plan(self, model: Model) -> list[Action]:
        """When the last load of a plan has ended: switch to all of them or, if one has failed, to none.

        Source: Triton's repository manager serves no version of a model of which one fails to load.
        """
        planned = [(version, version.incoming) for version in model.versions.values() if version.incoming is not None]
        if any(load.error is None and not load.complete for _, load in planned):
            return []
        failed = any(load.error is not None for _, load in planned)
        actions: list[Action] = []
        for version, load in planned:
            version.incoming = None
            if not failed:
                old, version.current = version.current, load
                version.state, version.reason = "READY", ""
                actions += self._drop(old) if old is not None else []
            elif load.error is not None:
                if version.current is None:
                    version.state, version.reason = "UNAVAILABLE", _reason(load.error)
                actions += self._drop(load)
            else:
                served, version.current = version.current, load
                actions += self._retire(version)
                if served is not None:
                    version.current, version.state, version.reason = served, "READY", ""
        error = self._load_error(model, planned) if failed else None
        actions += [Answer(asker, error) for asker in self._load_calls.pop(model.name, [])]
        self.dirty = True
        self._check_started()
        return actions

    def _load_error(self, model: Model, planned: Sequence[tuple[Version, Load]]) -> TensorhubError:
        """What the caller of a load hears: the failures of all versions."""
        failures = "".join(
            f"version {version.number} is at UNAVAILABLE state: {_reason(load.error)};"
            for version, load in sorted(planned, key=lambda item: item[0].number)
            if load.error is not None
        )
        return InvalidArgument(f"load failed for model '{model.name}': {failures}\n")

    def _drop(self, load: Load) -> list[Action]:
        """A load is not wanted any more: whoever has it unloads it."""
        self.loads.pop(load.load_id, None)
        actions: list[Action] = []
        for name in load.workers:
            worker = self.workers[name]
            if worker.pid and (name in load.ready or load.load_id in worker.loading):
                order = messages.Order()
                order.unload_model.load_id = load.load_id
                actions.append(Send(worker.pid, order))
            worker.loading.discard(load.load_id)
        return actions

    def unload(self, name: str) -> list[Action]:
        """A client wants a model gone; an unknown one is gone already."""
        model = self.models.get(name)
        if model is None:
            return []
        model.wanted = False
        actions: list[Action] = []
        for version in model.versions.values():
            actions += self._retire(version)
        self.dirty = True
        return actions

    def _retire(self, version: Version) -> list[Action]:
        actions: list[Action] = []
        if version.incoming is not None:
            actions += self._drop(version.incoming)
            version.incoming = None
        load = version.current
        if load is not None:
            version.current = None
            served = [name for name in load.workers if name in load.ready and self.workers[name].pid]
            version.state = "UNLOADING" if served else "UNAVAILABLE"
            actions += self._drop(load)
            if served:
                self.loads[load.load_id] = load  # until the workers say that it is gone
                load.error = Unavailable(_UNLOADED)
        elif version.state == "LOADING":
            version.state = "UNAVAILABLE"
        if version.state != "UNLOADING" or not version.reason:
            version.reason = _UNLOADED if version.state == "UNAVAILABLE" else ""
        return actions

    def _unload_done(self, worker: Worker, load: Load) -> None:
        load.ready.discard(worker.name)
        if load.error is not None and not load.ready:
            self.loads.pop(load.load_id, None)
            version = self.models[load.model].versions.get(load.version)
            if version is not None and version.state == "UNLOADING" and version.current is None:
                version.state, version.reason = "UNAVAILABLE", _UNLOADED

    def _check_started(self) -> None:
        if self.started:
            return
        settled = all(
            version.incoming is None
            for name in self._startup
            if name in self.models
            for version in self.models[name].versions.values()
        )
        if settled:
            self.started = self.dirty = True

    # Regions

    def register(self, kind: str, message: Any, asker: Asker) -> list[Action]:
        """A client registers a region; see RegionBook."""
        return self._of_regions(self.regions.register(kind, message, asker))

    def unregister(self, kind: str, owner: str, name: str, asker: Asker) -> list[Action]:
        """A client lets a region go, or (name "") all of its owner's of that kind."""
        return self._of_regions(self.regions.unregister(kind, owner, name, asker))

    def reap(self, keys: Iterable[RegionKey]) -> list[Action]:
        """The memory of these regions is no longer of use to anybody."""
        return self._of_regions(self.regions.reap(keys))

    def client_died(self, pid: int, ticks: int) -> list[Action]:
        """A process that has registered regions is no more."""
        return self._of_regions(self.regions.client_died(pid, ticks))

    def _of_regions(self, actions: list[Action]) -> list[Action]:
        self.dirty |= self.regions.changed
        self.regions.changed = False
        return actions

    def _worker_pids(self) -> list[int]:
        return [worker.pid for worker in self.workers.values() if worker.pid]

    # The snapshot

    def acknowledged(self, pid: int, revision: int) -> None:
        """A process has this revision."""
        self._acknowledged[pid] = max(revision, self._acknowledged.get(pid, 0))

    def all_have(self, revision: int) -> bool:
        """Every frontend has acknowledged it."""
        return all(
            self._acknowledged.get(process.pid, 0) >= revision
            for process in self.processes.values()
            if process.role in _FRONTEND_ROLES
        )

    def publish(self, hub: Any, settings: dict[str, str]) -> Any:
        """Make the next revision, for everyone."""
        self.revision += 1
        self.dirty = False
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
        for model in self.models.values():
            entry = message.models.add(name=model.name, wanted=model.wanted, reason=model.reason, known=model.known)
            entry.versions.extend(self._shown(model, version) for version in model.versions.values())
        for region in self.regions.shown():
            shown = message.system_regions if region.kind == "system" else message.cuda_regions
            shown.add().CopyFrom(region.message)
        return message

    def _shown(self, model: Model, version: Version) -> Any:
        load = version.current
        shown = messages.ModelVersion(
            model=model.name, version=version.number, state=version.state, reason=version.reason
        )
        if load is not None:
            shown.workers.extend(sorted(self.workers[name].pid for name in load.ready if self.workers[name].pid))
            shown.load_id = load.load_id
            shown.config = load.final_config
            shown.path = load.path
            shown.overridden = load.overridden
            if not shown.workers:
                shown.state, shown.reason = "LOADING", "the worker process is being restarted"
            else:
                shown.state = "READY"
        return shown

    def served(self, name: str, number: int) -> list[Load]:
        """Return the loads that serve a model, in the order of names and versions.

        Args:
            name: of a model, "" for all; `number`: of a version, -1 for all.

        Raises:
            InvalidArgument: the model, or that version of it, is not served.
        """
        if not name:
            models = [self.models[key] for key in sorted(self.models)]
        elif name in self.models and any(item.current for item in self.models[name].versions.values()):
            models = [self.models[name]]
        else:
            raise InvalidArgument(f"requested model '{name}' is not available")
        loads = [
            version.current
            for model in models
            for _, version in sorted(model.versions.items())
            if version.current is not None and number in (-1, version.number)
        ]
        if number != -1 and not loads:
            raise InvalidArgument(f"requested model version is not available for model '{name}'")
        return loads

    def pids(self, names: Iterable[str] | None = None) -> list[int]:
        """Return the pids of the workers with these names, or of all, that are running."""
        chosen = self.workers if names is None else names
        return [pid for name in chosen if (pid := self.workers[name].pid)]

    def index(self, names: Iterable[str]) -> list[Any]:
        """Every model and version with its state, for the repository index; version 0 where there is none.

        Args:
            names: the models of the repositories, loaded or not.
        """
        known = set(names)
        entries = []
        for model in self.models.values():
            entries += [self._shown(model, version) for version in model.versions.values()]
            if not model.versions and model.name in known:
                entries.append(
                    messages.ModelVersion(
                        model=model.name, state="UNAVAILABLE" if model.reason else "", reason=model.reason
                    )
                )
        return entries + [messages.ModelVersion(model=name) for name in sorted(known - self.models.keys())]


def _reason(error: TensorhubError | None) -> str:
    """Print an error as Triton does inside another one: `Invalid argument: ...`."""
    return f"{TITLES[error.code]}: {error.message}" if error is not None else ""
