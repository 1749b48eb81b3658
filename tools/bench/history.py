"""The history file: one JSON object a line for each finished run, so that a loss shows.

Pure, but for `read` and `append`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tools.bench.report import Row, to_json

TOLERANCE = 0.10
"""A median of pair ratios on a shared machine repeats to within a few percent; a tenth is more than that."""

LAST_RUNS = 10
"""What was long ago does not count: the code was another."""

DEVIATIONS = 3.0
"""Of the median deviation: about two standard deviations, if the runs differ by chance."""

Entry = Mapping[str, Any]


def entry(rows: Iterable[Row], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the line of one run: `facts` (date, commit, machine, peer, settings) and the results by workload name."""
    return {**facts, "results": {row.workload.name: to_json(row) for row in rows}}


def read(path: Path) -> list[Entry]:
    """Return the entries, oldest first; none if there is no file. A line cut short by a full disk is passed over."""
    if not path.exists():
        return []
    entries: list[Entry] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(found, dict) and isinstance(found.get("results"), dict):
            entries.append(found)
    return entries


def append(path: Path, line: Entry) -> None:
    """Add one entry at the end of the file, which is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, allow_nan=False) + "\n")


def comparable(entries: Iterable[Entry], line: Entry) -> list[Entry]:
    """Return the entries of the same machine, peer and server command as `line`."""
    return [old for old in entries if all(old.get(key) == line.get(key) for key in ("machine", "peer", "server_cmd"))]


def losses(entries: Sequence[Entry], line: Entry) -> dict[str, list[str]]:
    """Return the workloads that fell behind their own history, each with a sentence for every quantity that did.

    Compared are the ratios, or tensorhub's own figures where there is no peer, with the median of the last runs. Behind
    is what is worse by more than those runs differ from their median, and by more than a tenth of it.

    Args:
        entries: older entries, oldest first, comparable with `line`.
    """
    found: dict[str, list[str]] = {}
    for name, now in line["results"].items():
        before = [old["results"][name] for old in entries if name in old["results"]]
        for words, value in _standing(now).items():
            older = [known[words] for known in map(_standing, before) if words in known][-LAST_RUNS:]
            if not older:
                continue
            usual = median(older)
            spread = DEVIATIONS * median(abs(one - usual) for one in older)
            if value < usual - max(spread, TOLERANCE * usual):
                found.setdefault(name, []).append(
                    f"{name}: {words} is {value:.3g}, and {usual:.3g} (+-{spread:.2g}) in {_runs(len(older))} before"
                )
    return found


def _standing(result: Mapping[str, Any]) -> dict[str, float]:
    """Return what is compared of one result, by the words for it; more is better in all."""
    ratios = {"the ratio": result.get("ratio"), "the ratio in CPU time": result.get("cpu_ratio")}
    known = {words: value["median"] for words, value in ratios.items() if isinstance(value, dict)}
    if not known:
        mine, more = result.get("tensorhub", {}), result.get("more_is_better", True)
        known["the throughput" if more else "the inverse"] = _oriented(mine.get("value"), more)
        known["the inverse of CPU time"] = _oriented(mine.get("cpu_us"), False)
    return {words: float(value) for words, value in known.items() if isinstance(value, int | float)}


def _oriented(value: Any, more_is_better: bool) -> float | None:
    if not isinstance(value, int | float) or not value:
        return None
    return float(value) if more_is_better else 1 / value


def _runs(count: int) -> str:
    return "the run" if count == 1 else f"the {count} runs"
