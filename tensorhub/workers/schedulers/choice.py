"""Pick the scheduler that a model's config asks for."""

from typing import Any

from tensorhub.workers.schedulers.default import DefaultScheduler
from tensorhub.workers.schedulers.dynamic import BatchRules, DynamicBatcher
from tensorhub.workers.schedulers.grouping import Grouping
from tensorhub.workers.schedulers.port import Scheduler
from tensorhub.workers.schedulers.queue_policy import QueuePolicies


def choose_scheduler(config: Any, instances: int) -> Scheduler:
    """Return the scheduler for a model version.

    Args:
        config: a complete `inference.ModelConfig`.
        instances: how many there are in this worker; they are numbered from 0.
    """
    if config.HasField("dynamic_batching"):
        batching = config.dynamic_batching
        return DynamicBatcher(
            range(instances),
            BatchRules.from_config(batching, config.max_batch_size),
            Grouping.from_config(config),
            QueuePolicies.from_config(batching),
        )
    return DefaultScheduler(instances)


def preserves_ordering(config: Any) -> bool:
    """Whether responses leave in the order in which their requests were taken out of the queue."""
    return bool(config.dynamic_batching.preserve_ordering)
