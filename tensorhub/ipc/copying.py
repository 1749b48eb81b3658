"""Copying large tensors with more than one core.

One core does not use up a machine's memory bandwidth. From THRESHOLD on, a copy is shared out over a few threads:
the one that asks does its part, and then those that no helper has begun: on a busy machine nobody waits until a helper
is given its turn. NumPy copies without Python's lock.
"""

import os
from concurrent.futures import ThreadPoolExecutor

THRESHOLD = 32 * 1024 * 1024
"""Bytes of a copy that is shared out. PERF: handing over costs some 50 us, and one core that copies past the caches, as
a worker's does, has most of the memory's bandwidth for itself; see docs/performance.md."""

_MAX_PARTS = 4
"""More cores than these do not get more out of the memory of one socket."""

_ALIGNMENT = 4096

_parts = min(_MAX_PARTS, len(os.sched_getaffinity(0)))
_helpers = ThreadPoolExecutor(max(1, _parts - 1), thread_name_prefix="copy")


def fill(target: memoryview, source: memoryview) -> None:
    """Copy all of `source` to the front of `target`; both are of bytes and C-contiguous, and do not overlap.

    Raises:
        ValueError: `target` is shorter, or read-only.
    """
    size = len(source)
    if size < THRESHOLD or _parts == 1:
        target[:size] = source
        return
    # Not at the top: frontends have arenas as well, and need no NumPy.
    import numpy as np

    into = np.frombuffer(target[:size], np.uint8)
    data = np.frombuffer(source, np.uint8)
    step = -(-size // _parts // _ALIGNMENT) * _ALIGNMENT

    def copy_part(start: int) -> None:
        np.copyto(into[start : start + step], data[start : start + step])

    others = [(start, _helpers.submit(copy_part, start)) for start in range(step, size, step)]
    copy_part(0)
    for start, other in reversed(others):
        if other.cancel():
            copy_part(start)
        else:
            other.result()
