"""--metrics-config."""

from __future__ import annotations

import pytest

from tensorhub.errors import InvalidArgument
from tensorhub.option_kinds import Pair
from tensorhub.protocol import messages
from tensorhub.protocol.metrics_config import DEFAULT_BOUNDS_MS, FIRST_RESPONSE, MetricsConfig, first_response_bounds


def test_the_defaults_are_tritons() -> None:
    assert MetricsConfig.read(()) == MetricsConfig(True, False, False, (0.5, 0.9, 0.95, 0.99, 0.999))


def test_settings() -> None:
    pairs = [
        Pair("counter_latencies", "false"),
        Pair("summary_latencies", "TRUE"),
        Pair("histogram_latencies", "1"),
        Pair("summary_quantiles", "0.25:0.1,1:0"),
        Pair("something_else", "x"),
    ]
    assert MetricsConfig.read(pairs) == MetricsConfig(False, True, True, (0.25, 1.0))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("summary_latencies", "perhaps"),
        ("summary_quantiles", "0.5"),
        ("summary_quantiles", "2:0.1"),
        ("summary_quantiles", "0.5:0.1,,"),
        ("summary_quantiles", "nan:0.1"),
    ],
)
def test_values_that_are_none(name: str, value: str) -> None:
    with pytest.raises(InvalidArgument, match=name):
        MetricsConfig.read([Pair(name, value)])


def test_bounds_of_a_model() -> None:
    config = messages.ModelConfig()
    assert first_response_bounds(config) == DEFAULT_BOUNDS_MS
    control = config.model_metrics.metric_control.add()
    control.metric_identifier.family = "another"
    control.histogram_options.buckets.append(1)
    control = config.model_metrics.metric_control.add()
    control.metric_identifier.family = FIRST_RESPONSE
    control.histogram_options.buckets.extend((2, 3))
    assert first_response_bounds(config) == (2, 3)
