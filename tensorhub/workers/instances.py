"""The instances that a config asks for, and which of them this worker makes. Pure.

Source: NormalizeInstanceGroup and the naming in Triton's TritonModelInstance.
"""

from dataclasses import dataclass
from typing import Any

from tensorhub.backends.port import InstanceSpec
from tensorhub.workers.schedulers.rate_limit import Needs

ALL = -2
"""In the place of a GPU's ordinal: of a worker that makes the instances of all devices."""

_GPU = 1
_KINDS = {0: "CPU", 1: "GPU", 2: "CPU", 3: "MODEL"}  # ModelInstanceGroup.Kind; AUTO is CPU where there is no GPU


@dataclass(frozen=True, slots=True)
class WantedInstance:
    """One instance.

    Attributes:
        needs: what it takes of the rate limiter's resources.
        passive: it is loaded, and never given a request.
    """

    spec: InstanceSpec
    needs: Needs
    passive: bool


def wanted_instances(config: Any, gpu: int = ALL) -> list[WantedInstance]:
    """Return the instances of a complete `inference.ModelConfig` that are of one device, in order.

    A group has its count of instances, on each of its GPUs if it has any. Its host policy has no effect here.

    Args:
        gpu: the ordinal of a GPU among those of the server, -1 for the processor, or ALL. To a process that has a GPU
            this is the only one, and called 0.
    """
    return [
        WantedInstance(
            InstanceSpec(f"{group.name}_{index}", _KINDS[group.kind], device if gpu == ALL else 0),
            Needs.from_config(group, device),
            group.passive,
        )
        for group in config.instance_group
        for device in (group.gpus if group.kind == _GPU else (0,))
        if gpu == ALL or gpu == (device if group.kind == _GPU else -1)
        for index in range(max(1, group.count))
    ]


def share_of(wanted: list[WantedInstance], index: int, count: int) -> list[WantedInstance]:
    """Return the instances for one of the workers that share a model, those that are given requests first.

    Args:
        index: of the worker; it takes every `count`-th, and the first worker takes the passive ones.
    """
    active = [item for item in wanted if not item.passive]
    passive = [item for item in wanted if item.passive]
    return active[index :: max(1, count)] + (passive if index == 0 else [])
