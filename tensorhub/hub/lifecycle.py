"""Which models are loaded, where, and in which version. Pure: events in, actions out.

A model version is loaded under a *load id*, the same on every worker that shares it. A new load of a version that is
being served runs beside the old one (`incoming`) and takes its place when every worker of it is ready and every other
version of the same plan is, too; a plan of which one version fails leaves everything as it was. An old load is retired
only when the frontends know of the new one, and is gone when its workers have answered its last request.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from tensorhub.errors import InvalidArgument, TensorhubError, Unavailable, error_for
from tensorhub.hub.actions import Action, Answer, Asker, Send
from tensorhub.hub.loads import WANTED, Load, LoadEvent, LoadState
from tensorhub.hub.models import UNLOADED, Model, Version, error_text
from tensorhub.hub.orders import end_order, load_order, unload_order
from tensorhub.hub.own_workers import is_own
from tensorhub.hub.plans import LoadFailure, LoadPlan
from tensorhub.hub.worker_table import Worker, WorkerTable, next_loads
from tensorhub.protocol.model_names import bare_name, model_key

CRASH_LIMIT = 2
"""Deaths of a worker while it loads a model, after which the model is given up."""

OUTDATED = "Newer operation has been applied to the model lifecycle, current load operation is out-dated."


class Lifecycle:
    """See the module.

    Attributes:
        dirty: what clients see has changed.
        gpu_count: GPUs of the server.
        started: the start-up models have been dealt with.
        awaited: models without which the start is not over, although no load of them is under way yet.
        rejoined: a worker came with the loads that another hub ordered.
    """

    def __init__(self, worker_names: Iterable[str], next_load_id: int) -> None:
        self.dirty = True
        self.gpu_count = 0
        self.started = False
        self.awaited: Collection[str] = ()
        self.rejoined = False
        self._begun = False
        self.workers = WorkerTable(worker_names)
        self.models: dict[str, Model] = {}
        self.loads: dict[int, Load] = {}
        self._next_load_id = next_load_id
        self._callers: dict[str, list[Asker]] = {}
        self._startup: set[str] = set()
        self._retired_before: set[int] = set()  # ids of loads that another hub no longer wanted

    def __repr__(self) -> str:
        return f"<Lifecycle {len(self.models)} models, {len(self.loads)} loads, {len(self.workers)} workers>"

    # Workers

    def worker_joined(self, name: str, pid: int, models: Iterable[Any], environment: str = "") -> list[Action]:
        """A worker is there.

        Args:
            models: the `tensorhub.wire.ModelVersion` of what it has and loads: the hub before this one told it to.
        """
        worker = self.workers.expect(name, environment)
        worker.pid = pid
        for load in list(self.loads.values()):
            self._lose(load, name)
        actions: list[Action] = []
        for news in models:
            actions += self._adopt(worker, news)
        self.dirty = True
        return actions + self._send_loads(worker) + self._end_if_done(worker)

    def _adopt(self, worker: Worker, news: Any) -> list[Action]:
        key = model_key(news.namespace, news.model)
        leaves = news.state == "UNLOADING" or news.load_id in self._retired_before
        model = self.models.setdefault(key, Model(key, wanted=False))
        version = self._version(model, news.version)
        load = self.loads.get(news.load_id)
        if load is None:
            load = self.loads[news.load_id] = _told_load(key, news, ())
            self._next_load_id = max(self._next_load_id, news.load_id + 1)
        if worker.name not in load.workers:
            load.workers = (*load.workers, worker.name)
        (load.told if news.state == "LOADING" else load.ready).add(worker.name)
        if load.state is LoadState.RETIRED:
            return [Send(worker.pid, unload_order(load.load_id), after_snapshot=True)]
        if leaves:
            return self._let_go(load)
        model.wanted = True
        if news.state == "LOADING":
            if load.state is LoadState.LOADING and version.incoming is None:
                version.incoming = load
            return []
        load.final_config, load.asks_ready = news.config, news.asks_ready
        if load.complete and load.state in (LoadState.LOADING, LoadState.RESTORING):
            load.apply(LoadEvent.COMPLETE)
        old = version.current
        if load.state is not LoadState.LOADED:
            return []
        if old is not None and old.load_id > load.load_id:
            return self._retire(load)  # the other hub had switched and died before it could tell
        load.apply(LoadEvent.SWITCH)
        version.current = load
        if version.incoming is load:
            version.incoming = None
        return self._retire(old) if old is not None else []

    def _let_go(self, load: Load) -> list[Action]:
        """Another hub did not want a load any more, and may have died before it could tell all workers."""
        version = self.models[load.model].versions[load.version]
        if version.current is load:
            version.current = None
        if version.incoming is load:
            version.incoming = None
        if version.current is None and version.incoming is None:
            version.leaving, version.reason = load, UNLOADED
        return self._retire(load)

    def adopt_settled(self, models: Iterable[Any]) -> list[Action]:
        """Take over from a frontend what no worker can tell: which versions another hub left unloaded, and why.

        Args:
            models: `tensorhub.wire.Model`, from the last snapshot that the frontend had.
        """
        actions: list[Action] = []
        for told in models:
            key = model_key(told.namespace, told.name)
            settled = [item for item in told.versions if item.state in ("UNAVAILABLE", "UNLOADING")]
            for load_id in [item.load_id for item in settled if item.load_id]:
                self._retired_before.add(load_id)
                load = self.loads.get(load_id)
                if load is not None and load.state is not LoadState.RETIRED:
                    actions += self._let_go(load)
            model = self.models.get(key)
            if model is not None and any(version.current or version.incoming for version in model.versions.values()):
                continue
            if len(settled) < len(told.versions) or not (settled or told.reason):
                continue  # a worker will tell the rest; if none does, the model is loaded anew
            model = self.models.setdefault(key, Model(key))
            model.wanted, model.reason, model.known = told.wanted, told.reason, told.known
            for item in settled:
                self._version(model, item.version).reason = item.reason or UNLOADED
            self.dirty = True
        return actions

    def restore(self, models: Iterable[Any]) -> list[Action]:
        """Go on with what another hub had served, also where a worker that shared it has died as well.

        Args:
            models: `tensorhub.wire.Model`, from the newest snapshot of that hub that anybody has.
        """
        actions = self.adopt_settled(models)
        for told in models:
            for item in told.versions:
                if item.load_id and item.load_id not in self._retired_before:
                    self._restore(told, item)
        for worker in self.workers:
            actions += self._send_loads(worker)
        return actions

    def _restore(self, told: Any, item: Any) -> None:
        key = model_key(told.namespace, told.name)
        load = self.loads.get(item.load_id)
        model = self.models.get(key)
        version = None if model is None else model.versions.get(item.version)
        shares = tuple(name for name in item.shares if name in self.workers)
        if version is not None and version.current not in (None, load):
            return  # a worker has told of a newer one
        if load is None:
            if not shares:
                return
            load = self.loads[item.load_id] = _told_load(key, item, shares)
            self._next_load_id = max(self._next_load_id, item.load_id + 1)
        elif load.state is LoadState.RETIRED:
            return  # a worker was told to let it go
        load.workers = (*shares, *(name for name in load.workers if name not in shares))
        model = self.models.setdefault(key, Model(key))
        model.wanted, model.reason = told.wanted, told.reason
        version = self._version(model, item.version)
        if load.state is LoadState.LOADING:  # no worker has it any more, or one is about to have it again
            load.apply(LoadEvent.COMPLETE)
            load.apply(LoadEvent.SWITCH)
            version.current = load
            if version.incoming is load:
                version.incoming = None
        if not load.complete:
            load.apply(LoadEvent.LOST)
        self.dirty = True

    def worker_died(self, name: str) -> list[Action]:
        """A worker is gone; what it served is loaded again when it is back."""
        worker = self.workers[name]
        worker.pid = 0
        self.dirty = True
        actions: list[Action] = []
        for load in sorted(self.loads.values(), key=lambda load: load.load_id):
            suspected = name in load.told and load.state in WANTED
            self._lose(load, name)
            if suspected:
                load.crashes += 1
                if load.crashes >= CRASH_LIMIT:
                    actions += self._fail(load, Unavailable("the worker process died while it loaded the model"))
        self._end_if_done(worker)
        return actions

    def _end_if_done(self, worker: Worker) -> list[Action]:
        """A worker of a model's own ends when nothing of the model is left on it."""
        if not is_own(worker.name) or any(worker.name in load.workers for load in self.loads.values()):
            return []
        if not self._begun:
            return []  # what it is for is yet to be heard
        self.workers.remove(worker.name)
        self.dirty = True
        return [Send(worker.pid, end_order())] if worker.pid else []

    def _lose(self, load: Load, name: str) -> None:
        """A worker has died, with whatever it had of a load."""
        load.told.discard(name)
        load.progress.pop(name, None)
        if name in load.ready:
            load.ready.discard(name)
            load.apply(LoadEvent.LOST)
        self._forget_if_gone(load)

    def _send_loads(self, worker: Worker) -> list[Action]:
        """Tell a worker what to load next."""
        if not worker.pid:
            return []
        actions: list[Action] = []
        for load in next_loads(worker.name, self.loads.values()):
            load.told.add(worker.name)
            actions.append(Send(worker.pid, load_order(load, worker.name, self.workers.devices, self.gpu_count)))
        return actions

    # What is wanted

    def begin(self, plans: Sequence[LoadPlan], failed: Sequence[LoadFailure], now_ns: int) -> list[Action]:
        """Load the start-up models; `failed` are those that cannot even be tried."""
        actions: list[Action] = []
        for failure in failed:
            if failure.model not in self.models:
                self.models[failure.model] = Model(failure.model, reason=failure.reason, known=failure.known)
        for plan in plans:
            if plan.model not in self.models:
                actions += self._plan(plan, now_ns)
        self._startup = {plan.model for plan in plans}
        self._begun = True
        for worker in list(self.workers):
            actions += self._end_if_done(worker)
        self.dirty = True
        self.check_started()
        return actions

    def load(self, plan: LoadPlan, asker: Asker | None, now_ns: int) -> list[Action]:
        """A client, or the repository itself, wants a model loaded, or loaded anew."""
        if asker is not None:
            self._callers.setdefault(plan.model, []).append(asker)
        return self._plan(plan, now_ns)

    def cannot_load(self, failure: LoadFailure) -> None:
        """A model of the repository cannot even be tried; one that is served stays."""
        model = self.models.setdefault(failure.model, Model(failure.model, wanted=False, known=False))
        model.known |= failure.known
        self.dirty = True

    def _plan(self, plan: LoadPlan, now_ns: int) -> list[Action]:
        model = self.models.setdefault(plan.model, Model(plan.model))
        model.wanted, model.reason, model.known = True, "", True
        actions: list[Action] = []
        own = plan.own_worker
        if own is not None:
            self.workers.expect(own.name, own.environment)
        chosen = plan.workers or (self.workers.choose(plan, self.loads.values()) if own is None else (own.name,))
        for number in plan.versions:
            version = self._version(model, number)
            if version.incoming is not None:
                if _same(version.incoming, plan):
                    continue
                actions += self._retire(version.incoming)
                version.incoming = None
            if version.current is not None and _same(version.current, plan):
                continue
            load = Load(
                self._next_load_id,
                plan.model,
                number,
                plan.path,
                plan.config,
                chosen,
                auto_complete=plan.auto_complete,
                overridden=plan.overridden,
                fingerprint=plan.fingerprint,
                started_ns=now_ns,
            )
            self._next_load_id += 1
            self.loads[load.load_id] = version.incoming = load
        model.planned = frozenset(plan.versions)
        for number, version in model.versions.items():
            if number not in plan.versions and version.incoming is not None:
                actions += self._retire(version.incoming)
                version.incoming = None
        for name in chosen:
            actions += self._send_loads(self.workers[name])
        self.dirty = True
        return actions + self._settle(model)

    def _version(self, model: Model, number: int) -> Version:
        return model.versions.setdefault(number, Version(number))

    def unload(self, name: str) -> list[Action]:
        """A client, or the repository, wants a model gone; an unknown one is gone already."""
        model = self.models.get(name)
        if model is None:
            return []
        model.wanted = False
        actions: list[Action] = []
        outdated = InvalidArgument(f"load failed for model '{name}': {OUTDATED}\n")
        actions += [Answer(asker, outdated) for asker in self._callers.pop(name, [])]
        for version in model.versions.values():
            actions += self._empty(version)
        self.dirty = True
        self.check_started()
        return actions

    def _empty(self, version: Version) -> list[Action]:
        """Serve a version no more."""
        actions: list[Action] = []
        for load in (version.incoming, version.current):
            if load is not None:
                version.leaving = load
                actions += self._retire(load)
                version.reason = UNLOADED
        version.incoming = version.current = None
        return actions

    # What comes of it

    def reported(self, worker_name: str, report: Any) -> list[Action]:
        """A worker says what became of an order, or what it is at."""
        worker = self.workers.get(worker_name)
        load = self.loads.get(report.model.load_id)
        if worker is None or load is None:
            return []
        self.dirty = True
        if report.model.state == "LOADING" and not report.code:
            load.progress[worker_name] = report.model.reason
            return []
        load.told.discard(worker_name)
        load.progress.pop(worker_name, None)
        actions: list[Action] = []
        if load.state is LoadState.RETIRED or load.state is LoadState.FAILED:
            if report.code or report.model.state != "READY":  # a READY that crossed our order: the last word follows
                load.ready.discard(worker_name)
            else:
                load.ready.add(worker_name)
            self._forget_if_gone(load)
        elif report.code:
            actions += self._fail(load, error_for(report.code - 1, report.message))
        elif report.model.state == "READY":
            load.ready.add(worker_name)
            load.final_config, load.asks_ready = report.model.config, report.model.asks_ready
            load.crashes = 0
            if load.complete:
                load.apply(LoadEvent.COMPLETE)
                if load.state is LoadState.LOADED:
                    actions += self._settle(self.models[load.model])
        return actions + self._send_loads(worker) + self._end_if_done(worker)

    def _fail(self, load: Load, error: TensorhubError) -> list[Action]:
        """A worker could not load it."""
        served = load.state is not LoadState.LOADING
        load.error = error
        load.apply(LoadEvent.FAIL)
        model = self.models[load.model]
        if not served:
            return self._settle(model)
        version = model.versions[load.version]
        version.current, version.reason = None, error_text(error)
        return self._retire(load)

    def _settle(self, model: Model) -> list[Action]:
        """When the last load of a plan has ended: switch to all of them or, if one has failed, to none.

        Source: Triton's repository manager serves no version of a model of which one fails to load.
        """
        planned = [(version, version.incoming) for version in model.versions.values() if version.incoming is not None]
        if any(load.state is LoadState.LOADING for _, load in planned):
            return []
        failures = [(version, load) for version, load in planned if load.state is LoadState.FAILED]
        actions: list[Action] = []
        for version, load in planned:
            version.incoming = None
            if not failures:
                load.apply(LoadEvent.SWITCH)
                old, version.current = version.current, load
                version.reason = ""
                actions += self._retire(old) if old is not None else []
            else:
                if version.current is None:
                    version.leaving = load if load.state is LoadState.LOADED else None
                    version.reason = error_text(load.error) or UNLOADED
                actions += self._retire(load)
        if not failures:
            for number, version in model.versions.items():
                if model.planned is not None and number not in model.planned:
                    actions += self._empty(version)
        error = _load_error(model.name, failures) if failures else None
        actions += [Answer(asker, error) for asker in self._callers.pop(model.name, [])]
        self.dirty = True
        self.check_started()
        return actions

    def _retire(self, load: Load) -> list[Action]:
        """A load is not wanted any more: whoever has it lets it go."""
        load.apply(LoadEvent.RETIRE)
        actions: list[Action] = []
        for name in load.workers:
            worker = self.workers[name]
            if worker.pid and (name in load.ready or name in load.told):
                actions.append(Send(worker.pid, unload_order(load.load_id), after_snapshot=True))
        self._forget_if_gone(load)
        return actions

    def _forget_if_gone(self, load: Load) -> None:
        if load.state is not LoadState.RETIRED or load.held:
            return
        self.loads.pop(load.load_id, None)
        for worker in [self.workers[name] for name in load.workers if name in self.workers]:
            if not worker.pid:
                self._end_if_done(worker)
        model = self.models.get(load.model)
        version = model.versions.get(load.version) if model is not None else None
        if version is not None and version.leaving is load:
            version.leaving = None
            self.dirty = True

    def keys(self, name: str) -> list[str]:
        """Return the keys of the models of this name that have been asked for; the name itself if there is none."""
        # SAFETY: a name from the wire with a slash is no model's name, and must not be taken for a key.
        return [key for key in self.models if bare_name(key) == name] or ([] if "/" in name else [name])

    def check_started(self) -> None:
        """See whether the start-up models have been dealt with."""
        if self.started or self.awaited:
            return
        if all(
            version.incoming is None
            for name in self._startup
            if name in self.models
            for version in self.models[name].versions.values()
        ):
            self.started = self.dirty = True


def _told_load(key: str, told: Any, workers: tuple[str, ...]) -> Load:
    """Return a load that another hub ordered, as a `tensorhub.wire.ModelVersion` tells of it."""
    return Load(
        told.load_id,
        key,
        told.version,
        told.path,
        told.config,
        workers,
        overridden=told.overridden,
        fingerprint=told.fingerprint,
        final_config=told.config,
        asks_ready=told.asks_ready,
    )


def _same(load: Load, plan: LoadPlan) -> bool:
    return load.state in WANTED and load.fingerprint == plan.fingerprint != ""


def _load_error(name: str, failures: Sequence[tuple[Version, Load]]) -> TensorhubError:
    """Return what the caller of a load hears: the failures of all versions, in Triton's words."""
    texts = "".join(
        f"version {version.number} is at UNAVAILABLE state: {error_text(load.error)};"
        for version, load in sorted(failures, key=lambda item: item[0].number)
    )
    return InvalidArgument(f"load failed for model '{bare_name(name)}': {texts}\n")
