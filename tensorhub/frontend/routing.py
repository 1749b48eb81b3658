"""Which workers are near to a request's tensors: those of the GPU that its regions lie on. Pure.

Only asked while CUDA regions are registered. Of the workers that serve the model, those of the regions' GPU are best:
no tensor is copied. Next are those of the processor, which copy to the host. Those of another GPU do not see the memory
and have it copied by its GPU's worker (`far_workers`), over the host as well.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tensorhub.protocol import messages

_REGION = "shared_memory_region"
CPU = "CPU"
"""The device of a worker that has no GPU."""


def regions_named(body: bytes) -> set[str]:
    """Return the regions that a serialised `inference.ModelInferRequest` names; what cannot be read names none."""
    try:
        request = messages.ModelInferRequest.FromString(body)
    except messages.DecodeError:
        return set()
    return {
        tensor.parameters[_REGION].string_param
        for tensor in (*request.inputs, *request.outputs)
        if _REGION in tensor.parameters
    }


def nearest(
    workers: Sequence[int], devices: Mapping[int, str], regions: Mapping[str, Any], names: Iterable[str]
) -> Sequence[int]:
    """Return those workers that are nearest to what a request names; all if they are equally far.

    Args:
        workers: pids of those that serve the model.
        devices: pid to device: a GPU's UUID, or CPU.
        regions: the owner's CUDA regions by name.
    """
    wanted = {regions[name].uuid for name in names if name in regions}
    if not wanted:
        return workers
    for device in (*sorted(wanted), CPU):
        near = [pid for pid in workers if devices.get(pid, CPU) == device]
        if near:
            return near
    return workers


def far_workers(devices: Mapping[int, str], regions: Mapping[str, Any], name: str, own: str) -> list[int]:
    """Return the pids of the workers of other GPUs that can copy from and to a region; any, if its GPU is not known.

    Args:
        devices, regions: see `nearest`.
        own: the asker's device.
    """
    wanted = regions[name].uuid if name in regions else ""
    return [pid for pid, device in devices.items() if device not in (own, CPU) and device in (wanted or device,)]
