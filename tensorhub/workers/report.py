"""What a worker tells the hub of its work: the counters of its models, its arena, and its models' own metrics."""

import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from tensorhub.backends.python import metrics as custom
from tensorhub.ipc.arena_memory import Arena
from tensorhub.protocol import messages
from tensorhub.workers.serving import ServingModel

if TYPE_CHECKING:
    from tensorhub.workers.cache_stores import CacheStore


def process_statistics(
    models: Collection[ServingModel],
    open_requests: int,
    arena: Arena,
    device_copies: int,
    cache: "CacheStore | None" = None,
) -> Any:
    """Return a `tensorhub.wire.ProcessStatistics`; of the models those that have news."""
    now_ns = time.monotonic_ns()
    offset_ns = time.time_ns() - now_ns
    counted = (model.statistics(now_ns, offset_ns) for model in models)
    report = messages.ProcessStatistics(
        loads=[load for load in counted if load is not None],
        open_requests=open_requests,
        arena_byte_size=arena.byte_size,
        arena_used=arena.used,
        device_copies=device_copies,
        locked_byte_size=arena.locked_byte_size,
        locked_used=arena.locked_used,
        families=custom.REGISTRY.export(),
    )
    if cache is not None:
        cache.fill_use(report.cache)
    return report
