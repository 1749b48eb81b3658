"""What the model repository proposes: the loads of a model, or the reason why there can be none. Values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tensorhub.hub.own_workers import OwnWorker


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What is to be loaded for a model.

    Attributes:
        versions: those to serve, ascending; at least one.
        instances: how many the config wants, over all its groups: among so many workers it can be shared.
        by_device: how many on each device; see `placement`. Empty: all on the processor.
        overridden: the config came with the load request.
        workers: names of those that shall have it, if the hub is not to choose.
        fingerprint: of the files and of the config without its version policy: a version that is served with the same
            one is left as it is. "" never matches.
        meets_others: its instances share resources with those of other models: all such models are on one worker.
        keeps_order: of its responses: its instances on a device are on one worker, which sees to that.
        own_worker: the worker that the model has to itself, or None if it shares the server's.
    """

    model: str
    path: str
    config: bytes
    versions: Sequence[int]
    instances: int
    overridden: bool = False
    auto_complete: bool = True
    fingerprint: str = ""
    own_worker: OwnWorker | None = None
    by_device: Mapping[int, int] = field(default_factory=dict)
    workers: tuple[str, ...] = ()
    meets_others: bool = False
    keeps_order: bool = False


@dataclass(frozen=True, slots=True)
class LoadFailure:
    """A model that cannot even be tried; `known` if its config was read and it is something else that is missing."""

    model: str
    reason: str
    known: bool
