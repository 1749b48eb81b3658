"""A frontend's copy of the server's state: which models there are, who serves them, what is registered. Pure.

Built from one `tensorhub.wire.Snapshot` and never changed; the next snapshot makes the next catalog. Everything that a
frontend answers without asking anybody comes from here. The lookup errors are Triton's (GetModel in its repository
manager).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tensorhub.errors import InvalidArgument, NotFound, Unavailable
from tensorhub.ownership import parse_scope
from tensorhub.protocol import messages
from tensorhub.protocol.model_names import bare_name, model_key
from tensorhub.protocol.sharing import guards_outputs
from tensorhub.protocol.trace_settings import unknown_model

READY = "READY"
LOADING = "LOADING"
LATEST = -1

_LEADING_INTEGER = re.compile(r"[ \t\n\v\f\r]*([+-]?)0*([0-9]+)")
_MAX_DIGITS = 19
"""Of an int64."""

NO_HUB = (
    "the server is not ready: no hub has answered yet. Start it with 'tensorhub serve', or 'tensorhub-hub' and "
    "'tensorhub-worker' with the same --run-dir (TENSORHUB_RUN_DIR) as this process"
)


@dataclass(frozen=True)
class ServedVersion:
    """One version of a model, as the hub last knew it.

    Attributes:
        workers: pids of those that serve it now.
        shares: names of all that share it, with their pids; 0 for one that is dead or not ready.
        path: the model's folder.
        asks_ready: it has to be asked whether it is ready: see `readiness`.
    """

    model: str
    version: int
    state: str
    reason: str
    workers: tuple[int, ...]
    config_bytes: bytes
    load_id: int = 0
    shares: Mapping[str, int] = field(default_factory=dict)
    path: str = ""
    asks_ready: bool = False

    @cached_property
    def config(self) -> Any:
        """The complete `inference.ModelConfig`."""
        return messages.ModelConfig.FromString(self.config_bytes)

    @cached_property
    def decoupled(self) -> bool:
        return bool(self.config.model_transaction_policy.decoupled)

    @cached_property
    def sequential(self) -> bool:
        """Its requests belong to sequences, each of which stays on one worker."""
        return bool(self.config.HasField("sequence_batching"))

    @property
    def ready(self) -> bool:
        return self.state == READY

    @property
    def awaits_worker(self) -> bool:
        """It was served, its worker has died, and the next one is loading it."""
        return self.state == LOADING and self.load_id != 0


@dataclass(frozen=True)
class CatalogModel:
    """A model of the repository, loaded or not."""

    name: str
    versions: Mapping[int, ServedVersion]
    wanted: bool
    reason: str
    known: bool = True

    @cached_property
    def ready_versions(self) -> list[int]:
        """In ascending order."""
        return sorted(number for number, version in self.versions.items() if version.ready)


class Catalog:
    """The state of the server at one revision.

    Attributes:
        connected: a hub has answered at least once.
        has_cuda: a CUDA region is registered.
        scope: --shm-scope; divided: whether it makes a difference between clients.
        guards_outputs: not every client may have the server make regions for outputs.
        settings: the server's options by their command line name, e.g. `http-max-input-size`.
    """

    def __init__(self, snapshot: Any = None) -> None:
        self.connected = snapshot is not None
        self._snapshot = snapshot if snapshot is not None else messages.Snapshot()
        self.revision: int = self._snapshot.revision
        self.started: bool = self._snapshot.started
        self.stopping: bool = self._snapshot.stopping
        self.settings: dict[str, str] = dict(self._snapshot.settings)
        self.scope = parse_scope(self.settings.get("shm-scope", "global"))
        self.divided = self.scope.divides
        self.guards_outputs = guards_outputs(self.settings)
        self.has_cuda = bool(self._snapshot.cuda_regions)
        self._latest: dict[str, ServedVersion] = {}

    @property
    def known(self) -> Any:
        """The `tensorhub.wire.Model` messages: what a hub that is new needs."""
        return self._snapshot.models

    @cached_property
    def models(self) -> dict[str, CatalogModel]:
        pids = {process.name: process.pid for process in self._snapshot.processes if process.role == "WORKER"}
        return {
            model_key(model.namespace, model.name): CatalogModel(
                model.name,
                {
                    item.version: ServedVersion(
                        model.name,
                        item.version,
                        item.state,
                        item.reason,
                        tuple(item.workers),
                        item.config,
                        item.load_id,
                        {name: pid if (pid := pids.get(name, 0)) in item.workers else 0 for name in item.shares},
                        item.path,
                        item.asks_ready,
                    )
                    for item in model.versions
                },
                model.wanted,
                model.reason,
                model.known,
            )
            for model in self._snapshot.models
        }

    @cached_property
    def devices(self) -> dict[int, str]:
        """Pid of each worker to its device: a GPU's UUID, or `CPU`."""
        return {process.pid: process.device for process in self._snapshot.processes if process.role == "WORKER"}

    def system_regions(self, owner: str = "") -> dict[str, Any]:
        """Return an owner's: name to `tensorhub.wire.SystemRegion`, in name order."""
        return _regions_of(self._snapshot.system_regions, owner)

    def cuda_regions(self, owner: str = "") -> dict[str, Any]:
        """Return an owner's: name to `tensorhub.wire.CudaRegion`, in name order."""
        return _regions_of(self._snapshot.cuda_regions, owner)

    @property
    def processes(self) -> Any:
        return self._snapshot.processes

    def check_connected(self) -> None:
        """Raise what every call gets while no hub has answered.

        Raises:
            Unavailable: no hub yet.
        """
        if not self.connected:
            raise Unavailable(NO_HUB)

    def check_serving(self) -> None:
        """Raise what every call gets while the server cannot answer.

        Raises:
            Unavailable: no hub yet, or the server is on its way out.
        """
        self.check_connected()
        if self.stopping:
            raise Unavailable("Server exiting")

    @property
    def live(self) -> bool:
        """Whether the server has started: its start-up models have been dealt with, ready or failed."""
        return self.started

    @cached_property
    def ready(self) -> bool:
        """Whether the server is ready in Triton's sense: started, and (strictly) every wanted model is served.

        A model whose config could not even be read does not count, as in Triton.
        """
        if not self.connected or not self.started or self.stopping:
            return False
        if self.settings.get("strict-readiness", "true") != "true":
            return True
        return all(
            model.ready_versions and all(v.ready or v.reason == "unloaded" for v in model.versions.values())
            for model in self.models.values()
            if model.wanted and model.known
        )

    @cached_property
    def asked_when_ready(self) -> tuple[int, ...]:
        """The loads that have to be asked as well whether the server is ready."""
        if self.settings.get("strict-readiness", "true") != "true":
            return ()
        versions = (version for model in self.models.values() for version in model.versions.values())
        return tuple([version.load_id for version in versions if version.ready and version.asks_ready])

    @property
    def _namespacing(self) -> bool:
        return self.settings.get("model-namespacing") == "true"

    def _of_a_repository(self, name: str) -> CatalogModel | None:
        """Return the one model that has this name, of those whose name several repositories have.

        Raises:
            InvalidArgument: several are loaded, and the name does not say which one is meant.
            NotFound: none is loaded.
        """
        if not self._namespacing:
            return None
        same = [model for key, model in self.models.items() if model.name == name != key]
        loaded = [model for model in same if model.wanted]
        if len(loaded) > 1:
            raise InvalidArgument(
                f"There are {len(loaded)} identifiers of model '{name}' in global map, model namespace must be "
                "provided to resolve ambiguity."
            )
        if same and not loaded:
            raise NotFound(f"Identifier of model '{name}' is not found in global map")
        return loaded[0] if loaded else None

    def ready_versions(self, name: str) -> list[int]:
        """Return the versions that `find` chooses from, ascending; for a name that it finds."""
        model = self.models.get(name) or self._of_a_repository(name)
        return model.ready_versions if model is not None else []

    def check_traced(self, name: str) -> None:
        """Check that there are trace settings of a model; "" stands for the server.

        Raises:
            InvalidArgument: it is not served.
        """
        if name and not self.ready_versions(name):
            raise unknown_model(name)

    def find(self, name: str, version: int = LATEST) -> ServedVersion:
        """Return the version of a model that serves a request.

        Args:
            name: the model's name.
            version: a number, or LATEST for the highest one that is ready.

        Raises:
            NotFound: no such model or version, or none of it is ready.
            Unavailable: that version is known and not ready, or its worker is being restarted; or the server is
                starting or stopping.
        """
        if version == LATEST:
            found = self._latest.get(name)
            if found is not None:
                return found
        self.check_serving()
        model = self.models.get(name) or self._of_a_repository(name)
        key = name
        if self._namespacing:
            name = bare_name(name)
        if not self.started and (model is None or not model.ready_versions):
            raise Unavailable(f"Request for model '{name}': the server is starting, try again")
        if model is None or not (model.versions or model.known):
            unknown = f"Request for unknown model: '{name}' is not found"
            raise InvalidArgument(unknown) if self._namespacing else NotFound(unknown)
        if version == LATEST:
            if not model.ready_versions:
                if any(item.awaits_worker for item in model.versions.values()):
                    raise Unavailable(f"Request for model '{name}': its worker process is being restarted, try again")
                raise NotFound(f"Request for unknown model: '{name}' has no available versions")
            found = self._latest[key] = model.versions[model.ready_versions[-1]]
            return found
        served = model.versions.get(version)
        if served is None:
            raise NotFound(f"Request for unknown model: '{name}' version {version} is not found")
        if not served.ready:
            raise Unavailable(f"Request for unknown model: '{name}' version {version} is not at ready state")
        return served


def _regions_of(regions: Any, owner: str) -> dict[str, Any]:
    found = [region for region in regions if region.owner == owner]
    return {region.name: region for region in sorted(found, key=lambda item: item.name)}


def parse_version(text: str) -> int:
    """Read a version as clients write it: "" is LATEST, otherwise what C++'s `stol` reads at the start of the text.

    So white space before the number and anything after it do not matter, as in Triton.

    Raises:
        InvalidArgument: it does not begin with a number, or the number is out of range or negative.
    """
    if text == "":
        return LATEST
    match = _LEADING_INTEGER.match(text)
    number = None
    if match is not None and len(match[2]) <= _MAX_DIGITS:
        number = int(match[1] + match[2])
    if number is None or not -(2**63) <= number < 2**63:
        raise InvalidArgument(
            f"failed to get model version from specified version string '{text}' (details: stol), version should be "
            "an integral value > 0"
        )
    if number < 0:
        raise InvalidArgument(f"invalid model version specified '{text}' , version should be an integral value > 0")
    return number
