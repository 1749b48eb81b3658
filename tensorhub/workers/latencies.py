"""How long the requests of one model took, as `--metrics-config` asks for it: summaries and histograms. Pure.

Kept only if it is asked for: it costs a logarithm for each duration of each run.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from tensorhub.protocol.sketch import WindowedSketch


class Latencies:
    """Of one load of one model version; not thread-safe.

    Args:
        summaries: keep summaries of the durations of `inference.InferStatistics`.
        bounds_ms: upper bounds of the first response histogram; empty: keep none.
        now_ns: CLOCK_MONOTONIC.
    """

    def __init__(self, *, summaries: bool, bounds_ms: Sequence[float], now_ns: int) -> None:
        self._summaries: dict[str, WindowedSketch] = {}
        self._with_summaries = summaries
        self._bounds_ms = tuple(bounds_ms)
        self._counts = [0] * (len(self._bounds_ms) + 1)
        self._total_ms = 0.0
        if summaries:
            for name in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
                self._summaries[name] = WindowedSketch(now_ns)

    @property
    def ages(self) -> bool:
        """What is exported changes also while nothing happens."""
        return self._with_summaries

    def observe(self, name: str, duration_ns: int, now_ns: int, times: int = 1) -> None:
        """Note one of the durations, so many times."""
        if self._with_summaries:
            sketch = self._summaries.get(name)
            if sketch is None:
                sketch = self._summaries[name] = WindowedSketch(now_ns)
            sketch.observe(max(0, duration_ns) // 1_000, times, now_ns)

    def observe_first_response(self, duration_ns: int) -> None:
        """Note how long a request waited for its first response."""
        if self._bounds_ms:
            duration_ms = duration_ns / 1_000_000
            self._counts[bisect_left(self._bounds_ms, duration_ms)] += 1
            self._total_ms += duration_ms

    def export(self, message: Any, now_ns: int) -> None:
        """Write all into a `tensorhub.wire.LoadStatistics`."""
        for name, sketch in self._summaries.items():
            sketch.fill(message.summaries[name], now_ns)
        if self._bounds_ms:
            shown = message.first_response
            shown.bounds.extend(self._bounds_ms)
            shown.counts.extend(self._counts)
            shown.sum = self._total_ms
