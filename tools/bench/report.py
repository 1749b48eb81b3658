"""Turns samples into medians, ratios and verdicts, and those into a table. Pure.

Every ratio says how many times better tensorhub is: above 1 is better, whether the metric is a throughput (tensorhub /
peer) or a cost such as latency or CPU time (peer / tensorhub).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median

from tools.bench.measurements import Comparison, Sample
from tools.bench.workloads import Against, Driver, Goal, Metric, Workload

SMALL_SHARE = 0.05
"""Of a request's CPU time: a kind of process that takes less does not limit how many there can be."""

_VERDICTS = {None: "-", True: "met", False: "NOT MET"}

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
    p50_us: float | None
    p99_us: float | None
    copy_fraction: float | None
    phases: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """One workload, judged.

    Attributes:
        peer, ratio, cpu_ratio: None where there is nothing to compare with, or no CPU time.
        by_kind: medians for each kind of tensorhub's processes; see `Sample`.
    """

    workload: Workload
    tensorhub: Side
    peer: Side | None
    ratio: Ratio | None
    cpu_ratio: Ratio | None
    met: bool | None
    by_kind: Mapping[str, float]


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


def judge(goal: Goal, metric: Metric, mine: Side, ratio: Ratio | None, cpu_ratio: Ratio | None) -> bool | None:
    """Return whether every part of the goal holds; None if the workload has no goal."""
    verdicts = []
    if goal.ratio is not None:
        verdicts.append(ratio is not None and ratio.median >= goal.ratio)
        if metric.more_is_better and cpu_ratio is not None:
            verdicts.append(cpu_ratio.median >= goal.ratio)
    if goal.ceiling is not None:
        verdicts.append(mine.value <= goal.ceiling)
    if goal.tail is not None:
        measured = mine.p50_us is not None and mine.p99_us is not None
        verdicts.append(measured and (mine.p99_us or 0.0) <= goal.tail * (mine.p50_us or 0.0))
    if goal.copy_fraction is not None:
        verdicts.append(mine.copy_fraction is not None and mine.copy_fraction >= goal.copy_fraction)
    return all(verdicts) if verdicts else None


def row(comparison: Comparison) -> Row:
    """Summarise one workload.

    Raises:
        ValueError: there is no complete pair.
    """
    workload = comparison.workload
    mine = _side(comparison.tensorhub)
    theirs, ratio, cpu_ratio = None, None, None
    if comparison.peer:
        theirs = _side(comparison.peer)
        ratio = pair_ratio(
            [sample.value for sample in comparison.tensorhub],
            [sample.value for sample in comparison.peer],
            workload.metric.more_is_better,
        )
        mine_cpu, their_cpu = _cpu(comparison.tensorhub), _cpu(comparison.peer)
        if mine_cpu and their_cpu:
            cpu_ratio = pair_ratio(mine_cpu, their_cpu, more_is_better=False)
    met = judge(workload.goal, workload.metric, mine, ratio, cpu_ratio)
    return Row(
        workload, mine, theirs, ratio, cpu_ratio, met, _medians(sample.by_kind for sample in comparison.tensorhub)
    )


def markdown(rows: Sequence[Row], peer_name: str, lost: Collection[str] = ()) -> str:
    """Return a Markdown table, padded so that it reads as plain text too, and a few lines that explain it.

    Args:
        lost: names of the rows that fell behind their history.
    """
    head = ["workload", "unit", "tensorhub", peer_name, "ratio (low-high)", "CPU us/request", peer_name, "CPU ratio"]
    head += ["p50 us", peer_name, "p99 us", peer_name, "of a copy", peer_name, "goal", "verdict"]
    cells = [_cells(item) for item in rows]
    for line in cells:
        if line[0] in lost:
            line[-1] += ", LOSS"
    text = f"""{table(head, cells, left=2)}
Medians over the alternations. A ratio is the median of the ratios within the pairs and says how many
times better tensorhub is. The goal of a throughput must hold in CPU time per request too.
"""
    if any(item.workload.against is Against.SYSTEM_REGIONS for item in rows):
        text += f"What cuda_small is compared with is {Against.SYSTEM_REGIONS.value}, and not {peer_name}.\n"
    if lost:
        text += "LOSS: behind the median of the runs before by more than they differ among themselves.\n"
    return text


def sentence(item: Row, peer_name: str) -> str:
    """Return a row in a line, for those who watch."""
    metric, verdict = item.workload.metric, _VERDICTS[item.met]
    parts = [f"{item.tensorhub.value:,.{metric.decimals}f} {metric.unit}"]
    if item.peer is not None:
        against = peer_name if item.workload.against is Against.PEER else item.workload.against.value
        parts.append(f"{against} {item.peer.value:,.{metric.decimals}f}")
    parts += [f"{words} {_ratio(ratio)}" for words, ratio in (("ratio", item.ratio), ("CPU", item.cpu_ratio)) if ratio]
    return ", ".join(parts) + (f": {verdict}" if item.met is not None else "")


