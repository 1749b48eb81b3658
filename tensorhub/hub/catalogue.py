"""From the model repository to load plans: what the hub asks when models are to be loaded."""

import logging
from collections.abc import Mapping

from tensorhub.errors import InvalidArgument, NotFound, TensorhubError
from tensorhub.hub import overrides
from tensorhub.hub.repository import (
    OVERRIDE_NEEDS_CONFIG,
    ModelFolder,
    Repository,
    check_model_name,
    no_version,
    poll_failure,
    read_folder,
    resolve,
)
from tensorhub.hub.state import LoadFailure, LoadPlan
from tensorhub.option_groups import ModelRepository

log = logging.getLogger(__name__)


class ModelCatalogue:
    """The repositories, and what was last loaded from them."""

    def __init__(self, options: ModelRepository) -> None:
        self._options = options
        self._repository = Repository(options.model_repository, options.model_config_name)
        self._loaded: dict[str, object] = {}
        self._without_version: set[str] = set()
        self._folders: dict[str, overrides.OverrideFolder] = {}

    def check(self) -> None:
        """Raise InvalidArgument, in one line, if a repository cannot be read."""
        self._repository.check()

    def names(self) -> list[str]:
        """Every model of the repositories, loaded or not, but for those last seen without a version to serve."""
        return [name for name in self._repository.names() if name not in self._without_version]

    def startup(self, rejoined: bool) -> tuple[list[LoadPlan], list[LoadFailure]]:
        """Return what to load at the start, and what cannot be.

        Args:
            rejoined: workers came with the models that another hub loaded: in explicit mode those are the ones wanted.
        """
        options = self._options
        if options.model_control_mode != "explicit":
            names = self.names()
        elif rejoined:
            names = []
        elif options.load_model == ("*",):
            names = self.names()
        else:
            names = list(options.load_model)
        plans, failed = [], []
        for name in names:
            try:
                plan = self.plan(name, None, {}, again=True)
            except TensorhubError as exc:
                log.error("failed to load '%s': %s", name, exc.message)
                failed.append(LoadFailure(name, exc.message, name in self._without_version))
            else:
                if plan is not None:
                    plans.append(plan)
        return plans, failed

    def plan(
        self, name: str, override: str | None, files: Mapping[str, bytes], *, again: bool = False
    ) -> LoadPlan | None:
        """Return what to load for a model; None if its files are as they were when it was loaded last.

        Args:
            override: a ModelConfig as JSON in place of config.pbtxt, or None.
            files: the content of `file:` parameters in place of the model's folder.
            again: plan it even if nothing has changed.

        Raises:
            TensorhubError: Triton's text for what is wrong.
        """
        check_model_name(name)
        if files:
            folder = self._materialised(name, override, files)
        else:
            try:
                folder = self._repository.read(name)
            except NotFound as exc:
                raise poll_failure(name) from exc
        state = (folder.fingerprint, override, tuple(sorted(files)))
        if not again and override is None and not files and self._loaded.get(name) == state:
            return None
        try:
            definition = resolve(
                folder, auto_complete=not self._options.disable_auto_complete_config, override=override
            )
        except TensorhubError as exc:
            log.error("failed to poll model '%s': %s", name, exc.message)
            raise poll_failure(name) from exc
        self._without_version.discard(name)
        if not definition.versions:
            self._without_version.add(name)
            raise InvalidArgument(f"load failed for model '{name}': {no_version(name)}\n")
        self._loaded[name] = state
        groups = definition.config.instance_group
        return LoadPlan(
            name,
            folder.path,
            definition.config.SerializeToString(),
            definition.versions,
            sum(max(1, group.count) for group in groups) or 1,
            overridden=override is not None,
            auto_complete=not self._options.disable_auto_complete_config,
        )

    def _materialised(self, name: str, override: str | None, files: Mapping[str, bytes]) -> ModelFolder:
        if override is None:
            raise InvalidArgument(OVERRIDE_NEEDS_CONFIG)
        made = overrides.materialise(files, name)
        old = self._folders.pop(name, None)
        if old is not None:
            old.remove()
        self._folders[name] = made
        return read_folder(name, made.path)

    def close(self) -> None:
        """Remove what was written for `file:` parameters."""
        for folder in self._folders.values():
            folder.remove()
