"""JSON that is malformed, and JSON whose members have the wrong type."""

from __future__ import annotations

from ..messages import infer, infer_path, post, tensor
from ..steps import Case, Http

_MALFORMED = {
    "not-json": b"hello",
    "space": b" ",
    "open-brace": b"{",
    "close-brace": b"}",
    "open-bracket": b"[",
    "no-colon": b'{"inputs"}',
    "no-value": b'{"inputs":}',
    "no-comma": b'{"a":1 "b":2}',
    "trailing-comma-object": b'{"a":1,}',
    "trailing-comma-array": b'{"a":[1,]}',
    "no-comma-array": b'{"a":[1 2]}',
    "missing-bracket": b'{"a":[1}',
    "missing-brace": b'{"a":1',
    "name-not-string": b"{1:2}",
    "single-quotes": b"{'a':1}",
    "two-roots": b"{}{}",
    "root-then-text": b"{} x",
    "unterminated-string": b'{"a":"b',
    "bad-escape": b'{"a":"\\x"}',
    "bad-unicode-escape": b'{"a":"\\u12g4"}',
    "lone-surrogate": b'{"a":"\\ud800"}',
    "bad-surrogate-pair": b'{"a":"\\ud800\\u0041"}',
    "control-character": b'{"a":"\x01"}',
    "invalid-utf8": b'{"a":"\xff"}',
    "leading-zero": b'{"a":01}',
    "plus": b'{"a":+1}',
    "minus-only": b'{"a":-}',
    "dot-only": b'{"a":1.}',
    "leading-dot": b'{"a":.5}',
    "exponent-only": b'{"a":1e}',
    "huge-exponent": b'{"a":1e400}',
    "upper-case-true": b'{"a":TRUE}',
    "half-true": b'{"a":tru}',
    "half-null": b'{"a":nul}',
    "lower-case-nan": b'{"a":nan}',
    "comment": b'{/* c */"a":1}',
    "line-comment": b'{"a":1}// c',
    "byte-order-mark": b"\xef\xbb\xbf{}",
    "nul": b"\x00",
    "nul-after": b"{}\x00",
    "utf-16": '{"inputs":[]}'.encode("utf-16-le"),
}
_WRONG_ROOT = {
    "array": b"[]",
    "string": b'"x"',
    "number": b"1",
    "null": b"null",
    "true": b"true",
    "empty-object": b"{}",
}
_WRONG_TYPES: dict[str, object] = {
    "inputs-null": {"inputs": None},
    "inputs-object": {"inputs": {}},
    "inputs-string": {"inputs": "x"},
    "input-string": {"inputs": ["x"]},
    "input-null": {"inputs": [None]},
    "input-list": {"inputs": [[]]},
    "input-empty": {"inputs": [{}]},
    "id-number": {"id": 1, "inputs": []},
    "id-null": {"id": None, "inputs": []},
}
_INPUT = tensor("INPUT0", "INT32", [1], [1])
_WRONG_MEMBERS: dict[str, dict[str, object]] = {
    "name-number": {"name": 1},
    "name-null": {"name": None},
    "datatype-number": {"datatype": 1},
    "datatype-unknown": {"datatype": "INT33"},
    "shape-string": {"shape": "1"},
    "shape-number": {"shape": 1},
    "shape-object": {"shape": {}},
    "data-number": {"data": 1},
    "data-string": {"data": "x"},
    "data-object": {"data": {}},
    "data-null": {"data": None},
    "data-empty": {"data": []},
    "data-empty-nested": {"data": [[]]},
    "parameters-null": {"parameters": None},
}


def _without(member: str) -> dict[str, object]:
    return {key: value for key, value in _INPUT.items() if key != member}


def _deep(levels: int) -> Http:
    data = b"[" * levels + b"1" + b"]" * levels
    return Http(
        "POST",
        infer_path("echo"),
        b'{"inputs":[{"name":"INPUT0","datatype":"INT32","shape":[1],"data":' + data + b"}]}",
    )


CASES = (
    *(Case(f"malformed-{name}", (Http("POST", infer_path("echo"), body),)) for name, body in _MALFORMED.items()),
    *(Case(f"root-{name}", (Http("POST", infer_path("echo"), body),)) for name, body in _WRONG_ROOT.items()),
    *(Case(f"type-{name}", (post(infer_path("echo"), value),)) for name, value in _WRONG_TYPES.items()),
    *(
        Case(f"type-input-{name}", (infer("echo", [{**_INPUT, **members}]),))
        for name, members in _WRONG_MEMBERS.items()
    ),
    *(
        Case(f"input-without-{member}", (infer("echo", [_without(member)]),))
        for member in ("name", "datatype", "shape", "data")
    ),
    Case("malformed-unknown-model", (Http("POST", infer_path("nothing"), b"{"),)),
    Case("malformed-index", (Http("POST", "/v2/repository/index", b"{"),)),
    Case("deep-nesting", (Http("POST", infer_path("echo"), b'{"x":' + b"[" * 90 + b"]" * 90 + b',"inputs":[]}'),)),
    Case("data-nested-90-deep", (_deep(90),)),
    Case("root-90-arrays", (Http("POST", infer_path("echo"), b"[" * 90),)),
)
