"""`pb_utils.MetricFamily`: metrics that models make, for the server's metrics endpoint.

All models of a worker share one registry, as they share one process. A metric is shown as long as a model holds it;
two with the same family and labels are one metric. Between workers, counters and histograms are added up; see
`protocol.custom_metrics` for gauges. The texts of what goes wrong are those of Triton's Python backend.
"""

import itertools
import threading
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from tensorhub.backends.python.errors import TritonModelException
from tensorhub.protocol import exposition, messages

_LabelKey = tuple[tuple[str, str], ...]


class MetricKind(Enum):
    """What a family's metrics are."""

    COUNTER = 0
    GAUGE = 1
    HISTOGRAM = 2


class _Series:
    """One metric; `lock` guards its values."""

    def __init__(self, family: "_FamilyCore", labels: _LabelKey, bounds: Sequence[float]) -> None:
        self.family = family  # keeps it alive
        self.labels = labels
        self.bounds = tuple(bounds)
        self.lock = threading.Lock()
        self.value = 0.0
        self.set_ns = 0
        self.counts = [0] * (len(bounds) + 1)


class _FamilyCore:
    """What all `MetricFamily` objects of one name share."""

    def __init__(self, name: str, description: str, kind: MetricKind) -> None:
        self.name = name
        self.description = description
        self.kind = kind
        self.series: WeakValueDictionary[_LabelKey, _Series] = WeakValueDictionary()


