"""Draws this run's ratios beside their goals, and how they went over the runs before. The importer of matplotlib."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.bench.history import Entry
from tools.bench.report import Row


def installed() -> bool:
    """Return whether `draw` can work."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(path: Path, rows: Sequence[Row], entries: Sequence[Entry]) -> None:
    """Write a PNG.

    Args:
        entries: comparable entries of the history, oldest first, this run's last.
    """
    # Here and not above: the bench must do without it where no plot is asked for.
    import matplotlib
    from matplotlib import pyplot

    matplotlib.use("Agg")
    figure, (now, over_time) = pyplot.subplots(1, 2, figsize=(16, 0.4 * len(rows) + 3), width_ratios=(3, 2))
    _draw_now(now, rows)
    _draw_history(over_time, [row.workload.name for row in rows], entries)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw_now(axes: Any, rows: Sequence[Row]) -> None:
    places = range(len(rows))
    axes.barh([p - 0.2 for p in places], [_drawable(row.ratio.median) for row in rows], height=0.4, label="ratio")
    cpu = [_drawable(row.cpu_ratio.median) if row.cpu_ratio else 0.0 for row in rows]
    axes.barh([p + 0.2 for p in places], cpu, height=0.4, label="ratio in CPU time a request")
    goals = [(place, row.workload.goal.ratio) for place, row in enumerate(rows) if row.workload.goal.ratio is not None]
    axes.scatter(
        [goal for _, goal in goals],
        [place for place, _ in goals],
        marker="|",
        s=300,
        color="black",
        label="goal",
        zorder=3,
    )
    axes.axvline(1.0, color="grey", linewidth=0.8)
    axes.set_yticks(list(places), [row.workload.name for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("times better than the peer")
    axes.legend()


def _draw_history(axes: Any, names: Sequence[str], entries: Sequence[Entry]) -> None:
    for name in names:
        points = [
            (run, old["results"][name]["ratio"]["median"]) for run, old in enumerate(entries) if name in old["results"]
        ]
        known = [(run, value) for run, value in points if value is not None]
        axes.plot([run for run, _ in known], [value for _, value in known], marker="o", markersize=3, label=name)
    axes.set_xticks(range(len(entries)), [str(old["commit"]) for old in entries], rotation=90, fontsize=7)
    axes.set_ylabel("ratio")
    axes.set_title("runs of this machine", fontsize=9)
    if names and entries:
        axes.legend(fontsize=6)


def _drawable(value: float) -> float:
    return value if math.isfinite(value) else 0.0
