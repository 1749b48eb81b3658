"""`pb_utils.MetricFamily` in one process, and the sum of several."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tensorhub.backends.python import utils as pb_utils
from tensorhub.backends.python.errors import TritonModelException
from tensorhub.backends.python.metrics import REGISTRY, MetricFamily
from tensorhub.protocol import messages
from tensorhub.protocol.custom_metrics import merge
from tensorhub.protocol.exposition import render


def shown() -> str:
    return render(merge([REGISTRY.export()]))


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Any:
    yield
    gc.collect()
    assert REGISTRY.export() == []


def test_a_metric_is_shown_as_long_as_a_model_holds_it() -> None:
    family = pb_utils.MetricFamily("seen", "Requests seen", pb_utils.MetricFamily.COUNTER)
    metric = family.Metric(labels={"model": "m", "a": "1"})
    same = pb_utils.MetricFamily("seen", "other words", MetricFamily.COUNTER).Metric(labels={"a": "1", "model": "m"})
    metric.increment(1)
    same.increment(2.5)
    assert metric.value() == 3.5
    assert shown() == '# HELP seen Requests seen\n# TYPE seen counter\nseen{a="1",model="m"} 3.5\n'
    del family, metric
    assert "3.5" in shown()
    del same
    assert shown() == ""


def test_gauges_and_histograms() -> None:
    gauge = MetricFamily("level", "A level", MetricFamily.GAUGE).Metric()
    gauge.set(5)
    gauge.increment(-1.5)
    times = MetricFamily("took", "Time", MetricFamily.HISTOGRAM).Metric(labels={"m": "x"}, buckets=[0.1, 1, 2.5])
    for value in (0.05, 0.1, 1.5, 99):
        times.observe(value)
    assert shown() == (
        "# HELP level A level\n# TYPE level gauge\nlevel 3.5\n"
        "# HELP took Time\n# TYPE took histogram\n"
        'took_count{m="x"} 4\ntook_sum{m="x"} 100.65\ntook_bucket{m="x",le="0.1"} 2\ntook_bucket{m="x",le="1"} 2\n'
        'took_bucket{m="x",le="2.5"} 3\ntook_bucket{m="x",le="+Inf"} 4\n'
    )


def family(kind: Any = MetricFamily.COUNTER, name: str = "f") -> MetricFamily:
    return MetricFamily(name, "d", kind)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: family().Metric(labels=[1]), "Failed to create metric. Labels must be a dictionary."),
        (lambda: family().Metric(labels={"a": 1}), "attempt to access JSON non-string as string"),
        (lambda: family().Metric(labels={"a-b": "1"}), "'a-b' is no name for a label"),
        (lambda: family().Metric(labels={"__a": "1"}), "is no name for a label"),
        (lambda: family().Metric(buckets=[1.0]), "Failed to create metric. Unexpected buckets found."),
        (lambda: family(MetricFamily.HISTOGRAM).Metric(), "Failed to create metric. Missing required buckets."),
        (lambda: family(MetricFamily.HISTOGRAM).Metric(buckets=[2, 1]), "the buckets must ascend"),
        (lambda: family().Metric().set(1), "TRITONSERVER_METRIC_KIND_COUNTER does not support Set"),
        (lambda: family().Metric().observe(1), "TRITONSERVER_METRIC_KIND_COUNTER does not support Observe"),
        (
            lambda: family().Metric().increment(-1),
            "TRITONSERVER_METRIC_KIND_COUNTER can only be incremented monotonically by non-negative values.",
        ),
        (lambda: family().Metric().increment(float("nan")), "non-negative"),
        (lambda: family(MetricFamily.GAUGE).Metric().observe(1), "KIND_GAUGE does not support Observe"),
        (lambda: family(MetricFamily.HISTOGRAM).Metric(buckets=[]).value(), "KIND_HISTOGRAM does not support Value"),
        (lambda: family(name="bad-name"), "is no name for a metric"),
        (lambda: family(name=""), "is no name for a metric"),
        (lambda: family(name="nv_inference_count"), "the server's own prefixes"),
    ],
)
def test_refusals(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(TritonModelException) as caught:
        call()
    assert text in str(caught.value)


def test_a_name_has_one_kind() -> None:
    first = family()
    with pytest.raises(TritonModelException, match="Family name already exists with different type"):
        family(MetricFamily.GAUGE)
    assert isinstance(first, MetricFamily)


def test_wrong_types_are_type_errors() -> None:
    with pytest.raises(TypeError, match="MetricFamily"):
        MetricFamily("a", "b", 0)  # type: ignore[arg-type]
    with pytest.raises((TypeError, ValueError)):
        family().Metric().increment("a")  # type: ignore[arg-type]


def test_increments_of_many_threads_are_all_counted() -> None:
    metric = family().Metric()
    threads = [threading.Thread(target=lambda: [metric.increment(1) for _ in range(2_000)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metric.value() == 16_000


def wire(kind: int, *metrics: dict[str, Any]) -> list[Any]:
    out = messages.CustomFamily(name="f", description="d", kind=kind)
    for item in metrics:
        out.metrics.add(**item)
    return [out]


def test_workers_are_added_up_and_a_gauge_that_was_set_shows_the_last() -> None:
    def values(kind: int, *reports: dict[str, Any]) -> list[str]:
        return render(merge(wire(kind, item) for item in reports)).splitlines()[2:]

    assert values(0, {"value": 1}, {"value": 2.5}) == ["f 3.5"]
    assert values(1, {"value": -1}, {"value": 2}) == ["f 1"]
    assert values(1, {"value": 7, "set_ns": 5}, {"value": 9, "set_ns": 4}, {"value": 1}) == ["f 7"]
    histogram = {"bounds": [1.0], "counts": [2, 1], "sum": 4}
    other = {"bounds": [3.0], "counts": [9, 9], "sum": 9}
    assert values(
        2,
        {"value": 4, "histogram": histogram},
        {"value": 4, "histogram": histogram},
        {"value": 9, "histogram": other},
    ) == ["f_count 6", "f_sum 8", 'f_bucket{le="1"} 4', 'f_bucket{le="+Inf"} 6']
    assert render(merge([wire(0, {"value": 1}), wire(1, {"value": 5})])).endswith("\nf 1\n")
