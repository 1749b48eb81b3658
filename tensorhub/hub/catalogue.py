"""From the model repository to load plans: what the hub asks when models are to be loaded."""

import hashlib
import logging
import os
from collections.abc import Collection, Iterable, Mapping, Sequence

from tensorhub.errors import InvalidArgument, NotFound, TensorhubError
from tensorhub.hub import overrides
from tensorhub.hub.cloud import local_repositories
from tensorhub.hub.ensembles import step_names
from tensorhub.hub.own_workers import own_worker
from tensorhub.hub.placement import instances_by_device
from tensorhub.hub.plans import LoadFailure, LoadPlan
from tensorhub.hub.repository import (
    OVERRIDE_NEEDS_CONFIG,
    Definition,
    ModelFolder,
    Repository,
    check_model_name,
    no_version,
    poll_failure,
    read_folder,
    resolve,
)
from tensorhub.option_groups import ModelRepository
from tensorhub.protocol import messages
from tensorhub.protocol.config_files import LeadsOut
from tensorhub.protocol.model_config import keeps_order
from tensorhub.protocol.model_names import bare_name, namespace_of

log = logging.getLogger(__name__)

NO_SUPERVISOR = (
    "load failed for model '{}': it needs a worker process of its own (parameters ISOLATE, EXECUTION_ENV_PATH), and "
    "only 'tensorhub serve' starts such processes"
)


