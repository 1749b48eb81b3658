"""Where scheduling differs from the recorded Triton 2.51 on purpose; see `differences`."""

from __future__ import annotations

import json
from typing import Any

_CUT_LATE = (
    "Triton prepares the next batch while the instance is at work and closes it at the first preferred size that it "
    "meets. Here a batch is cut when an instance is free to run it, at the largest preferred size that waits."
)
_STRING_CONTROL = (
    "2.51 counts the elements of a control of type TYPE_STRING wrongly and refuses every request; later versions hand "
    "the id to the model."
)
_WRONG_ID = (
    "2.51 does not compare the type of a correlation id with that of its control: the model gets bytes of the server's "
    "memory as a number. Later versions refuse such a request with this text."
)

_Report = dict[str, Any]


def _report(*batch: str, rows: int = 1, **others: Any) -> str:
    """What the reporter answers to a request without controls."""
    report: _Report = {
        "batch": batch,
        "nulls": [],
        "flags": 0,
        "correlation_id": 0,
        "inputs": {"INPUT0": ["int32", [rows, 1], [0] * rows]},
    }
    return json.dumps(report | others, sort_keys=True)


def _step(number: int) -> _Report:
    """A step of the sequence 'a name' of three, and its report."""
    flags = (1, 0, 2)[number]
    switches = {"START": flags & 1, "END": flags >> 1, "READY": 1}
    inputs = {
        "INPUT0": ["int32", [1, 1], [0]],
        "CORRID": ["object", [1, 1], ["a name"]],
        **{name: ["int32", [1, 1], [value]] for name, value in switches.items()},
    }
    text = _report("", flags=flags, correlation_id="a name", inputs=inputs)
    return {
        "model_name": "seq_string",
        "model_version": "1",
        "outputs": [{"name": "REPORT", "datatype": "BYTES", "shape": [1, 1], "data": [text]}],
    }


def _wrong(got: str, model: str, expected: str) -> _Report:
    return {
        "error": f"sequence batching control 'CORRID' data-type is '{got}', but model '{model}' expects '{expected}'"
    }


SCHEDULING: dict[str, tuple[str, dict[str, Any]]] = {
    "scheduling-preferred": (
        _CUT_LATE,
        {
            f"0.answers.{place}.json.outputs.0.data.0": _report(*("abcd" if place < 5 else "ef"))
            for place in range(1, 7)
        },
    ),
    "scheduling-preferred-passed": (
        _CUT_LATE,
        {f"0.answers.{place}.json.outputs.0.data": [_report(name, rows=3)] * 3 for place, name in ((1, "a"), (2, "b"))},
    ),
    "sequences-string-id": (
        _STRING_CONTROL,
        {
            key: value
            for number in range(3)
            for key, value in (
                (f"{number}.status", 200),
                (f"{number}.headers", {"content-type": "application/json"}),
                (f"{number}.json", _step(number)),
            )
        },
    ),
    "sequences-string-id-for-integer-control": (
        _WRONG_ID,
        {
            key: value
            for number, model in enumerate(("seq_direct", "seq_oldest"))
            for key, value in ((f"{number}.status", 400), (f"{number}.json", _wrong("BYTES", model, "UINT64")))
        },
    ),
    "sequences-integer-id-for-string-control": (_WRONG_ID, {"0.json": _wrong("UINT64", "seq_string", "BYTES")}),
}
"""By case: the reason, and what is expected instead."""
