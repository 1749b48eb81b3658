"""Metrics that models make, of several workers, put together. Pure.

In Triton all instances of a model share one metric. Here those in different workers have one each, and what is shown is
what comes nearest: counters and histograms are added up. Gauges that are only ever incremented are added up as well;
one that has been set somewhere shows what was set last.
"""

from collections.abc import Iterable
from typing import Any

from tensorhub.protocol.exposition import COUNTER, GAUGE, HISTOGRAM, Family

_KINDS = {0: COUNTER, 1: GAUGE, 2: HISTOGRAM}


class _Metric:
    """One metric, of all workers together."""

    def __init__(self, labels: dict[str, str]) -> None:
        self.labels = labels
        self.value = 0.0
        self.set_ns = 0
        self.bounds: tuple[float, ...] = ()
        self.counts: list[int] = []

    def add(self, part: Any, kind: str) -> None:
        """Add one worker's `tensorhub.wire.CustomFamily.Metric`."""
        if kind == GAUGE and (part.set_ns or self.set_ns):
            if part.set_ns > self.set_ns:
                self.value, self.set_ns = part.value, part.set_ns
            return
        bounds = tuple(part.histogram.bounds)
        if not self.counts:
            self.bounds, self.counts = bounds, [0] * (len(bounds) + 1)
        if bounds == self.bounds:
            self.value += part.value
            self.counts = [have + more for have, more in zip(self.counts, part.histogram.counts or [0], strict=True)]


def merge(reports: Iterable[Iterable[Any]]) -> list[Family]:
    """Return the families of all workers, by name.

    Args:
        reports: of each worker, its `tensorhub.wire.CustomFamily` messages. Of families with one name and different
            kinds the first one counts, and of histograms with different bounds as well.
    """
    families: dict[str, tuple[Any, dict[tuple[tuple[str, str], ...], _Metric]]] = {}
    for report in reports:
        for family in report:
            first, metrics = families.setdefault(family.name, (family, {}))
            if first.kind == family.kind:
                for item in family.metrics:
                    labels = dict(sorted(item.labels.items()))
                    metrics.setdefault(tuple(labels.items()), _Metric(labels)).add(item, _KINDS[family.kind])
    return [_family(first, metrics.values()) for _, (first, metrics) in sorted(families.items())]


def _family(first: Any, metrics: Iterable[_Metric]) -> Family:
    family = Family(first.name, first.description, _KINDS[first.kind])
    for metric in metrics:
        if family.kind == HISTOGRAM:
            family.add_histogram(metric.labels, metric.bounds, metric.counts, metric.value)
        else:
            family.add(metric.labels, metric.value)
    return family
