"""Which ensembles can be served, given which other models are. Pure: it decides, and tells the lifecycle.

An ensemble is loaded after the models of its steps, and checked against them. It goes when one of them goes or does not
fit any more, and comes back when that is mended, as long as it is wanted. In explicit mode the load of an ensemble
brings its models, and an unload with `unload_dependents` takes those away that came so and that nobody else needs.

Source: DependencyGraph in Triton's repository manager.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tensorhub.errors import InvalidArgument, TensorhubError
from tensorhub.hub.actions import Action, Answer, Asker
from tensorhub.hub.lifecycle import Lifecycle
from tensorhub.hub.loads import LoadState
from tensorhub.hub.models import Model
from tensorhub.hub.plans import LoadPlan
from tensorhub.protocol import messages, model_config
from tensorhub.protocol.config_steps import check_steps
from tensorhub.protocol.model_names import bare_name, step_model


@dataclass(slots=True)
class _Ensemble:
    """An ensemble that is wanted.

    Attributes:
        config: parsed. steps: the models of its steps, each with the versions that they need (-1: any).
        askers: who waits to hear what becomes of it.
        problem: why it is not served; None while that is open, or if there is none.
        tried: fingerprint of what was last loaded, so that a load that failed is not tried again before something
            changes.
        settled: it is known whether it fits.
        adopted: another hub has loaded it; the plan is what that made of one.
    """

    plan: LoadPlan
    config: Any
    steps: Mapping[str, frozenset[int]]
    askers: list[Asker] = field(default_factory=list)
    problem: TensorhubError | None = None
    tried: str = ""
    settled: bool = False
    adopted: bool = False

    @property
    def verdict(self) -> tuple[bool, str]:
        """What others that take it as a step look at."""
        return self.settled, "" if self.problem is None else self.problem.message


class Ensembles:
    """See the module."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._wanted: dict[str, _Ensemble] = {}
        self._brought: set[str] = set()

    def __repr__(self) -> str:
        return f"<Ensembles {len(self._wanted)} wanted, {len(self._brought)} models came with them>"

    @property
    def follow(self) -> bool:
        """An ensemble is being loaded."""
        return any(self._loads(name) for name in self._wanted)

    def paths(self) -> set[str]:
        """Return the folders of all ensembles that are wanted, loaded or not."""
        return {ensemble.plan.path for ensemble in self._wanted.values()}

    def want(self, plan: LoadPlan, asker: Asker | None = None) -> None:
        """An ensemble is to be served; `settle` follows."""
        config = messages.ModelConfig.FromString(plan.config)
        old = self._wanted.get(plan.model)
        ensemble = self._wanted[plan.model] = _Ensemble(plan, config, _steps(config))
        if old is not None:
            ensemble.askers = old.askers
        if asker is not None:
            ensemble.askers.append(asker)

    def bring(self, name: str) -> None:
        """A model is going to be loaded because an ensemble needs it."""
        model = self._lifecycle.models.get(name)
        if name not in self._wanted and (model is None or not model.wanted):
            self._brought.add(name)

    def chosen(self, name: str) -> None:
        """A model is going to be loaded because somebody wants it for itself."""
        self._brought.discard(name)

    def unload(self, name: str, *, with_steps: bool) -> list[Action]:
        """A model is to go; `settle` follows."""
        self._brought.discard(name)
        ensemble = self._wanted.pop(name, None)
        actions = self._lifecycle.unload(name)
        if ensemble is not None:
            outdated = InvalidArgument(f"load failed for model '{name}': it has been unloaded meanwhile\n")
            actions += [Answer(asker, outdated) for asker in ensemble.askers]
            if with_steps:
                for step in ensemble.steps:
                    if step in self._brought and not any(step in other.steps for other in self._wanted.values()):
                        actions += self.unload(step, with_steps=True)
        return actions

    def settle(self) -> list[Action]:
        """Look at every ensemble again, after whatever has happened to models."""
        if not self._wanted:
            return []
        actions: list[Action] = []
        changed = True
        while changed:
            changed = False
            for name in sorted(self._wanted):
                ensemble = self._wanted[name]
                before = ensemble.verdict
                followed = self._settle_one(name, ensemble)
                actions += followed
                changed |= bool(followed) or ensemble.verdict != before
        self._lifecycle.awaited = {name for name, item in self._wanted.items() if not item.settled or self._loads(name)}
        self._lifecycle.check_started()
        return actions

    def adopt(self) -> None:
        """Want what workers have brought that another hub loaded."""
        for model in self._lifecycle.models.values():
            loads = [version.current for version in model.versions.values() if version.current is not None]
            if not loads or model.name in self._wanted:
                continue
            config = messages.ModelConfig.FromString(loads[0].final_config)
            if model_config.is_ensemble(config):
                plan = LoadPlan(
                    model.name,
                    loads[0].path,
                    loads[0].final_config,
                    [load.version for load in loads],
                    1,
                    overridden=loads[0].overridden,
                    fingerprint=loads[0].fingerprint,
                )
                self._wanted[model.name] = _Ensemble(plan, config, _steps(config), settled=True, adopted=True)

    def _settle_one(self, name: str, ensemble: _Ensemble) -> list[Action]:
        if any(self._is_pending(step) for step in ensemble.steps):
            ensemble.settled = False
            return []
        try:
            plan = self._fitted(ensemble)
        except TensorhubError as exc:
            return self._refuse(name, ensemble, exc)
        ensemble.settled, ensemble.problem = True, None
        tried, ensemble.tried = ensemble.tried, plan.fingerprint
        if not ensemble.askers and (tried == plan.fingerprint or self._serves(name, plan)):
            return []
        askers: list[Asker | None] = [*ensemble.askers] or [None]
        ensemble.askers = []
        return [action for asker in askers for action in self._lifecycle.load(plan, asker, 0)]

    def _is_pending(self, name: str) -> bool:
        """What becomes of a model is not known yet."""
        if self._loads(name):
            return True
        ensemble = self._wanted.get(name)
        return ensemble is not None and not ensemble.settled and name not in self._circle(name)

    def _loads(self, name: str) -> bool:
        model = self._lifecycle.models.get(name)
        return model is not None and any(version.incoming is not None for version in model.versions.values())

    def _circle(self, name: str) -> list[str]:
        """Return the way from an ensemble back to itself, or nothing."""
        front: list[list[str]] = [[name]]
        seen: set[str] = set()
        while front:
            way = front.pop(0)
            ensemble = self._wanted.get(way[-1])
            for step in sorted(ensemble.steps) if ensemble is not None else ():
                if step == name:
                    return way
                if step not in seen:
                    seen.add(step)
                    front.append([*way, step])
        return []

    def _fitted(self, ensemble: _Ensemble) -> LoadPlan:
        """Return the plan with which an ensemble can be loaded now.

        Raises:
            InvalidArgument: it cannot; Triton's text.
        """
        name = ensemble.plan.model
        circle = self._circle(name)
        if circle:
            first, last = bare_name(name), bare_name(circle[-1])
            raise InvalidArgument(f"circular dependency between ensembles: {first} -> ... -> {last} -> {first}")
        models = self._lifecycle.models
        missing = sorted(step for step in ensemble.steps if not self._is_there(step))
        if missing:
            raise InvalidArgument(
                f"ensemble {bare_name(name)} contains models that are not available or ambiguous: "
                f"{', '.join(map(bare_name, missing))}"
            )
        configs = {}
        for step, versions in sorted(ensemble.steps.items()):
            served = _served(models[step])
            step_name = bare_name(step)
            depends = f"ensemble '{bare_name(name)}' depends on '{step_name}'"
            if step in self._wanted and (problem := self._wanted[step].problem) is not None:
                raise InvalidArgument(
                    f"{depends} which is not valid. Model '{step_name}' failed with error: {problem.message}"
                )
            if not served:
                raise InvalidArgument(
                    f"{depends} which has no loaded version. Model '{step_name}' loading failed with error: "
                    f"{_reasons(models[step])}"
                )
            for version in sorted(versions - served.keys() - {-1}):
                raise InvalidArgument(f"{depends} whose required version {version} is not loaded.")
            configs[step] = messages.ModelConfig.FromString(served[max(served)].final_config)
        config = messages.ModelConfig()
        config.CopyFrom(ensemble.config)
        config.model_transaction_policy.decoupled = check_steps(ensemble.config, configs)
        data = config.SerializeToString(deterministic=True)
        fingerprint = ensemble.plan.fingerprint
        if not ensemble.adopted or config != ensemble.config:
            fingerprint = hashlib.blake2b(fingerprint.encode() + data, digest_size=16).hexdigest()
        workers = self._workers(ensemble)
        return replace(ensemble.plan, config=data, auto_complete=False, fingerprint=fingerprint, workers=workers)

    def _is_there(self, name: str) -> bool:
        """A model is known, and nobody has taken it away."""
        if name in self._wanted:
            return True
        model = self._lifecycle.models.get(name)
        return model is not None and model.wanted and bool(model.versions)

    def _workers(self, ensemble: _Ensemble) -> tuple[str, ...]:
        """Return the workers that have most of the steps: what they pass on then stays in one process."""
        counts: dict[str, int] = {}
        for step in ensemble.steps:
            for load in _served(self._lifecycle.models[step]).values():
                for worker in load.workers:
                    counts[worker] = counts.get(worker, 0) + 1
        most = max(counts.values())
        return tuple(sorted(worker for worker, count in counts.items() if count == most))

    def _serves(self, name: str, plan: LoadPlan) -> bool:
        model = self._lifecycle.models.get(name)
        if model is None or not model.wanted:
            return False
        loads = [version.current or version.incoming for version in model.versions.values()]
        return any(load is not None and load.fingerprint == plan.fingerprint for load in loads)

    def _refuse(self, name: str, ensemble: _Ensemble, error: TensorhubError) -> list[Action]:
        """An ensemble cannot be served as it is: what serves it goes, and who asked hears why."""
        models = self._lifecycle.models
        actions: list[Action] = []
        model = models.get(name)
        if model is not None and any(version.current or version.incoming for version in model.versions.values()):
            actions += self._lifecycle.unload(name)
        elif model is None or not model.versions:
            models[name] = Model(name, reason=error.message, known=False)
            self._lifecycle.dirty |= not ensemble.settled
        ensemble.settled, ensemble.problem, ensemble.tried = True, error, ""
        told = InvalidArgument(f"load failed for model '{bare_name(name)}': {error.message}\n")
        askers, ensemble.askers = ensemble.askers, []
        return actions + [Answer(asker, told) for asker in askers]


def is_ensemble(plan: LoadPlan) -> bool:
    """Whether a plan is that of an ensemble."""
    return model_config.is_ensemble(messages.ModelConfig.FromString(plan.config))


def step_names(plan: LoadPlan) -> Iterator[str]:
    """Yield the models of the steps of an ensemble's plan; nothing for another model's."""
    config = messages.ModelConfig.FromString(plan.config)
    if model_config.is_ensemble(config):
        yield from _steps(config)


def _steps(config: Any) -> dict[str, frozenset[int]]:
    steps: dict[str, frozenset[int]] = {}
    for step in config.ensemble_scheduling.step:
        key = step_model(step)
        steps[key] = steps.get(key, frozenset()) | {step.model_version}
    return steps


def _served(model: Model) -> dict[int, Any]:
    """Return the loads that serve a model, by version."""
    return {
        number: version.current
        for number, version in model.versions.items()
        if version.current is not None and version.current.state in (LoadState.SERVING, LoadState.RESTORING)
    }


def _reasons(model: Model) -> str:
    """Return why a model is not served, as its load's caller hears it."""
    return "".join(
        f"version {number} is at UNAVAILABLE state: {version.reason};"
        for number, version in sorted(model.versions.items())
    )
