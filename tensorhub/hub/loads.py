"""One load of a model version: its states, and what leads from one to another. Pure.

    LOADING --complete--> LOADED --switch--> SERVING --lost--> RESTORING
     |    <-----lost-----                        <---complete---
     `--fail--> FAILED                    either --fail--> FAILED

and from each of them `retire` leads to RETIRED, which ends when no worker has it any more.
"""

from dataclasses import dataclass, field
from enum import Enum

from tensorhub.errors import TensorhubError


class LoadState(Enum):
    """Where a load is; the value is for people."""

    LOADING = "loading"  # not all its workers have it yet
    LOADED = "loaded"  # all have it; it waits for the other versions of its plan
    SERVING = "serving"
    RESTORING = "restoring"  # it serves, but a worker of it has died and has to load it again
    FAILED = "failed"  # a worker could not load it
    RETIRED = "retired"  # its workers let it go, each when its last request has been answered


class LoadEvent(Enum):
    """What can happen to a load."""

    COMPLETE = "complete"  # the last of its workers has it
    LOST = "lost"  # a worker that had it has died
    FAIL = "fail"
    SWITCH = "switch"  # it takes its version over
    RETIRE = "retire"


TRANSITIONS: dict[tuple[LoadState, LoadEvent], LoadState] = {
    (LoadState.LOADING, LoadEvent.COMPLETE): LoadState.LOADED,
    (LoadState.LOADING, LoadEvent.LOST): LoadState.LOADING,
    (LoadState.LOADING, LoadEvent.FAIL): LoadState.FAILED,
    (LoadState.LOADING, LoadEvent.RETIRE): LoadState.RETIRED,
    (LoadState.LOADED, LoadEvent.SWITCH): LoadState.SERVING,
    (LoadState.LOADED, LoadEvent.LOST): LoadState.LOADING,
    (LoadState.LOADED, LoadEvent.RETIRE): LoadState.RETIRED,
    (LoadState.SERVING, LoadEvent.COMPLETE): LoadState.SERVING,
    (LoadState.SERVING, LoadEvent.LOST): LoadState.RESTORING,
    (LoadState.SERVING, LoadEvent.FAIL): LoadState.FAILED,
    (LoadState.SERVING, LoadEvent.RETIRE): LoadState.RETIRED,
    (LoadState.RESTORING, LoadEvent.COMPLETE): LoadState.SERVING,
    (LoadState.RESTORING, LoadEvent.LOST): LoadState.RESTORING,
    (LoadState.RESTORING, LoadEvent.FAIL): LoadState.FAILED,
    (LoadState.RESTORING, LoadEvent.RETIRE): LoadState.RETIRED,
    (LoadState.FAILED, LoadEvent.LOST): LoadState.FAILED,
    (LoadState.FAILED, LoadEvent.RETIRE): LoadState.RETIRED,
    (LoadState.RETIRED, LoadEvent.LOST): LoadState.RETIRED,
}

WANTED = frozenset((LoadState.LOADING, LoadState.LOADED, LoadState.SERVING, LoadState.RESTORING))
"""The states in which a worker that joins is told to load it."""


class IllegalTransition(Exception):
    """An event that cannot happen in this state: a fault of the hub."""


@dataclass(slots=True, repr=False)
class Load:
    """One load of one model version, on one or several workers.

    Attributes:
        path: the model's folder; `config`: the `inference.ModelConfig` to load it with, serialised.
        workers: names of the workers that share it, in the order of their shares.
        fingerprint: of what it was made from: a load of the same need not be made again.
        ready: the workers that have it; `told`: those that were told to load it and have not answered.
        progress: what those that load it are at, by worker; since `started_ns`.
        final_config: as the workers completed it.
        asks_ready: it has to be asked whether it is ready.
        error: why it FAILED.
        crashes: how often a worker has died over it.
    """

    load_id: int
    model: str
    version: int
    path: str
    config: bytes
    workers: tuple[str, ...]
    auto_complete: bool = True
    overridden: bool = False
    fingerprint: str = ""
    started_ns: int = 0
    state: LoadState = LoadState.LOADING
    ready: set[str] = field(default_factory=set)
    told: set[str] = field(default_factory=set)
    progress: dict[str, str] = field(default_factory=dict)
    final_config: bytes = b""
    asks_ready: bool = False
    error: TensorhubError | None = None
    crashes: int = 0

    def __repr__(self) -> str:
        return f"<Load {self.load_id} of {self.model}:{self.version} {self.state.value}, ready on {sorted(self.ready)}>"

    def apply(self, event: LoadEvent) -> None:
        """Move to the next state.

        Raises:
            IllegalTransition: the event cannot happen now.
        """
        try:
            self.state = TRANSITIONS[self.state, event]
        except KeyError:
            raise IllegalTransition(f"{event.value} while {self!r}") from None

    @property
    def complete(self) -> bool:
        """All its workers have it."""
        return self.ready >= set(self.workers)

    @property
    def held(self) -> bool:
        """Some worker has it, or will have."""
        return bool(self.ready or self.told)
