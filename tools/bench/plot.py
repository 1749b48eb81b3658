"""Draws this run's ratios beside their goals, and how they went over the runs before. The importer of matplotlib."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tools.bench.history import Entry
from tools.bench.report import Row

LAST_RUNS = 12
FULL_COLOUR = 0.3
"""A ratio that differs so much from the median of its row has the full colour."""


def installed() -> bool:
    """Return whether `draw` can work."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(path: Path, rows: Sequence[Row], entries: Sequence[Entry]) -> None:
    """Write a PNG: this run's ratios beside their goals, and how each row's ratio went over the runs.

    Rows without anything to compare with are left out.

    Args:
        entries: comparable entries of the history, oldest first, this run's last.
    """
    # Here and not above: the bench must do without it where no plot is asked for.
    import matplotlib
    from matplotlib import pyplot

    matplotlib.use("Agg")
    compared = [row for row in rows if row.ratio is not None]
    runs = entries[-LAST_RUNS:]
    height = 0.34 * max(len(compared), 4) + 2.2
    figure, (now, over_time) = pyplot.subplots(1, 2, figsize=(15, height), width_ratios=(3, 2), sharey=True)
    _draw_now(now, compared)
    _draw_history(over_time, [row.workload.name for row in compared], runs)
    if runs:
        last = runs[-1]
        figure.suptitle(f"tensorhub beside {last['peer']}: commit {last['commit']}, {last['machine']}", fontsize=9)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw_now(axes: Any, rows: Sequence[Row]) -> None:
    places = range(len(rows))
    ratios = [_drawable(row.ratio.median) if row.ratio else 0.0 for row in rows]
    reach = [
        [value - row.ratio.low for value, row in zip(ratios, rows, strict=True) if row.ratio],
        [_drawable(row.ratio.high - value) for value, row in zip(ratios, rows, strict=True) if row.ratio],
    ]
    reach = [[max(0.0, value) for value in side] for side in reach]
    axes.barh(
        [place - 0.19 for place in places],
        ratios,
        height=0.36,
        color="tab:blue",
        label="ratio; lowest to highest of the pairs",
        xerr=reach,
        error_kw={"elinewidth": 0.8, "capsize": 2},
    )
    cpu = [_drawable(row.cpu_ratio.median) if row.cpu_ratio else 0.0 for row in rows]
    axes.barh(
        [place + 0.19 for place in places], cpu, height=0.36, color="tab:orange", label="ratio in CPU time a request"
    )
    goals = [(place, row.workload.goal.ratio) for place, row in enumerate(rows) if row.workload.goal.ratio is not None]
    axes.scatter(
        [goal for _, goal in goals],
        [place for place, _ in goals],
        marker="|",
        s=220,
        linewidths=2.5,
        color="black",
        label="goal",
        zorder=3,
    )
    axes.axvline(1.0, color="grey", linewidth=0.8)
    axes.set_yticks(list(places), [row.workload.name for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.set_xlabel("times better than the peer")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")


def _draw_history(axes: Any, names: Sequence[str], entries: Sequence[Entry]) -> None:
    """One cell for each row and run, coloured by how far it is from the median of the row: a loss is red."""
    table = [[_ratio_of(old, name) for old in entries] for name in names]
    for place, ratios in enumerate(table):
        known = [ratio for ratio in ratios if ratio is not None]
        usual = median(known) if known else 1.0
        for run, ratio in enumerate(ratios):
            if ratio is None:
                continue
            change = (ratio / usual - 1.0) / FULL_COLOUR if usual else 0.0
            shade = 1.0 - 0.6 * min(1.0, abs(change))
            colour = (shade, 1.0, shade) if change >= 0 else (1.0, shade, shade)
            axes.barh(place, 0.96, left=run - 0.48, height=0.9, color=colour)
            axes.text(run, place, f"{ratio:.2f}", ha="center", va="center", fontsize=7)
    axes.set_xlim(-0.5, max(len(entries), 1) - 0.5)
    labels = [f"{old['commit']}\n{str(old['date'])[5:16].replace('T', ' ')}" for old in entries]
    axes.set_xticks(range(len(entries)), labels, rotation=90, fontsize=7)
    axes.tick_params(axis="y", left=False)
    axes.set_title(f"the last {len(entries)} runs: better (green) or worse (red) than their median", fontsize=9)


def _ratio_of(entry: Entry, name: str) -> float | None:
    ratio = entry["results"].get(name, {}).get("ratio")
    value = ratio.get("median") if isinstance(ratio, dict) else None
    return float(value) if isinstance(value, int | float) else None


def _drawable(value: float) -> float:
    return value if math.isfinite(value) else 0.0
