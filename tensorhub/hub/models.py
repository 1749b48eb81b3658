"""A model and its versions as the hub sees them, and how they are shown to clients. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tensorhub.errors import TITLES, TensorhubError
from tensorhub.hub.loads import Load, LoadState
from tensorhub.protocol import messages
from tensorhub.protocol.model_names import bare_name, namespace_of

UNLOADED = "unloaded"
"""Triton's reason of a version that is gone because somebody wanted it so; it does not count against readiness."""

RESTARTING = "the worker process is being restarted"


@dataclass(slots=True)
class Version:
    """One version of a model.

    Attributes:
        current: the load that serves it; `incoming`: the one that will; `leaving`: the last one, while it is unloaded.
        reason: why none of these is there.
    """

    number: int
    current: Load | None = None
    incoming: Load | None = None
    leaving: Load | None = None
    reason: str = ""

    def state(self) -> tuple[str, str]:
        """Return Triton's name for its state, and the reason."""
        if self.current is not None:
            return ("READY", "") if self.current.ready else ("LOADING", RESTARTING)
        if self.incoming is not None:
            return "LOADING", progress_text(self.incoming)
        if self.leaving is not None and self.leaving.state is LoadState.RETIRED:
            return "UNLOADING", ""
        return "UNAVAILABLE", self.reason

    def show(self, model: str, pids: Mapping[str, int]) -> Any:
        """Return it as a `tensorhub.wire.ModelVersion`.

        Args:
            pids: worker's name to its pid; 0 for one that is not there.
        """
        state, reason = self.state()
        shown = messages.ModelVersion(model=model, version=self.number, state=state, reason=reason)
        load = self.current
        if load is not None:
            shown.workers.extend(sorted(pids[name] for name in load.ready if pids[name]))
            shown.shares.extend(load.workers)
            shown.load_id = load.load_id
            shown.config = load.final_config
            shown.path = load.path
            shown.overridden = load.overridden
            shown.fingerprint = load.fingerprint
            shown.asks_ready = load.asks_ready
        elif state == "UNLOADING" and self.leaving is not None:
            shown.load_id = self.leaving.load_id  # for the next hub
        return shown


@dataclass(slots=True)
class Model:
    """A model that has been asked for at least once.

    Attributes:
        name: its key; see protocol.model_names.
        wanted: it should be served; counts for readiness.
        reason: why it has no version.
        known: its config could be read once.
        planned: the versions of the newest plan; None: no plan of this hub.
    """

    name: str
    wanted: bool = True
    reason: str = ""
    known: bool = True
    planned: frozenset[int] | None = None
    versions: dict[int, Version] = field(default_factory=dict)

    def show(self, pids: Mapping[str, int]) -> Any:
        """Return it as a `tensorhub.wire.Model`."""
        shown = messages.message_class("tensorhub.wire.Model")(
            name=bare_name(self.name),
            namespace=namespace_of(self.name),
            wanted=self.wanted,
            reason=self.reason,
            known=self.known,
        )
        shown.versions.extend(version.show(bare_name(self.name), pids) for version in self.versions.values())
        return shown


def progress_text(load: Load, now_ns: int = 0) -> str:
    """Return what a long load is at, and since when if the time is given; "" if no worker has said anything yet."""
    steps = [f"{text} on {name}" for name, text in sorted(load.progress.items()) if name in load.told]
    if not steps:
        return ""
    since = f" for {(now_ns - load.started_ns) // 1_000_000_000} s" if now_ns and load.started_ns else ""
    return f"loading{since}: {'; '.join(steps)}"


def error_text(error: TensorhubError | None) -> str:
    """Print an error as Triton does inside another one: `Invalid argument: ...`."""
    return f"{TITLES[error.code]}: {error.message}" if error is not None else ""
