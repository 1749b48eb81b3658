"""Take out of an answer what may differ between two runs of one server. Pure.

| taken out | why |
|---|---|
| the run token, the repository's folder | chosen by the run |
| the order of the names in `Got input(s) [..]`, `missing required input(s) [..]` | a hash map in Triton |
| the order of a repository index and of region lists | documented as unspecified |
| the `At:` block after a Python exception | files and lines are those of two servers |
| the server's version number | another product; only its form is compared |
| the value of Inference-Header-Content-Length | it has split the body already; JSON text may be spaced differently |
| times and durations in statistics | they are those of the run; whether there is one counts |
| NaN and infinities | not JSON: written as strings in angle brackets |
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

_CONFIG_MAPS = ("cc_model_filenames", "metric_tags", "parameters")
_NAME_LIST = re.compile(r"input\(s\) \[([^]]*)\]")
_TRACEBACK = re.compile(r"\n\nAt:\n(?:  [^\n]*\n)*")
_VERSION = re.compile(r"\d+\.\d+\.\d+\S*")
_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")


def _sorted_names(match: re.Match[str]) -> str:
    return f"input(s) [{','.join(sorted(match[1].split(',')))}]"


def text(value: str, replace: Mapping[str, str]) -> str:
    """Normalise one string: `replace` maps texts of this run to their placeholders, longest first."""
    for old in sorted(replace, key=len, reverse=True):
        value = value.replace(old, replace[old])
    value = _TRACEBACK.sub("", value)
    value = _ADDRESS.sub("<address>", value)
    return _NAME_LIST.sub(_sorted_names, value)


def number(value: float) -> float | str:
    """A float as JSON can hold it."""
    if math.isnan(value):
        return "<NaN>"
    if math.isinf(value):
        return "<Infinity>" if value > 0 else "<-Infinity>"
    return value


def strings(value: Any, change: Callable[[str], str]) -> Any:
    """The value with `change` applied to every string, keys too, and `number` to every float; keys keep their order."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, list):
        return [strings(item, change) for item in value]
    if isinstance(value, dict):
        return {change(key): strings(item, change) for key, item in value.items()}
    return value


def entries(value: list[Any], only: tuple[str, ...]) -> list[Any]:
    """A list of named entries (an index, a region list) in a fixed order; those named in `only`, if it names any."""
    kept = [entry for entry in value if not only or entry.get("name") in only]
    return sorted(kept, key=lambda entry: (entry.get("name", ""), str(entry.get("version", ""))))


def model_config(value: dict[str, Any]) -> dict[str, Any]:
    """A model's configuration with its protobuf maps, whose order is random in Triton, in the order of their keys."""
    return {key: dict(sorted(item.items())) if key in _CONFIG_MAPS else item for key, item in value.items()}


def server_metadata(value: dict[str, Any]) -> dict[str, Any]:
    """Server metadata without the product's version number."""
    return {**value, "version": _VERSION.sub("<version>", str(value.get("version", "")))}


def statistics(value: Any) -> Any:
    """Statistics of models with every time and every duration replaced by whether it is zero."""
    if isinstance(value, list):
        return [statistics(item) for item in value]
    if isinstance(value, dict):
        return {
            key: ("<time>" if item else 0) if key in ("ns", "last_inference") else statistics(item)
            for key, item in value.items()
        }
    return value
