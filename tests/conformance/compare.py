"""Compare the answers of a case with the recorded ones, and say where they differ. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .differences import Difference, content_type_allowed

_SHOWN = 400
_REPOSITORY = "<repository>/"
"""May be left out: clients of tensorhub are not shown where a repository is."""

_ORDERED = ("/infer", "/generate", "/generate_stream")


def differences(
    recorded: list[dict[str, Any]], got: list[dict[str, Any]], deliberate: Difference | None = None
) -> list[str]:
    """One line for each place where `got` is not what was recorded, or what `deliberate` puts there; empty if equal.

    Objects are equal if they hold the same members; in the answer to a successful infer or generate over HTTP their
    order counts, but for parameters, which are a map on their way. Integers and floats are told apart, as they are in
    JSON text.
    """
    expected: Any = recorded
    if deliberate is not None:
        for path in deliberate.without:
            expected = _take(expected, path.split("."))
        for path, value in deliberate.instead.items():
            expected = _put(expected, path.split("."), value)
    if len(expected) != len(got):
        return [f"recorded {len(expected)} steps, got {len(got)}: record again"]
    lines: list[str] = []
    for number, (want, have) in enumerate(zip(expected, got, strict=True)):
        if (want["step"], want.get("request")) != (have["step"], have.get("request")):
            return [f"step {number}: recorded of another request ({want['step']} {want.get('request')}): record again"]
        if want["step"].startswith("together "):
            lines += [f"step {number}: {line}" for line in differences(want["answers"], have["answers"])]
            continue
        want = _with_allowed_type(want, have)
        ordered = want["step"].endswith(_ORDERED) and want.get("status") == 200
        lines += [f"step {number} ({want['step']}): {line}" for line in _compare("", want, have, ordered)]
    return lines


def _with_allowed_type(want: dict[str, Any], have: dict[str, Any]) -> dict[str, Any]:
    """The recorded answer, with the content type that it was given instead, if that one is allowed."""
    got = have.get("headers", {}).get("content-type")
    headers = want.get("headers", {})
    if not content_type_allowed(want.get("status"), headers.get("content-type"), got):
        return want
    return {**want, "headers": {**headers, "content-type": got}}


def _compare(path: str, want: Any, have: Any, ordered: bool) -> Iterator[str]:
    if type(want) is not type(have):
        yield _line(path, want, have)
    elif isinstance(want, dict):
        for key in want:
            if key not in have:
                yield f"{path}.{key}: expected {_show(want[key])}, got nothing"
            else:
                yield from _compare(f"{path}.{key}", want[key], have[key], ordered)
        for key in have:
            if key not in want:
                yield f"{path}.{key}: expected nothing, got {_show(have[key])}"
        if ordered and not path.endswith(".parameters") and set(want) == set(have) and list(want) != list(have):
            yield f"{path}: expected the members in the order {list(want)}, got {list(have)}"
    elif isinstance(want, list) and len(want) == len(have):
        for position, (left, right) in enumerate(zip(want, have, strict=True)):
            yield from _compare(f"{path}[{position}]", left, right, ordered)
    elif want != have and not (isinstance(want, str) and want.replace(_REPOSITORY, "") == have):
        yield _line(path, want, have)


def _line(path: str, want: Any, have: Any) -> str:
    return f"{path}:\n    expected {_show(want)}\n    got      {_show(have)}"


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def _put(value: Any, path: list[str], new: Any) -> Any:
    """A copy of a JSON value with the member at `path` replaced; a missing one is added."""
    if not path:
        return new
    if isinstance(value, list):
        position = int(path[0])
        return [_put(item, path[1:], new) if index == position else item for index, item in enumerate(value)]
    return {**value, path[0]: _put(value.get(path[0]), path[1:], new)}


def _take(value: Any, path: list[str]) -> Any:
    """A copy of a JSON value without the member at `path`, which is a member of an object."""
    if isinstance(value, list):
        position = int(path[0])
        return [_take(item, path[1:]) if index == position else item for index, item in enumerate(value)]
    if len(path) == 1:
        return {key: item for key, item in value.items() if key != path[0]}
    return {**value, path[0]: _take(value[path[0]], path[1:])}
