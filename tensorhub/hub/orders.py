"""Orders of the hub to a worker, as messages. Pure."""

from collections.abc import Mapping
from typing import Any

from tensorhub.hub import placement
from tensorhub.hub.loads import Load
from tensorhub.hub.own_workers import is_own
from tensorhub.protocol import messages
from tensorhub.protocol.model_names import bare_name, namespace_of


def load_order(load: Load, worker_name: str, devices: Mapping[str, int], gpu_count: int) -> Any:
    """Return the `tensorhub.wire.Order` that tells a worker to load its share.

    Args:
        devices: of all workers, by name: the ordinal of a GPU, or placement.CPU.
        gpu_count: of the server.
    """
    order = messages.Order()
    order.load_model.load_id = load.load_id
    order.load_model.model = bare_name(load.model)
    order.load_model.namespace = namespace_of(load.model)
    order.load_model.version = load.version
    order.load_model.path = load.path
    order.load_model.config = load.config
    order.load_model.auto_complete = load.auto_complete
    order.load_model.overridden = load.overridden
    order.load_model.fingerprint = load.fingerprint
    order.load_model.share_index, order.load_model.share_count = placement.share(worker_name, load.workers, devices)
    order.load_model.gpu = placement.ALL if is_own(worker_name) else devices[worker_name]
    order.load_model.gpu_count = gpu_count
    return order


def end_order() -> Any:
    """Return the `tensorhub.wire.Order` that tells a worker to end."""
    order = messages.Order()
    order.end.SetInParent()
    return order


def unload_order(load_id: int) -> Any:
    """Return the `tensorhub.wire.Order` that tells a worker to let a load go."""
    order = messages.Order()
    order.unload_model.load_id = load_id
    return order