class Registry:
    """The families of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._families: WeakValueDictionary[str, _FamilyCore] = WeakValueDictionary()

    def family(self, name: str, description: str, kind: MetricKind) -> _FamilyCore:
        """Return the family of this name, made if there is none.

        Raises:
            TritonModelException: the name is not Prometheus's or the server's, or that of a family of another kind.
        """
        if not exposition.is_metric_name(name) or name.startswith(("nv_", "tensorhub_")):
            raise TritonModelException(
                f"Error when creating MetricFamily: '{name}' is no name for a metric; allowed are letters, digits, '_' "
                "and ':', without a digit in front, and without the server's own prefixes nv_ and tensorhub_"
            )
        with self._lock:
            found = self._families.get(name)
            if found is None:
                found = self._families[name] = _FamilyCore(name, description, kind)
            elif found.kind is not kind:
                raise TritonModelException(
                    "Error when creating MetricFamily: Family name already exists with different type"
                )
            return found

    def series(self, family: _FamilyCore, labels: _LabelKey, bounds: Sequence[float]) -> _Series:
        """Return the metric with these labels, made if there is none."""
        with self._lock:
            found = family.series.get(labels)
            if found is None:
                found = family.series[labels] = _Series(family, labels, bounds)
            return found

    def export(self) -> list[Any]:
        """Return the families as `tensorhub.wire.CustomFamily` messages."""
        if not self._families:
            return []
        with self._lock:
            families = [(family, list(family.series.values())) for family in list(self._families.values())]
        return [_exported(family, series) for family, series in families]


def _exported(family: _FamilyCore, members: Sequence[_Series]) -> Any:
    out = messages.CustomFamily(name=family.name, description=family.description, kind=family.kind.value)
    for item in members:
        with item.lock:
            shown = out.metrics.add(labels=dict(item.labels), value=item.value, set_ns=item.set_ns)
            if family.kind is MetricKind.HISTOGRAM:
                shown.histogram.bounds.extend(item.bounds)
                shown.histogram.counts.extend(item.counts)
                shown.histogram.sum = item.value
    return out


REGISTRY = Registry()
"""Models look for it by importing a module, so there is one for the process."""


class Metric:
    """One metric of a family, made by `MetricFamily.Metric`."""

    __slots__ = ("_kind", "_series")

    def __init__(self, series: _Series, kind: MetricKind) -> None:
        self._series = series
        self._kind = kind

    def increment(self, value: float) -> None:
        """Add to a counter or a gauge; of a gauge the value may be negative.

        Raises:
            TritonModelException: it is a histogram, or a counter that would sink.
        """
        amount = float(value)
        if self._kind is MetricKind.HISTOGRAM:
            raise self._failure("increment", "does not support Increment")
        if self._kind is MetricKind.COUNTER and not amount >= 0:
            raise self._failure("increment", "can only be incremented monotonically by non-negative values.")
        with self._series.lock:
            self._series.value += amount

    def set(self, value: float) -> None:
        """Set a gauge.

        Raises:
            TritonModelException: it is no gauge.
        """
        amount = float(value)
        if self._kind is not MetricKind.GAUGE:
            raise self._failure("set", "does not support Set")
        with self._series.lock:
            self._series.value = amount
            self._series.set_ns = time.monotonic_ns()

    def observe(self, value: float) -> None:
        """Count a value in a histogram.

        Raises:
            TritonModelException: it is no histogram.
        """
        amount = float(value)
        if self._kind is not MetricKind.HISTOGRAM:
            raise self._failure("observe", "does not support Observe")
        series = self._series
        with series.lock:
            series.counts[bisect_left(series.bounds, amount)] += 1
            series.value += amount

    def value(self) -> float:
        """Return a counter's or a gauge's value in this process.

        Raises:
            TritonModelException: it is a histogram.
        """
        if self._kind is MetricKind.HISTOGRAM:
            raise self._failure("get", "does not support Value")
        with self._series.lock:
            return self._series.value

    def _failure(self, verb: str, reason: str) -> TritonModelException:
        return TritonModelException(
            f"Failed to {verb} metric value: TRITONSERVER_METRIC_KIND_{self._kind.name} {reason}"
        )


class MetricFamily:
    """Metrics of one name.

    Args:
        name: as Prometheus allows it.
        description: for people.
        kind: `MetricFamily.COUNTER`, `GAUGE` or `HISTOGRAM`.

    Raises:
        TritonModelException: there is a family of this name and another kind, or the name is not allowed.
    """

    COUNTER: ClassVar[MetricKind] = MetricKind.COUNTER
    GAUGE: ClassVar[MetricKind] = MetricKind.GAUGE
    HISTOGRAM: ClassVar[MetricKind] = MetricKind.HISTOGRAM

    __slots__ = ("_core",)

    def __init__(self, name: str, description: str, kind: MetricKind) -> None:
        if not isinstance(name, str) or not isinstance(description, str) or not isinstance(kind, MetricKind):
            raise TypeError(
                "__init__(): incompatible constructor arguments. The following argument types are supported:\n    1. "
                "c_python_backend_utils.MetricFamily(name: str, description: str, kind: "
                f"c_python_backend_utils.MetricKind)\n\nInvoked with: {name!r}, {description!r}, {kind!r}"
            )
        self._core = REGISTRY.family(name, description, kind)

    # The name is Triton's.
    def Metric(  # noqa: N802
        self, labels: Mapping[str, str] | None = None, buckets: Sequence[float] | None = None
    ) -> Metric:
        """Make a metric.

        Args:
            labels: name to value, both text.
            buckets: of a histogram, and of nothing else: the upper bounds, ascending.

        Raises:
            TritonModelException: labels or buckets are not what they should be.
        """
        kind = self._core.kind
        if labels is not None and not isinstance(labels, dict):
            raise TritonModelException("Failed to create metric. Labels must be a dictionary.")
        if kind is MetricKind.HISTOGRAM and buckets is None:
            raise TritonModelException("Failed to create metric. Missing required buckets.")
        if kind is not MetricKind.HISTOGRAM and buckets is not None:
            raise TritonModelException("Failed to create metric. Unexpected buckets found.")
        return Metric(REGISTRY.series(self._core, _label_key(labels or {}), _bounds(buckets or ())), kind)


def _label_key(labels: Mapping[Any, Any]) -> _LabelKey:
    for name, value in labels.items():
        if not isinstance(value, str):
            raise TritonModelException("Error when creating Metric: attempt to access JSON non-string as string")
        if not isinstance(name, str) or not exposition.is_label_name(name):
            raise TritonModelException(
                f"Error when creating Metric: {name!r} is no name for a label; allowed are letters, digits and '_', "
                "without a digit or '__' in front"
            )
    return tuple(sorted(labels.items()))


def _bounds(buckets: Sequence[float]) -> tuple[float, ...]:
    bounds = tuple(float(bound) for bound in buckets)
    if any(not low < high for low, high in itertools.pairwise(bounds)):
        raise TritonModelException(f"Error when creating Metric: the buckets must ascend; got {list(bounds)}")
    return bounds
