"""Where a client wants an output, once the place has been pinned."""

from dataclasses import dataclass

from tensorhub.memory import Lease
from tensorhub.requests import InferRequest, RequestedOutput


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedOutput(RequestedOutput):
    """An output that goes to a registered region.

    Attributes:
        grows: the region is made as large as the output needs.
        lease: the range, writable; it belongs to the request, which holds it in `leases` too.
    """

    lease: Lease
    grows: bool = False


@dataclass(frozen=True, slots=True)
class HandedOutput(RequestedOutput):
    """An output that the server is to make a region for, which its client then takes.

    Attributes:
        owner: who may take it; see `tensorhub.ownership`.
    """

    owner: str = ""


def maybe_place(request: InferRequest, name: str) -> PlacedOutput | None:
    """Return where the request wants an output, or None if it wants it in the response, or not at all."""
    for output in request.requested:
        if output.name == name:
            return output if isinstance(output, PlacedOutput) else None
    return None
