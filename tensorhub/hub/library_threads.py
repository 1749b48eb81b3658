"""How many threads the numeric libraries of a worker may have.

OpenBLAS, MKL and OpenMP start one for each processor, and these wait for each other in busy loops. When a server's own
processes need the same processors, every step of a product waits until the system has given each thread its turn: a
product of microseconds takes ten milliseconds. So the workers share what the frontends leave.
PERF: `grpc_batching_32` on two processors, three times the requests.
"""

from collections.abc import Mapping

VARIABLE = "OMP_NUM_THREADS"
"""Honoured by all of them."""

_CHOICES = frozenset((VARIABLE, "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"))


def library_threads(workers: int, processors: int, environ: Mapping[str, str]) -> dict[str, str]:
    """Return what to add to the environment of a worker; nothing if the user has chosen.

    Args:
        workers: how many share the processors.
    """
    if not _CHOICES.isdisjoint(environ):
        return {}
    return {VARIABLE: str(max(1, (processors - 1) // max(1, workers)))}
