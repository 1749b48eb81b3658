"""Prometheus's text format, version 0.0.4. Pure.

Written here and not by prometheus_client, which gives every counter the suffix `_total`: Triton's counters have none,
and dashboards ask for them by name. Source: "Exposition formats" of Prometheus's documentation; how Triton's library
orders what the format leaves open.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; charset=utf-8"
COUNTER, GAUGE, HISTOGRAM, SUMMARY = "counter", "gauge", "histogram", "summary"

_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_]")

Labels = Mapping[str, str]


@dataclass(slots=True)
class Family:
    """Metrics of one name.

    Attributes:
        lines: (suffix of the name, labels, value); of each metric the labels in the order in which they are written.
    """

    name: str
    help: str
    kind: str
    lines: list[tuple[str, Labels, float]] = field(default_factory=list)

    def add(self, labels: Labels, value: float) -> None:
        """Add a counter or a gauge."""
        self.lines.append(("", ordered(labels), value))

    def add_histogram(self, labels: Labels, bounds: Sequence[float], counts: Sequence[int], total: float) -> None:
        """Add a histogram: `counts` for each class, not cumulative, the last one above all `bounds`."""
        labels = ordered(labels)
        self.lines += [("_count", labels, sum(counts)), ("_sum", labels, total)]
        below = 0
        for bound, count in zip([*bounds, math.inf], counts, strict=True):
            below += count
            self.lines.append(("_bucket", {**labels, "le": number(bound)}, below))

    def add_summary(self, labels: Labels, quantiles: Iterable[tuple[float, float]], count: int, total: float) -> None:
        """Add a summary: (quantile, value) pairs, and what all values together are."""
        labels = ordered(labels)
        self.lines += [("_count", labels, count), ("_sum", labels, total)]
        self.lines += [("", {**labels, "quantile": number(quantile)}, value) for quantile, value in quantiles]


def ordered(labels: Labels) -> dict[str, str]:
    """The labels by name."""
    return dict(sorted(labels.items()))


def is_metric_name(name: str) -> bool:
    """Whether Prometheus allows it."""
    return _METRIC_NAME.fullmatch(name) is not None


def is_label_name(name: str) -> bool:
    """Whether Prometheus allows it and does not keep it to itself."""
    return _LABEL_NAME.fullmatch(name) is not None


def label_name(text: str) -> str:
    """Make a label's name of any text: what may not be in one becomes an underscore."""
    return _NOT_IN_A_NAME.sub("_", text)


def number(value: float) -> str:
    """Write a number: whole ones without a point, others with the sixteen digits that Triton writes."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if isinstance(value, int):
        return str(value)
    return f"{value:.16g}"


def render(families: Iterable[Family]) -> str:
    """Write the page; families without metrics are left out."""
    lines: list[str] = []
    for family in families:
        if family.lines:
            text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
            lines += [f"# HELP {family.name} {text}", f"# TYPE {family.name} {family.kind}"]
            lines += [
                f"{family.name}{suffix}{_labels(labels)} {number(value)}" for suffix, labels, value in family.lines
            ]
    return "".join(f"{line}\n" for line in lines)


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
