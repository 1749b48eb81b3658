"""Registered regions, as both protocols deal with them: which ones a status call shows, and the hub's operations.

System and CUDA memory are twins but for a few fields. What differs is in `SYSTEM` and `CUDA`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from tensorhub.errors import NotFound
from tensorhub.frontend.catalog import Catalog
from tensorhub.protocol import messages


class Kind(NamedTuple):
    """A kind of memory.

    Attributes:
        name, title: in error texts.
        regions, others: an owner's regions of this kind and of the other one, by name.
        registration, unregistration: the part of a `tensorhub.wire.Control` that says it.
    """

    name: str
    title: str
    regions: Callable[[Catalog, str], dict[str, Any]]
    others: Callable[[Catalog, str], dict[str, Any]]
    registration: Callable[[Any], Any]
    unregistration: Callable[[Any], Any]


SYSTEM = Kind(
    "system",
    "system",
    Catalog.system_regions,
    Catalog.cuda_regions,
    lambda control: control.register_system,
    lambda control: control.unregister_system,
)
CUDA = Kind(
    "cuda",
    "CUDA",
    Catalog.cuda_regions,
    Catalog.system_regions,
    lambda control: control.register_cuda,
    lambda control: control.unregister_cuda,
)


def shown_regions(kind: Kind, catalog: Catalog, owner: str, name: str) -> list[Any]:
    """Return an owner's region of that name, or all of the kind if it is empty.

    Raises:
        NotFound: no such region, or it is of the other kind; Triton's texts.
    """
    found = kind.regions(catalog, owner)
    if not name:
        return list(found.values())
    if name in found:
        return [found[name]]
    if name in kind.others(catalog, owner):
        other = SYSTEM if kind is CUDA else CUDA
        raise NotFound(
            f"The region named '{name}' is registered as {other.title} shared memory, not {kind.title} shared memory"
        )
    raise NotFound(f"Unable to find {kind.name} shared memory region: '{name}'")


def registration(kind: Kind, owner: str, peer: str, fill: Callable[[Any], None]) -> Any:
    """Return the operation that registers a region.

    Args:
        peer: the client's address, for telling when it dies.
        fill: sets what the client has said; what it raises is passed on.
    """
    control = messages.Control(peer=peer)
    region = kind.registration(control)
    region.SetInParent()
    region.owner = owner
    fill(region)
    return control


def unregistration(kind: Kind, owner: str, name: str) -> Any:
    """Return the operation that lets a region go, or, without a name, all of the kind."""
    control = messages.Control()
    region = kind.unregistration(control)
    region.SetInParent()
    region.owner, region.name = owner, name
    return control
