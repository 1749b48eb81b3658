"""Turns samples into medians, ratios and verdicts, and those into a table. Pure.

Every ratio says how many times better tensorhub is: above 1 is better, whether the metric is a throughput (tensorhub /
peer) or a cost such as latency or CPU time (peer / tensorhub).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from tools.bench.measurements import Comparison, Sample
from tools.bench.workloads import Goal, Metric, Workload

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class Ratio:
    """Median, lowest and highest of the ratios within the pairs."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Side:
    """Medians of one server over the alternations; None where nothing was measured."""

    value: float
    cpu_us: float | None
    p99_us: float | None
    copy_fraction: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """One workload, judged."""

    workload: Workload
    tensorhub: Side
    peer: Side
    ratio: Ratio
    cpu_ratio: Ratio | None
    met: bool | None


def gain(mine: float, theirs: float, more_is_better: bool) -> float:
    """Return how many times better `mine` is; 1.0 for 0 against 0, infinity for something against nothing."""
    better, worse = (mine, theirs) if more_is_better else (theirs, mine)
    if worse:
        return better / worse
    return math.inf if better else 1.0


def pair_ratio(mine: Sequence[float], theirs: Sequence[float], more_is_better: bool) -> Ratio:
    """Return the median, lowest and highest gain over the pairs.

    Raises:
        ValueError: the lengths differ or are zero.
    """
    gains = [gain(a, b, more_is_better) for a, b in zip(mine, theirs, strict=True)]
    if not gains:
        raise ValueError("no pair was measured")
    return Ratio(median(gains), min(gains), max(gains))


def judge(goal: Goal, metric: Metric, mine: Side, ratio: Ratio, cpu_ratio: Ratio | None) -> bool | None:
    """Return whether every part of the goal holds; None if the workload has no goal."""
    verdicts = []
    if goal.ratio is not None:
        verdicts.append(ratio.median >= goal.ratio)
        if metric.more_is_better and cpu_ratio is not None:
            verdicts.append(cpu_ratio.median >= goal.ratio)
    if goal.ceiling is not None:
        verdicts.append(mine.value <= goal.ceiling)
    if goal.copy_fraction is not None:
        verdicts.append(mine.copy_fraction is not None and mine.copy_fraction >= goal.copy_fraction)
    return all(verdicts) if verdicts else None


def row(comparison: Comparison) -> Row:
    """Summarise one workload.

    Raises:
        ValueError: there is no complete pair.
    """
    workload = comparison.workload
    ratio = pair_ratio(
        [sample.value for sample in comparison.tensorhub],
        [sample.value for sample in comparison.peer],
        workload.metric.more_is_better,
    )
    mine_cpu, their_cpu = _cpu(comparison.tensorhub), _cpu(comparison.peer)
    cpu_ratio = pair_ratio(mine_cpu, their_cpu, more_is_better=False) if mine_cpu and their_cpu else None
    mine, theirs = _side(comparison.tensorhub), _side(comparison.peer)
    return Row(workload, mine, theirs, ratio, cpu_ratio, judge(workload.goal, workload.metric, mine, ratio, cpu_ratio))


def markdown(rows: Sequence[Row], peer_name: str) -> str:
    """Return a Markdown table, padded so that it reads as plain text too, and two lines that explain it."""
    head = ["workload", "unit", "tensorhub", peer_name, "ratio (low-high)", "CPU us/request", peer_name, "CPU ratio"]
    head += ["p99 us", peer_name, "of a copy", peer_name, "goal", "verdict"]
    cells = [head, *(_cells(item) for item in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = [_line(head, widths), "|" + "|".join("-" * (width + 2) for width in widths) + "|"]
    lines += [_line(line, widths) for line in cells[1:]]
    return (
        "\n".join(lines)
        + "\n\nMedians over the alternations. A ratio is the median of the ratios within the pairs and says how many"
        "\ntimes better tensorhub is. The goal of a throughput must hold in CPU time per request too.\n"
    )


def to_json(item: Row) -> dict[str, Json]:
    """Return one row as values that any JSON reader takes (no infinity, no NaN)."""
    return {
        "workload": item.workload.name,
        "unit": item.workload.metric.unit,
        "tensorhub": _finite(asdict(item.tensorhub)),
        "peer": _finite(asdict(item.peer)),
        "ratio": _finite(asdict(item.ratio)),
        "cpu_ratio": _finite(asdict(item.cpu_ratio)) if item.cpu_ratio else None,
        "goal": _finite(asdict(item.workload.goal)),
        "met": item.met,
    }


def goal_text(goal: Goal, metric: Metric) -> str:
    """Return the goal in words; a dash if there is none."""
    parts = []
    if goal.ratio is not None:
        parts.append(f">= {goal.ratio:g} x")
    if goal.ceiling is not None:
        parts.append(f"<= {goal.ceiling:g} {metric.unit}")
    if goal.copy_fraction is not None:
        parts.append(f">= {goal.copy_fraction:g} of a copy")
    return ", ".join(parts) or "-"


def _cpu(samples: Iterable[Sample]) -> list[float]:
    return [sample.cpu_us for sample in samples if sample.cpu_us is not None]


def _side(samples: Sequence[Sample]) -> Side:
    return Side(
        median(sample.value for sample in samples),
        _median(sample.cpu_us for sample in samples),
        _median(sample.p99_us for sample in samples),
        _median(sample.copy_fraction for sample in samples),
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _finite(values: dict[str, float | None]) -> dict[str, Json]:
    return {key: value if value is not None and math.isfinite(value) else None for key, value in values.items()}


def _cells(item: Row) -> list[str]:
    metric = item.workload.metric
    verdict = {None: "-", True: "met", False: "NOT MET"}[item.met]
    return [
        item.workload.name,
        metric.unit,
        f"{item.tensorhub.value:,.{metric.decimals}f}",
        f"{item.peer.value:,.{metric.decimals}f}",
        f"{item.ratio.median:.2f} ({item.ratio.low:.2f}-{item.ratio.high:.2f})",
        _number(item.tensorhub.cpu_us),
        _number(item.peer.cpu_us),
        f"{item.cpu_ratio.median:.2f} ({item.cpu_ratio.low:.2f}-{item.cpu_ratio.high:.2f})" if item.cpu_ratio else "-",
        _number(item.tensorhub.p99_us),
        _number(item.peer.p99_us),
        "-" if item.tensorhub.copy_fraction is None else f"{item.tensorhub.copy_fraction:.2f}",
        "-" if item.peer.copy_fraction is None else f"{item.peer.copy_fraction:.2f}",
        goal_text(item.workload.goal, metric),
        verdict,
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.ljust(width) if column < 2 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "| " + " | ".join(padded) + " |"
