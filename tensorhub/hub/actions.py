"""What the hub's decisions come out as: the things that its loop then does. Values only."""

from dataclasses import dataclass
from typing import Any

from tensorhub.errors import TensorhubError


@dataclass(frozen=True, slots=True)
class Asker:
    """Who made a control call."""

    role: str
    pid: int
    request_id: int
    generation: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send a `tensorhub.wire.Order` to a worker.

    Attributes:
        after_snapshot: only when every frontend has the snapshot that shows what this decision has changed.
    """

    pid: int
    order: Any
    request_id: int = 0
    after_snapshot: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer a control call, once every frontend has what it changed."""

    asker: Asker
    error: TensorhubError | None = None


Action = Send | Answer
