"""Which workers load a model: those of the devices that its instance groups name. Pure.

A worker belongs to the processor (CPU) or to one GPU, by its ordinal. Instances of a GPU group are of the GPUs that the
group names; all others are of the processor. The instances of a device are dealt out over its workers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tensorhub.protocol import messages

CPU = -1
"""In the place of a GPU's ordinal."""

ALL = -2
"""Of a worker that belongs to one model: it makes the instances of all devices."""

_KIND_GPU = messages.message_class("inference.ModelInstanceGroup").KIND_GPU


def worker_names(workers: int, gpus: int, workers_per_gpu: int) -> dict[str, int]:
    """Return the workers of a server: name to the ordinal of the GPU, or CPU."""
    names = {f"cpu{index}": CPU for index in range(workers)}
    for gpu in range(gpus):
        for index in range(workers_per_gpu):
            names[f"gpu{gpu}" if index == 0 else f"gpu{gpu}-{index}"] = gpu
    return names


def gpu_of_name(name: str) -> int:
    """Return the ordinal that a worker's name stands for; CPU if it is not one of a GPU."""
    digits = name.removeprefix("gpu").partition("-")[0]
    return int(digits) if name.startswith("gpu") and digits.isdecimal() else CPU


def instances_by_device(config: Any) -> dict[int, int]:
    """Return how many instances a complete config wants on each device: at least one somewhere, no passive ones."""
    wanted: dict[int, int] = {}
    for group in (group for group in config.instance_group if not group.passive):
        for device in group.gpus if group.kind == _KIND_GPU else (CPU,):
            wanted[device] = wanted.get(device, 0) + max(1, group.count)
    return wanted or {CPU: 1}


def choose_workers(
    wanted: Mapping[int, int], workers: Mapping[str, int], burden: Callable[[str], int]
) -> tuple[str, ...]:
    """Return the names of the workers that load a model, those with the least to carry.

    Args:
        wanted: device to number of instances.
        workers: name to device. For a device without a worker, another's loads the model, and says what is wrong.
        burden: how much a worker carries.
    """
    chosen: set[str] = set()
    for device, instances in wanted.items():
        names = [name for name, other in workers.items() if other == device] or list(workers)
        names.sort(key=lambda name: (burden(name), name))
        chosen.update(names[: max(1, min(instances, len(names)))])
    return tuple(sorted(chosen))


def share(name: str, sharing: Sequence[str], workers: Mapping[str, int]) -> tuple[int, int]:
    """Return which share of its device's instances a worker has: (index, of how many).

    Args:
        sharing: all that load the model.
    """
    same = [other for other in sharing if workers[other] == workers[name]]
    return same.index(name), len(same)