def processes_markdown(rows: Sequence[Row]) -> str:
    """Return a table of what each kind of tensorhub's processes takes for a request; empty if nothing is known.

    Throughput on more cores is argued from it: a process of a kind on a core of its own serves as many requests a
    second as their CPU time fits into one.
    """
    known = [item for item in rows if item.by_kind]
    kinds = sorted({kind for item in known for kind in item.by_kind})
    if not known:
        return ""
    head = [
        "workload",
        "unit",
        *kinds,
        "a core for itself serves, requests/s",
    ]
    cells = []
    for item in known:
        is_memory = item.workload.driver is Driver.FOOTPRINT
        least = sum(item.by_kind.values()) * SMALL_SHARE
        busy = [f"{kind} {1e6 / us:,.0f}" for kind, us in sorted(item.by_kind.items()) if us > least and not is_memory]
        values = [_number(item.by_kind.get(kind)) for kind in kinds]
        unit = item.workload.metric.unit if is_memory else "CPU us/request"
        cells.append([item.workload.name, unit, *values, ", ".join(busy) or "-"])
    return f"""tensorhub's processes:

{table(head, cells, left=2)}"""


def phases_markdown(rows: Sequence[Row], peer_name: str) -> str:
    """Return a table of where the time of a request goes, for the rows of one request at a time; empty without any."""
    names = ["queue", "input", "model", "output", "rest", "copy", "faults"]
    head = ["workload", "server", *(f"{name} us" for name in names[:5]), "plain copy us", "page faults"]
    cells = []
    for item in rows:
        for server, side in (("tensorhub", item.tensorhub), (peer_name, item.peer)):
            if side is not None and "rest" in side.phases:
                values = [_number(side.phases.get(name)) for name in names]
                cells.append([item.workload.name, server, *values])
    if not cells:
        return ""
    return f"""A request at a time, by the servers' own statistics; the rest is the client, the network and the hops:

{table(head, cells, left=2)}"""


def table(head: Sequence[str], cells: Sequence[Sequence[str]], left: int) -> str:
    """Return a padded Markdown table whose first `left` columns are flush left, and the others flush right."""
    widths = [max(len(line[column]) for line in (head, *cells)) for column in range(len(head))]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([_line(head, widths, left), rule, *(_line(line, widths, left) for line in cells)]) + "\n"


def to_json(item: Row) -> dict[str, Json]:
    """Return one row as values that any JSON reader takes (no infinity, no NaN)."""
    return {
        "workload": item.workload.name,
        "title": item.workload.title,
        "unit": item.workload.metric.unit,
        "more_is_better": item.workload.metric.more_is_better,
        "tensorhub": _to_json(item.tensorhub),
        "peer": _to_json(item.peer) if item.peer else None,
        "ratio": _finite(asdict(item.ratio)) if item.ratio else None,
        "cpu_ratio": _finite(asdict(item.cpu_ratio)) if item.cpu_ratio else None,
        "by_kind": _finite(item.by_kind),
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
    if goal.tail is not None:
        parts.append(f"p99 <= {goal.tail:g} x p50")
    if goal.copy_fraction is not None:
        parts.append(f">= {goal.copy_fraction:g} of a copy")
    return ", ".join(parts) or "-"


def _cpu(samples: Iterable[Sample]) -> list[float]:
    return [sample.cpu_us for sample in samples if sample.cpu_us is not None]


def _side(samples: Sequence[Sample]) -> Side:
    return Side(
        median(sample.value for sample in samples),
        _median(sample.cpu_us for sample in samples),
        _median(sample.p50_us for sample in samples),
        _median(sample.p99_us for sample in samples),
        _median(sample.copy_fraction for sample in samples),
        _medians(sample.phases for sample in samples),
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _medians(values: Iterable[Mapping[str, float]]) -> dict[str, float]:
    known = list(values)
    names = sorted({name for each in known for name in each})
    return {name: median(each.get(name, 0.0) for each in known) for name in names}


def _to_json(side: Side) -> dict[str, Json]:
    numbers = asdict(side)
    return {**_finite({key: numbers[key] for key in numbers if key != "phases"}), "phases": _finite(side.phases)}


def _finite(values: Mapping[str, float | None]) -> dict[str, Json]:
    return {key: value if value is not None and math.isfinite(value) else None for key, value in values.items()}


def _cells(item: Row) -> list[str]:
    metric, peer = item.workload.metric, item.peer
    return [
        item.workload.name,
        metric.unit,
        f"{item.tensorhub.value:,.{metric.decimals}f}",
        f"{peer.value:,.{metric.decimals}f}" if peer else "-",
        _ratio(item.ratio),
        _number(item.tensorhub.cpu_us),
        _number(peer.cpu_us if peer else None),
        _ratio(item.cpu_ratio),
        _number(item.tensorhub.p50_us),
        _number(peer.p50_us if peer else None),
        _number(item.tensorhub.p99_us),
        _number(peer.p99_us if peer else None),
        _fraction(item.tensorhub),
        _fraction(peer),
        goal_text(item.workload.goal, metric),
        _VERDICTS[item.met],
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


def _ratio(value: Ratio | None) -> str:
    return f"{value.median:.2f} ({value.low:.2f}-{value.high:.2f})" if value else "-"


def _fraction(side: Side | None) -> str:
    return "-" if side is None or side.copy_fraction is None else f"{side.copy_fraction:.2f}"


def _line(cells: Sequence[str], widths: Sequence[int], left: int) -> str:
    padded = [
        cell.ljust(width) if column < left else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "| " + " | ".join(padded) + " |"
