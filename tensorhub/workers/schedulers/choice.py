"""Pick the scheduler that a model's config asks for."""

from collections.abc import Mapping
from typing import Any

from tensorhub.workers.schedulers.controls import Controls
from tensorhub.workers.schedulers.default import DefaultScheduler
from tensorhub.workers.schedulers.direct import DirectStrategy
from tensorhub.workers.schedulers.dynamic import BatchRules, DynamicBatcher
from tensorhub.workers.schedulers.grouping import Grouping
from tensorhub.workers.schedulers.oldest import OldestStrategy
from tensorhub.workers.schedulers.port import Scheduler
from tensorhub.workers.schedulers.queue_policy import QueuePolicies
from tensorhub.workers.schedulers.sequence import SequenceRules, SequenceScheduler
from tensorhub.workers.schedulers.states import state_specs

_NS_PER_US = 1_000


def choose_scheduler(config: Any, instances: int, state_files: Mapping[str, bytes], sharing: int = 1) -> Scheduler:
    """Return the scheduler for a model version.

    Args:
        config: a complete `inference.ModelConfig`.
        instances: how many there are in this worker; they are numbered from 0.
        state_files: the contents of the files that the initial states of sequences name.
        sharing: workers that have instances of it, each with a scheduler; together they keep the limits of its queue.

    Raises:
        InvalidArgument: a file does not fit its state.
    """
    if config.HasField("sequence_batching"):
        return _sequence_scheduler(config, instances, state_files)
    if config.HasField("dynamic_batching"):
        batching = config.dynamic_batching
        return DynamicBatcher(
            range(instances),
            BatchRules.from_config(batching, config.max_batch_size),
            Grouping.from_config(config),
            QueuePolicies.from_config(batching, sharing),
        )
    return DefaultScheduler(instances)


def _sequence_scheduler(config: Any, instances: int, state_files: Mapping[str, bytes]) -> SequenceScheduler:
    batching = config.sequence_batching
    states = state_specs(config, state_files)
    controls, grouping = Controls.from_config(config), Grouping.from_config(config)
    rules = SequenceRules.from_config(config, states)
    if batching.HasField("oldest"):
        batch_rules = BatchRules.from_config(batching.oldest, config.max_batch_size)
        candidates = max(1, batching.oldest.max_candidate_sequences)
        oldest = OldestStrategy(instances, candidates, controls, batch_rules, grouping)
        return SequenceScheduler(instances, rules, oldest)
    direct = DirectStrategy(
        instances,
        max(1, config.max_batch_size),
        controls,
        grouping,
        states,
        delay_ns=batching.direct.max_queue_delay_microseconds * _NS_PER_US,
        utilization=batching.direct.minimum_slot_utilization,
    )
    return SequenceScheduler(instances, rules, direct)
