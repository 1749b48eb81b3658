"""The phases of a server under `tensorhub serve`, and which processes end in which. Pure.

    STARTING --> SERVING --> NOTIFYING --> FRONTENDS --> WORKERS --> HUB --> STOPPED

Whoever depends on others ends before them, so that no request meets a server of which half is gone.
"""

from enum import Enum

from tensorhub.ipc.wire import Role

NOTICE_S = 1.0
"""How long everybody has to hear that the server stops, before the frontends are stopped."""
GRACE_S = 5.0
"""What workers and the hub have to end, also when the frontends have used up all the time."""


class Phase(Enum):
    """What the supervisor is at."""

    STARTING = "starting"  # until the start-up models have been dealt with and the frontends have joined
    SERVING = "serving"
    NOTIFYING = "notifying"  # all are told that the server stops
    FRONTENDS = "stopping the frontends"
    WORKERS = "stopping the workers"
    HUB = "stopping the hub"
    STOPPED = "stopped"

    @property
    def stopping(self) -> bool:
        """Whether the server is on its way to STOPPED."""
        return self in NEXT_WHEN_STOPPING


NEXT_WHEN_STOPPING = {
    Phase.NOTIFYING: Phase.FRONTENDS,
    Phase.FRONTENDS: Phase.WORKERS,
    Phase.WORKERS: Phase.HUB,
    Phase.HUB: Phase.STOPPED,
}
"""The phases of stopping, each with what follows when it is over."""

ENDING_IN: dict[Phase, frozenset[Role]] = {
    Phase.NOTIFYING: frozenset(),
    Phase.FRONTENDS: frozenset((Role.HTTP, Role.GRPC)),
    Phase.WORKERS: frozenset((Role.WORKER,)),
    Phase.HUB: frozenset((Role.HUB,)),
}
"""The roles of which all processes are told to end when a phase begins; it is over when they have."""
