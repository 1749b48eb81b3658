"""What both protocols say of registered regions: which ones a status call shows, and who may register."""

from collections.abc import Mapping
from typing import Any

from tensorhub.errors import NotFound

DISABLED_TEXT = "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable."


def shown_regions(found: Mapping[str, Any], others: Mapping[str, Any], name: str, *, cuda: bool) -> list[Any]:
    """Return the region of that name, or all if it is empty.

    Args:
        found: the regions of the kind that was asked for, by name; `others`: those of the other kind.

    Raises:
        NotFound: no such region, or it is of the other kind; Triton's texts.
    """
    if not name:
        return list(found.values())
    if name in found:
        return [found[name]]
    if name in others:
        is_kind, wanted = ("system", "CUDA") if cuda else ("CUDA", "system")
        raise NotFound(
            f"The region named '{name}' is registered as {is_kind} shared memory, not {wanted} shared memory"
        )
    raise NotFound(f"Unable to find {'cuda' if cuda else 'system'} shared memory region: '{name}'")
