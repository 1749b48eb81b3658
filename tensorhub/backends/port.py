"""What a backend is: how the worker loads a model, runs it and lets it go.

A backend is found by its name in config.backend; others come in through the entry point group `tensorhub.backends`,
whose objects are instances of Backend. A model version is loaded once in a worker process; each of its instances has a
thread of the worker (or runs on its loop), and `execute` is never called twice at a time on one instance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from tensorhub.requests import InferRequest


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model version comes from.

    Attributes:
        name: the model's name.
        version: its number.
        folder: absolute path of the model's folder; the version's files are in folder/version.
        config: the `inference.ModelConfig`; complete for `load`, as read for `auto_complete`.
        backend_config: `--backend-config` settings of this backend.
    """

    name: str
    version: int
    folder: str
    config: Any
    backend_config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """One instance of an instance group.

    Attributes:
        name: Triton's, `<group>_<i>`; it appears in error texts.
        kind: "CPU", "GPU" or "MODEL".
        device_id: of a GPU, else 0.
    """

    name: str
    kind: str = "CPU"
    device_id: int = 0


class ComputeTimes(NamedTuple):
    """Where the parts of an execution meet, for the statistics; CLOCK_MONOTONIC in ns.

    Attributes:
        input_end_ns: the inputs were in the form that the model takes.
        output_start_ns: the model had finished.
    """

    input_end_ns: int
    output_start_ns: int


class ModelInstance(Protocol):
    """What runs requests.

    An attribute `readiness_check`, if it has one and that is not None, is a function that tells whether the instance is
    ready. It may be called at any time, also while `execute` runs, on any thread, and raises nothing.
    """

    def execute(self, requests: Sequence[InferRequest]) -> ComputeTimes | None:
        """Run a batch.

        Every request must sooner or later be answered finally: before this returns or, for decoupled models and
        requests marked as `deferred`, by a thread of the model. Anything raised fails the requests that are still
        unanswered, a TensorhubError with its own code, everything else as INTERNAL.

        Returns:
            How the time was spent; None counts all of it as inference.
        """

    def finalize(self) -> None:
        """Let the instance go; `execute` is not running and will not be called again."""


class LoadedModel(Protocol):
    """One loaded version.

    An attribute `calls_models`, if it has one and that is true, says that its instances may call other models and wait
    for them: then they run on threads of their own only.
    """

    def new_instance(self, spec: InstanceSpec) -> ModelInstance:
        """Make an instance.

        Raises:
            TensorhubError: it cannot be made; the message is the reason that the repository index shows.
        """

    def unload(self) -> None:
        """Let the version go, after the `finalize` of all its instances."""


class Backend(Protocol):
    """A way to run models."""

    def auto_complete(self, source: ModelSource) -> Any:
        """Return the `inference.ModelConfig` with what the model itself can tell filled in.

        Raises:
            TensorhubError: the config and the model contradict each other.
        """

    def load(self, source: ModelSource) -> LoadedModel:
        """Load one version.

        Raises:
            TensorhubError: it cannot be loaded; the message is the reason that the repository index shows.
        """
