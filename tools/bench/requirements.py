"""What a row of the bench needs of this machine. Edge: looks for programs, processors and GPUs."""

from __future__ import annotations

import os
from importlib.util import find_spec

from tools.bench import h2load, wrk
from tools.bench.workloads import Driver, Transport, Workload

_GENERATORS = {Driver.WRK: wrk, Driver.H2LOAD: h2load}


def cores_wanted(workload: Workload) -> int:
    """Return how many cores a row of several processes needs to say anything: two each, and one for the load."""
    return 2 * workload.processes + 1 if workload.processes > 1 else 1


def missing(workload: Workload) -> str:
    """Return why this row cannot be measured here; empty if it can."""
    generator = _GENERATORS.get(workload.driver)
    if generator is not None and not generator.installed():
        return f"needs {workload.driver.value} (Debian: apt install {generator.PACKAGE})"
    cores = len(os.sched_getaffinity(0))
    if cores < cores_wanted(workload):
        return f"needs {cores_wanted(workload)} cores, there are {cores}"
    return _missing_gpu() if workload.transport is Transport.GRPC_CUDA else ""


def _missing_gpu() -> str:
    from tensorhub.ipc.gpus import find_gpus

    if not find_gpus():
        return "needs an NVIDIA GPU, there is none"
    return "" if find_spec("cupy") else "needs CuPy: pip install 'tensorhub[cuda]', or cupy-cuda13x for CUDA 13"
