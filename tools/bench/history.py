"""The history file: one JSON object a line for each finished run, so that a loss shows.

Pure, but for `read` and `append`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.bench.report import Row, to_json

# A median of pair ratios on a shared machine repeats to within a few percent; a tenth is more than that.
TOLERANCE = 0.10

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


def losses(entries: Sequence[Entry], line: Entry, tolerance: float = TOLERANCE) -> list[str]:
    """Return one sentence for each ratio that fell by more than `tolerance` since the last entry that has it.

    Args:
        entries: older entries, oldest first, comparable with `line`.
    """
    found = []
    for name, now in line["results"].items():
        before = next((old for old in reversed(entries) if name in old["results"]), None)
        if before is None:
            continue
        for key, words in (("ratio", "ratio"), ("cpu_ratio", "CPU ratio")):
            was, is_now = _median(before["results"][name].get(key)), _median(now.get(key))
            if was is not None and is_now is not None and is_now < was * (1 - tolerance):
                found.append(
                    f"{name}: {words} fell from {was:.2f} to {is_now:.2f} since {before['commit']} ({before['date']})"
                )
    return found


def _median(ratio: Any) -> float | None:
    value = ratio.get("median") if isinstance(ratio, dict) else None
    return float(value) if isinstance(value, int | float) else None
