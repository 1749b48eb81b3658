"""What becomes of the rows: a text for people, files, and the history, in which a loss shows."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tools.bench import history, machine, plot, report
from tools.bench.alternation import Plan
from tools.bench.report import Row

Parts = Mapping[str, Sequence[Row]]
"""Rows by the name of what tensorhub was compared with: the peer first, then the baselines."""


def facts(plan: Plan, options: argparse.Namespace) -> dict[str, Any]:
    """Return what the results are worth nothing without."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "machine": machine.machine(),
        "peer": plan.peer.name if plan.peer else None,
        "server_cmd": options.server_cmd,
        "peer_cmd": options.peer_cmd,
        "alternations": plan.alternations,
        "seconds": plan.seconds,
    }


def text(parts: Parts, lost: Mapping[str, Sequence[str]]) -> str:
    """Return the tables of all parts, and what was lost.

    Args:
        lost: of `history.losses`, for the first part.
    """
    tables = []
    for place, (name, rows) in enumerate(parts.items()):
        if rows:
            tables.append(report.markdown(rows, name, lost if place == 0 else ()))
            if place == 0:
                tables += [report.processes_markdown(rows), report.phases_markdown(rows, name)]
    tables += ["".join(f"LOSS: {line}\n" for lines in lost.values() for line in lines)]
    return "\n".join(filter(None, tables))


def keep(parts: Parts, known: Mapping[str, Any], options: argparse.Namespace) -> dict[str, list[str]]:
    """Write the history line and the files that were asked for; return which rows fell behind, see `history.losses`."""
    (_, rows), *others = parts.items()
    line = history.entry(rows, known)
    line["baselines"] = {name: {row.workload.name: report.to_json(row) for row in some} for name, some in others}
    path = options.output / "history.jsonl"
    older = history.comparable(history.read(path), line)
    history.append(path, line)
    lost = history.losses(older, line)
    if options.json:
        options.json.write_text(json.dumps(line, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if options.markdown:
        head = f"{known['date']}, commit {known['commit']}, {known['machine']}"
        options.markdown.write_text(f"{head}\n\n{text(parts, lost)}", encoding="utf-8")
    if options.plot:
        plot.draw(options.output / "ratios.png", rows, [*older, line])
    return lost
