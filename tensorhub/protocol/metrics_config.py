"""What `--metrics-config` and a model's `model_metrics` say. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tensorhub.errors import InvalidArgument
from tensorhub.option_kinds import Pair

FIRST_RESPONSE = "nv_inference_first_response_histogram_ms"
DEFAULT_BOUNDS_MS = (100.0, 500.0, 2000.0, 5000.0)
DEFAULT_QUANTILES = ((0.5, 0.05), (0.9, 0.01), (0.95, 0.001), (0.99, 0.001), (0.999, 0.001))

_TRUE = ("true", "on", "1")
_FALSE = ("false", "off", "0")


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """Which latencies are shown, and how.

    Attributes:
        counters, summaries, histograms: which kinds there are.
        quantiles: of the summaries. How exact the client wants each to be does not matter: all are to one per cent.
    """

    counters: bool = True
    summaries: bool = False
    histograms: bool = False
    quantiles: tuple[float, ...] = tuple(quantile for quantile, _ in DEFAULT_QUANTILES)

    @classmethod
    def read(cls, pairs: Iterable[Pair]) -> "MetricsConfig":
        """Read the option; settings that it does not know are left alone, as in Triton.

        Raises:
            InvalidArgument: a value is none.
        """
        values = {pair.name: pair.value for pair in pairs}
        return cls(
            counters=_switch(values, "counter_latencies", default=True),
            summaries=_switch(values, "summary_latencies", default=False),
            histograms=_switch(values, "histogram_latencies", default=False),
            quantiles=_quantiles(values.get("summary_quantiles", "")) or cls().quantiles,
        )


def _switch(values: dict[str, str], name: str, *, default: bool) -> bool:
    text = values.get(name, "").lower()
    if not text:
        return default
    if text not in _TRUE and text not in _FALSE:
        raise InvalidArgument(f"--metrics-config {name}: got '{values[name]}'; allowed are true and false")
    return text in _TRUE


def _quantiles(text: str) -> tuple[float, ...]:
    found = []
    for part in text.split(",") if text else ():
        quantile, _, error = part.partition(":")
        try:
            value, bound = float(quantile), float(error)
        except ValueError:
            value = bound = -1.0
        if not (0 <= value <= 1 and 0 <= bound <= 1):
            raise InvalidArgument(
                f"--metrics-config summary_quantiles: got '{part}'; allowed are pairs <quantile>:<error> of numbers "
                "from 0 to 1, with commas between them"
            )
        found.append(value)
    return tuple(found)


def first_response_bounds(config: Any) -> tuple[float, ...]:
    """Return the upper bounds, in ms, of a model's first response histogram."""
    for control in config.model_metrics.metric_control:
        if control.metric_identifier.family == FIRST_RESPONSE and control.histogram_options.buckets:
            return tuple(control.histogram_options.buckets)
    return DEFAULT_BOUNDS_MS
