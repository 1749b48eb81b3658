"""The recorded answers in the tree: `recorded/<group>.json`, each a map of case id to the answers of its steps.

The text is laid out for reading and for small diffs: a value that fits on a line stands on one, members keep the
server's order.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "recorded"
_WIDTH = 150


def read(group: str) -> dict[str, list[dict[str, Any]]]:
    """The recordings of a group; empty if it was never recorded."""
    path = FOLDER / f"{group}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def write(group: str, answers: dict[str, list[dict[str, Any]]]) -> None:
    """Replace the recordings of a group."""
    (FOLDER / f"{group}.json").write_text(layout(answers) + "\n", "utf-8")


def layout(value: Any, indent: int = 0) -> str:
    """JSON text of a value, one line for whatever fits in the width, but at least one for each case and step."""
    line = json.dumps(value, ensure_ascii=True, allow_nan=False)
    if not isinstance(value, (dict, list)) or not value or (indent >= 2 and len(line) + indent <= _WIDTH):
        return line
    inner = " " * (indent + 1)
    if isinstance(value, dict):
        items = [f"{inner}{json.dumps(key)}: {layout(item, indent + 1)}" for key, item in value.items()]
    else:
        items = [inner + layout(item, indent + 1) for item in value]
    left, right = ("{", "}") if isinstance(value, dict) else ("[", "]")
    return f"{left}\n" + ",\n".join(items) + f"\n{' ' * indent}{right}"
