"""How the libraries of a worker are set up, which is done by its environment.

**Threads.** OpenBLAS, MKL and OpenMP start one for each processor, and these wait for each other in busy loops. When a
server's own processes need the same processors, every step of a product waits until the system has given each thread
its turn: a product of microseconds takes ten milliseconds. So the workers share what the frontends leave.
PERF: `grpc_batching_32` on two processors, three times the requests.

**Large copies.** A store reads the line of memory that it writes to first, unless it goes past the caches, which glibc
does for copies of three quarters of the last cache. A tensor of megabytes that is written for somebody else, a client
or a device, has no use for the caches and drives everything else out of them, so it begins at COPY_THRESHOLD here.
PERF: `shm_16m`, a quarter less CPU time; `shm_64m`, 1.3 times the requests.
"""

from collections.abc import Mapping

VARIABLE = "OMP_NUM_THREADS"
"""Honoured by all numeric libraries."""

COPY_THRESHOLD = 4 * 1024 * 1024
"""Bytes of a copy that goes past the caches. Above the second cache of today's processors."""

_TUNABLES = "GLIBC_TUNABLES"
_TUNABLE = "glibc.cpu.x86_non_temporal_threshold"
"""glibc's manual, "Hardware Capability Tunables". Where it means nothing, it is ignored."""

_CHOICES = frozenset((VARIABLE, "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"))


def library_threads(workers: int, processors: int, environ: Mapping[str, str]) -> dict[str, str]:
    """Return what to add to the environment of a worker; nothing if the user has chosen.

    Args:
        workers: how many share the processors.
    """
    if not _CHOICES.isdisjoint(environ):
        return {}
    return {VARIABLE: str(max(1, (processors - 1) // max(1, workers)))}


def large_copies(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what to add to the environment of a worker; nothing if the user has chosen."""
    chosen = environ.get(_TUNABLES, "")
    if _TUNABLE in chosen:
        return {}
    ours = f"{_TUNABLE}={COPY_THRESHOLD}"
    return {_TUNABLES: f"{chosen}:{ours}" if chosen else ours}
