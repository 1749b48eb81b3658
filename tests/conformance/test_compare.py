"""The comparison and the normalisation: what counts as different, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from . import normalise
from .compare import differences
from .differences import Difference

_INFER: dict[str, Any] = {
    "step": "POST /v2/models/m/infer",
    "request": "0",
    "status": 200,
    "headers": {"content-type": "application/json"},
    "json": {"model_name": "m", "outputs": [{"name": "o", "data": [1, 2.0]}]},
}
_ERROR: dict[str, Any] = {
    "step": "GET /x",
    "request": "0",
    "status": 404,
    "headers": {"content-type": "text/plain"},
    "json": {"error": "Not Found", "more": 1},
}


@pytest.mark.parametrize(
    ("recorded", "change"),
    [
        (_INFER, {"status": 201}),
        (_INFER, {"json": {"model_name": "m", "outputs": [{"name": "o", "data": [1, 2]}]}}),
        (_INFER, {"json": {"model_name": "m", "outputs": [{"name": "o", "data": [1.0, 2.0]}]}}),
        (_INFER, {"json": {"model_name": "m", "outputs": []}}),
        (_INFER, {"json": {"outputs": _INFER["json"]["outputs"], "model_name": "m"}}),
        (_INFER, {"headers": {"content-type": "text/plain"}}),
        (_INFER, {"binary": ""}),
        (_INFER, {"request": "1"}),
        (_ERROR, {"headers": {"content-type": "text/html"}}),
        (_ERROR, {"json": {"error": "Not found", "more": 1}}),
        (_ERROR, {"json": {"error": "Not Found"}}),
    ],
)
def test_a_change_is_noticed(recorded: dict[str, Any], change: dict[str, Any]) -> None:
    assert differences([recorded], [recorded]) == []
    assert len(differences([recorded], [{**recorded, **change}])) == 1


def test_order_counts_only_in_infer_answers() -> None:
    assert differences([_ERROR], [{**_ERROR, "json": {"more": 1, "error": "Not Found"}}]) == []


def test_an_error_may_be_json_where_it_was_text() -> None:
    assert differences([_ERROR], [{**_ERROR, "headers": {"content-type": "application/json"}}]) == []
    assert differences([_INFER], [{**_INFER, "headers": {"content-type": "text/plain"}}]) != []


def test_a_missing_step_is_noticed() -> None:
    assert differences([_ERROR, _ERROR], [_ERROR]) == ["recorded 2 steps, got 1: record again"]


def test_a_deliberate_difference_replaces_what_was_recorded() -> None:
    wanted = Difference("because", {"0.json.error": "Gone", "0.status": 410})
    got = {**_ERROR, "status": 410, "json": {"error": "Gone", "more": 1}}
    assert differences([_ERROR], [got], wanted) == []
    assert len(differences([_ERROR], [_ERROR], wanted)) == 2


def test_normalised_text() -> None:
    replace = {"/tmp/run/models": "<repository>", "abcd1234": "RUNTOKEN"}
    assert normalise.text("key /c_abcd1234 in /tmp/run/models/m", replace) == "key /c_RUNTOKEN in <repository>/m"
    assert normalise.text("Got input(s) ['B','A'], but", {}) == "Got input(s) ['A','B'], but"
    assert normalise.text("ValueError: x\n\nAt:\n  /a/model.py(3): execute\n", {}) == "ValueError: x"
    assert normalise.text("x\n\nAt:\n  /a/b.py(3): f\n  /a/c.py(4): g\n;\n", {}) == "x;\n"


def test_normalised_numbers() -> None:
    value = {"data": [float("nan"), float("inf"), float("-inf"), 1.5, 2]}
    assert normalise.strings(value, str) == {"data": ["<NaN>", "<Infinity>", "<-Infinity>", 1.5, 2]}


def test_the_place_of_a_repository_may_be_left_out() -> None:
    recorded = [{"step": "a", "json": {"error": "not found in '<repository>/m/1/model.py'"}}]
    assert differences(recorded, [{"step": "a", "json": {"error": "not found in 'm/1/model.py'"}}]) == []
    assert differences(recorded, [{"step": "a", "json": {"error": "not found in 'model.py'"}}]) != []
