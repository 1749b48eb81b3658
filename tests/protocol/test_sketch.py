"""Quantiles that can be added up."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from tensorhub.protocol import messages
from tensorhub.protocol.sketch import MAX_AGE_NS, SLICES, WindowedSketch, add, quantile

Sketch = messages.message_class("tensorhub.wire.Sketch")


def exported(sketch: WindowedSketch, now_ns: int) -> Any:
    message = Sketch()
    sketch.fill(message, now_ns)
    return message


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.9, 0.99, 1.0])
def test_quantiles_are_within_two_per_cent_also_of_several_processes(fraction: float) -> None:
    source = random.Random(7)
    values = sorted(int(source.lognormvariate(6, 2)) + 50 for _ in range(4_000))
    total = Sketch()
    for part in range(3):
        sketch = WindowedSketch(0)
        for value in values[part::3]:
            sketch.observe(value, 1, 0)
        add(total, exported(sketch, 0), recent=True)
    exact = values[math.ceil(fraction * len(values)) - 1]
    assert quantile(total.recent, fraction) == pytest.approx(exact, rel=0.02)
    assert (total.count, total.sum) == (len(values), sum(values))


def test_nothing_has_no_quantile_and_zero_is_a_value() -> None:
    sketch = WindowedSketch(0)
    assert math.isnan(quantile(exported(sketch, 0).recent, 0.5))
    sketch.observe(0, 3, 0)
    sketch.observe(1_000, 1, 0)
    assert quantile(exported(sketch, 0).recent, 0.5) == 0
    assert quantile(exported(sketch, 0).recent, 1.0) == pytest.approx(1_000, rel=0.02)


def test_values_grow_old_slice_by_slice_and_sums_do_not() -> None:
    width_ns = MAX_AGE_NS // SLICES
    sketch = WindowedSketch(0)
    sketch.observe(10, 1, 0)
    sketch.observe(20, 1, 3 * width_ns)
    assert sum(exported(sketch, MAX_AGE_NS - 1).recent.values()) == 2
    assert sum(exported(sketch, MAX_AGE_NS).recent.values()) == 1
    late = exported(sketch, 100 * MAX_AGE_NS)
    assert (dict(late.recent), late.count, late.sum) == ({}, 2, 30)
