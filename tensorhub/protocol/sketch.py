"""Quantiles of values that several processes see. Pure.

Values fall into classes of magnitude, each two per cent wider than the one before, so that a quantile is at most one
per cent off, and sketches of several processes are added up class by class. (The idea is that of DDSketch, Masson,
Rim and Lee 2019.) Only the values of the last minute count, as in Triton's summaries: they are kept in five slices, and
the oldest is dropped every twelve seconds.
"""

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

MAX_AGE_NS = 60_000_000_000
SLICES = 5

_GROWTH = 1.02
_PER_LOG = 1 / math.log(_GROWTH)
_ZERO_CLASS = -1
"""Of values below one. Classes of others begin at zero."""


class WindowedSketch:
    """The values that one process has seen, in microseconds."""

    __slots__ = ("_slices", "_turn_ns", "count", "total")

    def __init__(self, now_ns: int) -> None:
        self.count = 0
        self.total = 0
        self._slices: deque[dict[int, int]] = deque([{}], maxlen=SLICES)
        self._turn_ns = now_ns + MAX_AGE_NS // SLICES

    def observe(self, value_us: int, times: int, now_ns: int) -> None:
        """Note a value, so many times."""
        if now_ns >= self._turn_ns:
            self._turn(now_ns)
        self.count += times
        self.total += value_us * times
        number = int(math.log(value_us) * _PER_LOG) if value_us > 0 else _ZERO_CLASS
        newest = self._slices[-1]
        newest[number] = newest.get(number, 0) + times

    def _turn(self, now_ns: int) -> None:
        width_ns = MAX_AGE_NS // SLICES
        steps = (now_ns - self._turn_ns) // width_ns + 1
        self._turn_ns += steps * width_ns
        self._slices.extend({} for _ in range(min(steps, SLICES)))

    def fill(self, message: Any, now_ns: int) -> None:
        """Write it into an empty `tensorhub.wire.Sketch`."""
        if now_ns >= self._turn_ns:
            self._turn(now_ns)
        message.count, message.sum = self.count, self.total
        for part in self._slices:
            for number, count in part.items():
                message.recent[number] += count


def add(total: Any, part: Any, *, recent: bool) -> None:
    """Add one `tensorhub.wire.Sketch` to another; without `recent` only what does not grow old."""
    total.count += part.count
    total.sum += part.sum
    if recent:
        for number, count in part.recent.items():
            total.recent[number] += count


def quantile(recent: Mapping[int, int], fraction: float) -> float:
    """Return a quantile of the values in the classes; NaN if there are none."""
    rank = math.ceil(fraction * sum(recent.values()))
    seen = 0
    for number in sorted(recent):
        seen += recent[number]
        if seen >= rank:
            return 0.0 if number == _ZERO_CLASS else round(_GROWTH ** (number + 0.5))
    return math.nan
