"""Read the trace files of a server that goes on writing them."""

import json
from pathlib import Path
from typing import Any

from tests.waiting import comes_true


def trace_objects(path: Path) -> list[dict[str, Any]]:
    """Return what a trace file holds by now, nothing if there is none.

    A reader needs two system calls and may have the old end of the array and behind it what was added meanwhile: it
    looks again.
    """
    found: list[dict[str, Any]] = []

    def is_whole() -> bool:
        try:
            found[:] = json.loads(path.read_bytes() or b"[]") if path.exists() else []
        except json.JSONDecodeError:
            return False
        return True

    assert comes_true(is_whole), f"{path} is no JSON: {path.read_text()}"
    return found
