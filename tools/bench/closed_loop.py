"""One client that sends the next request when it has the answer to the last."""

from __future__ import annotations

import time
from collections.abc import Callable

from tools.bench.measurements import Load

# A big tensor on a slow server may need longer than the time given; fewer answers than this say nothing.
LEAST_CALLS = 3


def run(call: Callable[[], int], seconds: float) -> Load:
    """Call until `seconds` have passed, and at least `LEAST_CALLS` times.

    Args:
        call: makes one request, waits for its answer, checks that it is one and returns how many responses it had.
    """
    responses = 0
    latencies_s: list[float] = []
    began = last = time.perf_counter()
    while last - began < seconds or len(latencies_s) < LEAST_CALLS:
        responses += call()
        now = time.perf_counter()
        latencies_s.append(now - last)
        last = now
    latencies_s.sort()
    return Load(
        responses,
        last - began,
        latencies_s[len(latencies_s) // 2] * 1e6,
        latencies_s[len(latencies_s) * 99 // 100] * 1e6,
    )
