"""Which clients may have memory in common with the server: what both protocols need for --allow-client-shm. Pure.

Who may register regions, may have the server make regions for outputs as well. Where a client is, each protocol knows
in its own way.
"""

from collections.abc import Callable, Mapping
from typing import Any

from tensorhub.errors import Unsupported

DISABLED_TEXT = "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable."

ALLOCATE = "shared_memory_allocate"
"""Parameter of an output, ours: the server makes a region for it."""


def guards_outputs(settings: Mapping[str, str]) -> bool:
    """Whether a server with these options could make regions for outputs, and not every client may have any.

    If not, nothing need be looked for in a request.
    """
    return bool(settings.get("shm-socket")) and settings.get("allow-client-shm", "auto") != "true"


def wants_region(request: Any) -> bool:
    """Whether an `inference.ModelInferRequest` has an output that the server is to make a region for."""
    return any(ALLOCATE in (said := output.parameters) and said[ALLOCATE].bool_param for output in request.outputs)


def check_outputs(request: Any, may_share: Callable[[], bool]) -> None:
    """Check that a client who wants a region made for an output may have one.

    Args:
        request: an `inference.ModelInferRequest`.
        may_share: tells whether its client may have shared memory; called only if that matters.

    Raises:
        Unsupported: it may not.
    """
    if wants_region(request) and not may_share():
        raise Unsupported(DISABLED_TEXT)
