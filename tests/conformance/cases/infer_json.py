"""Inference over HTTP with everything in JSON: what succeeds."""

from __future__ import annotations

from ..messages import compact, infer, infer_path, output, post, tensor
from ..steps import Case, Http

_ADD = [tensor("INPUT0", "FP32", [1, 4], [1, 2, 3, 4]), tensor("INPUT1", "FP32", [1, 4], [10, 20, 30, 40])]
_ADD_INT = [tensor("INPUT0", "INT32", [4], [1, 2, 3, 4]), tensor("INPUT1", "INT32", [4], [10, 20, 30, 40])]
_ONE = [tensor("INPUT0", "INT32", [1], [1])]

CASES = (
    Case("json-add-sub", (infer("add_sub", _ADD),)),
    Case("json-add-sub-with-version", (infer("add_sub", _ADD, version="1"),)),
    Case("json-add-sub-with-id", (infer("add_sub", _ADD, id="request 7"),)),
    Case("json-empty-id", (infer("add_sub", _ADD, id=""),)),
    Case("json-unicode-id", (infer("add_sub", _ADD, id='caf\u00e9 "x" \\ \t'),)),
    Case(
        "json-escaped-key",
        (
            Http(
                "POST",
                infer_path("echo"),
                b'{"inp\\u0075ts":[{"name":"INPUT0","datatype":"INT32","shape":[1],"data":[1]}]}',
            ),
        ),
    ),
    Case("json-add-sub-int", (infer("add_sub_int32", _ADD_INT),)),
    Case("json-inputs-in-other-order", (infer("add_sub_int32", _ADD_INT[::-1]),)),
    Case(
        "json-inputs-last",
        (post(infer_path("add_sub_int32"), {"outputs": [output("OUTPUT1")], "id": "z", "inputs": _ADD_INT}),),
    ),
    Case(
        "json-batch-of-two",
        (
            infer(
                "add_sub",
                [
                    tensor("INPUT0", "FP32", [2, 4], [1, 2, 3, 4, 5, 6, 7, 8]),
                    tensor("INPUT1", "FP32", [2, 4], [[0.5, 0.25, 0, -1], [1e3, 1e-3, 1e10, 0]]),
                ],
            ),
        ),
    ),
    Case("json-dynamic-batching", (infer("add_sub_dynamic", [{**t, "shape": [1, 4]} for t in _ADD_INT]),)),
    Case("json-nested-data", (infer("identity_fixed", [tensor("INPUT0", "INT32", [2, 3], [[1, 2, 3], [4, 5, 6]])]),)),
    Case("json-flat-data", (infer("identity_fixed", [tensor("INPUT0", "INT32", [2, 3], [1, 2, 3, 4, 5, 6])]),)),
    Case(
        "json-odd-nesting", (infer("identity_fixed", [tensor("INPUT0", "INT32", [2, 3], [[1], [[2, 3], 4], 5, [6]])]),)
    ),
    Case(
        "json-whitespace", (Http("POST", infer_path("echo"), b' {\r\n "inputs" : [ ' + compact(_ONE[0]) + b" ]\t}\n "),)
    ),
    Case(
        "json-unknown-members",
        (post(infer_path("echo"), {"extra": {"a": [1]}, "inputs": [{**_ONE[0], "more": None}], "x": 1}),),
    ),
    Case(
        "json-duplicate-member",
        (Http("POST", infer_path("echo"), b'{"id":"first","id":"second","inputs":' + compact(_ONE) + b"}"),),
    ),
    Case("json-empty-outputs", (infer("echo", _ONE, []),)),
    Case("json-outputs-null", (post(infer_path("echo"), {"inputs": _ONE, "outputs": None}),)),
    Case("json-asynchronous-model", (infer("asynchronous", _ONE),)),
    Case("json-autocompleted-model", (infer("autocomplete", [tensor("INPUT0", "FP32", [2, 3], [1, 2, 3, 4, 5, 6])]),)),
    Case("json-autocompleted-bare-model", (infer("autocomplete_bare", [tensor("INPUT0", "FP32", [1, 1], [1])]),)),
    Case("json-floats-out", (infer("floats", _ONE),)),
    Case("json-strings-out", (infer("strings_out", _ONE),)),
    Case("json-numpy-strings-out", (infer("unicode_out", _ONE),)),
    Case(
        "json-special-floats-in",
        (
            Http(
                "POST",
                infer_path("identity_fp32"),
                b'{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[7],'
                b'"data":[NaN,Infinity,-Infinity,Inf,-Inf,-0.0,1E5]}]}',
            ),
        ),
    ),
    Case(
        "json-float-limits-in",
        (
            infer("identity_fp32", [tensor("INPUT0", "FP32", [4], [3.4028234663852886e38, 1e-45, 1e39, 16777217])]),
            infer(
                "identity_fp64",
                [tensor("INPUT0", "FP64", [4], [1.7976931348623157e308, 5e-324, 9007199254740993, 0.1])],
            ),
        ),
    ),
    Case(
        "json-float-overflow",
        (
            Http(
                "POST",
                infer_path("identity_fp64"),
                b'{"inputs":[{"name":"INPUT0","datatype":"FP64","shape":[1],"data":[1e999]}]}',
            ),
        ),
    ),
    Case("json-optional-one", (infer("optional", [tensor("A", "INT32", [2], [1, 2])]),)),
    Case(
        "json-optional-two",
        (infer("optional", [tensor("B", "INT32", [2], [10, 20]), tensor("A", "INT32", [2], [1, 2])]),),
    ),
    Case(
        "json-optional-all",
        (infer("optional", [tensor(n, "INT32", [2], [1, 2]) for n in "AB"] + [tensor("C", "BYTES", [1], ["c"])]),),
    ),
    Case("json-all-optional-none", (infer("all_optional", []),)),
    Case("json-all-optional-one", (infer("all_optional", [tensor("B", "INT32", [2], [1, 2])]),)),
)