class ModelCatalogue:
    """The repositories, and what was made of them.

    Not for two threads, but for `fingerprints` and `refresh`, which take their time and may run on others.

    Args:
        supervised: somebody starts worker processes for models that need their own.
        mirrors_in: a folder for mirrors of repositories in the cloud; "" if there are none.
        rate_limit: the rate limiter is on.

    Attributes:
        seen: the fingerprint of each model, as the repositories were when they were last followed; only in poll mode.
    """

    def __init__(
        self,
        options: ModelRepository,
        gpus: Sequence[str] = (),
        *,
        supervised: bool = True,
        mirrors_in: str = "",
        rate_limit: bool = False,
    ) -> None:
        """Begin with nothing made; `gpus` are the UUIDs of this server's."""
        self._gpus = gpus
        self._options = options
        self._rate_limit = rate_limit
        self._supervised = supervised
        folders, self._mirrors = local_repositories(options.model_repository, mirrors_in)
        self._repository = Repository(folders, options.model_config_name, namespacing=options.model_namespacing)
        self.seen: dict[str, str] = {}
        self._without_version: set[str] = set()
        self._folders: dict[str, tuple[str, overrides.OverrideFolder]] = {}

    def check(self) -> None:
        """Fetch what is in the cloud, and see that there are repositories to serve from.

        Raises:
            InvalidArgument: a repository cannot be read; one line.
        """
        try:
            self.refresh()
        except OSError as exc:
            raise InvalidArgument(f"--model-repository: {exc}") from exc
        self._repository.check()

    @property
    def remote(self) -> bool:
        """A repository is in the cloud: `refresh` before `plan`."""
        return bool(self._mirrors)

    def refresh(self, model: str = "") -> None:
        """Fetch what has changed in the cloud, of all models or of one; may take long, and may run on any thread.

        Raises:
            OSError: a repository cannot be read; what was fetched before is left as it was.
        """
        for mirror in self._mirrors:
            mirror.refresh(model)

    def names(self) -> list[str]:
        """Every model of the repositories, loaded or not, and those whose files came with a request."""
        return sorted({*self._repository.names(), *(name for name, _ in self._folders.values())})

    def duplicates(self) -> list[str]:
        """The models that several repositories have; none of these is served."""
        return self._repository.duplicates()

    def keys(self, name: str) -> list[str]:
        """Return the keys of the models of a name: itself, or with namespacing one for each repository that has it."""
        return self._repository.keys(name)

    def has_no_version(self, name: str) -> bool:
        """Whether a model's config could be read, and there was nothing to serve under its version policy."""
        return name in self._without_version

    def startup(self, dealt_with: Collection[str]) -> tuple[list[LoadPlan], list[LoadFailure], list[LoadPlan]]:
        """Return what to load at the start, what cannot be, and what is loaded only because ensembles need it.

        Args:
            dealt_with: models that another hub has loaded or unloaded: in explicit mode that stays as it is.
        """
        options = self._options
        if options.model_control_mode == "poll" and not self.seen:  # else the hub before this one has looked
            try:
                self.seen.update(self.fingerprints())
            except OSError as exc:
                log.warning("a model repository cannot be read, and is read again soon: %s", exc)
        if options.model_control_mode != "explicit":
            names = self._repository.names()
        elif options.load_model == ("*",):
            names = [name for name in self._repository.names() if name not in dealt_with]
        else:
            names = [key for name in options.load_model for key in self.keys(name) if key not in dealt_with]
        plans, failed = self._try(names)
        brought: dict[str, LoadPlan] = {}
        for plan in plans:
            brought.update((step.model, step) for step in self.steps_of(plan) if step.model not in names)
        return plans, failed, list(brought.values())

    def fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of every model, for `follow`; fetches what has changed in the cloud.

        Raises:
            OSError: a repository cannot be read.
        """
        self.refresh()
        return self._repository.fingerprints()

    def follow(self, found: Mapping[str, str]) -> tuple[list[LoadPlan], list[LoadFailure], list[str]]:
        """Return what has changed since the last call: what to load, what should be and cannot, and what to unload.

        Args:
            found: what `fingerprints` returned.
        """
        before = dict(self.seen)
        self.seen.clear()
        self.seen.update(found)
        plans, failed = self._try(sorted(name for name in found if before.get(name) != found[name]))
        return plans, failed, sorted(before.keys() - found.keys())

    def _try(self, names: Iterable[str]) -> tuple[list[LoadPlan], list[LoadFailure]]:
        plans, failed = [], []
        for name in names:
            try:
                plans.append(self.plan(name, None, {}))
            except TensorhubError as exc:
                log.error("failed to load '%s': %s", name, exc.message)
                failed.append(LoadFailure(name, exc.message, self.has_no_version(name)))
        return plans, failed

    def plan(self, name: str, override: str | None, files: Mapping[str, bytes], folder: str = "") -> LoadPlan:
        """Return what to load for a model.

        Args:
            name: its key.
            override: a ModelConfig as JSON in place of config.pbtxt, or None.
            files: the content of `file:` parameters in place of the model's folder.
            folder: of the model, which need not be called like it; "": the repositories' one.

        Raises:
            TensorhubError: Triton's text for what is wrong.
        """
        check_model_name(bare_name(name) if self._options.model_namespacing else name)
        found = self._read(name, override, files, folder)
        auto_complete = not self._options.disable_auto_complete_config
        try:
            definition = resolve(found, auto_complete=auto_complete, gpus=self._gpus, override=override)
        except LeadsOut:
            raise
        except TensorhubError as exc:
            log.error("failed to poll model '%s': %s", name, exc.message)
            raise poll_failure(name) from exc
        self._without_version.discard(name)
        if not definition.versions:
            self._without_version.add(name)
            raise InvalidArgument(f"load failed for model '{name}': {no_version(name)}\n")
        for step in definition.config.ensemble_scheduling.step:
            # As in Triton, which repository it is follows from the ensemble's, whatever its config says.
            step.model_namespace = namespace_of(self._repository.step_key(name, step.model_name))
        groups = definition.config.instance_group
        own = own_worker(definition.config, name, found.path, _stamp)
        if own is not None and not self._supervised:
            raise InvalidArgument(NO_SUPERVISOR.format(name))
        return LoadPlan(
            name,
            found.path,
            definition.config.SerializeToString(),
            definition.versions,
            sum(max(1, group.count) for group in groups if not group.passive) or 1,
            overridden=override is not None,
            auto_complete=auto_complete,
            # A config of a request is loaded each time, and the file's after it as well.
            fingerprint="" if override is not None else _fingerprint(found, definition),
            own_worker=own,
            by_device=instances_by_device(definition.config),
            meets_others=self._rate_limit and any(group.HasField("rate_limiter") for group in groups),
            keeps_order=keeps_order(definition.config),
        )

    def steps_of(self, plan: LoadPlan, *, all_readable: bool = False) -> list[LoadPlan]:
        """Return what to load for the steps of an ensemble, and for theirs, without those that cannot be loaded.

        Args:
            all_readable: one that is in the repository and whose config is wrong is an error, as when Triton is asked
                to load an ensemble.

        Raises:
            InternalError: there is such a one; Triton's text.
        """
        found: dict[str, LoadPlan] = {}
        names = list(step_names(plan))
        while names:
            name = names.pop()
            if name in found or name == plan.model:
                continue
            plans, failed = self._try([name])
            unreadable = [failure for failure in failed if failure.reason == poll_failure(name).message]
            if all_readable and unreadable and name in self._repository.names():
                raise poll_failure(plan.model)
            for step in plans:
                found[name] = step
                names.extend(step_names(step))
        return list(found.values())

    def _read(self, name: str, override: str | None, files: Mapping[str, bytes], folder: str) -> ModelFolder:
        if files:
            return self._materialised(name, override, files)
        if folder:
            read = read_folder(name, folder, self._options.model_config_name)
            # Its config may name it otherwise; here it is called as the caller says.
            read.config.name = ""
            return read
        try:
            return self._repository.read(name)
        except NotFound as exc:
            raise poll_failure(name) from exc

    def _materialised(self, name: str, override: str | None, files: Mapping[str, bytes]) -> ModelFolder:
        if override is None:
            raise InvalidArgument(OVERRIDE_NEEDS_CONFIG)
        made = overrides.materialise(files, name)
        self._folders[made.path] = name, made
        return read_folder(name, made.path)

    def adopt(self, name: str, path: str) -> None:
        """A worker serves a model from this folder; if another hub has made it for a request, it is now ours."""
        made = overrides.maybe_made(path)
        if made is not None:
            self._folders[path] = name, made

    def keep(self, paths: Collection[str]) -> None:
        """Remove what was written for `file:` parameters and is not among these folders, those of all loads."""
        for path in [path for path in self._folders if path not in paths]:
            self._folders.pop(path)[1].remove()

    def close(self) -> None:
        """Remove all that was written for `file:` parameters."""
        self.keep(())


def _stamp(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_mtime_ns} {status.st_size}"


def _fingerprint(folder: ModelFolder, definition: Definition) -> str:
    """Return what is the same as long as a served version need not be loaded anew."""
    config = messages.ModelConfig()
    config.CopyFrom(definition.config)
    config.ClearField("version_policy")
    digest = hashlib.blake2b(config.SerializeToString(deterministic=True), digest_size=16)
    return f"{folder.content}-{digest.hexdigest()}"
