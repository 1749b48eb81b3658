"""Inference over HTTP with the binary extension, and raw binary requests."""

from __future__ import annotations

import struct

from ..messages import compact, infer, infer_binary, infer_path, infer_raw, output, strings, tensor
from ..steps import Case, Http

_A = struct.pack("<4f", 1, 2, 3, 4)
_B = struct.pack("<4f", 10, 20, 30, 40)
_IN = [tensor("INPUT0", "FP32", [1, 4], binary_data_size=16), tensor("INPUT1", "FP32", [1, 4], binary_data_size=16)]
_BOTH = [output("OUTPUT0", binary_data=True), output("OUTPUT1", binary_data=True)]
_ONE = [tensor("INPUT0", "INT32", [1], binary_data_size=4)]
_JSON_ONE = [tensor("INPUT0", "INT32", [1], [1])]
_FOUR = struct.pack("<i", 4)


def _with_header(name: str, length: str) -> Case:
    return Case(f"binary-header-length-{name}", (infer_binary("echo", {"inputs": _ONE}, _FOUR, length),))


CASES = (
    Case("binary-in-json-out", (infer_binary("add_sub", {"inputs": _IN}, _A + _B),)),
    Case("binary-in-binary-out", (infer_binary("add_sub", {"inputs": _IN, "outputs": _BOTH}, _A + _B),)),
    Case(
        "binary-in-mixed-out",
        (infer_binary("add_sub", {"inputs": _IN, "outputs": [_BOTH[1], output("OUTPUT0")]}, _A + _B),),
    ),
    Case(
        "binary-mixed-in",
        (
            infer_binary(
                "add_sub", {"inputs": [tensor("INPUT0", "FP32", [1, 4], [1, 2, 3, 4]), _IN[1]], "outputs": _BOTH}, _B
            ),
        ),
    ),
    Case("binary-json-in-binary-out", (infer("echo", _JSON_ONE, [output("OTHER", binary_data=True)]),)),
    Case(
        "binary-data-output",
        (infer_binary("add_sub", {"inputs": _IN, "parameters": {"binary_data_output": True}}, _A + _B),),
    ),
    Case(
        "binary-data-output-false",
        (infer_binary("add_sub", {"inputs": _IN, "parameters": {"binary_data_output": False}}, _A + _B),),
    ),
    Case(
        "binary-data-output-and-listed",
        (
            infer_binary(
                "add_sub",
                {"inputs": _IN, "parameters": {"binary_data_output": True}, "outputs": [output("OUTPUT1")]},
                _A + _B,
            ),
        ),
    ),
    Case(
        "binary-data-output-and-listed-false",
        (
            infer_binary(
                "add_sub",
                {
                    "inputs": _IN,
                    "parameters": {"binary_data_output": True},
                    "outputs": [output("OUTPUT1", binary_data=False)],
                },
                _A + _B,
            ),
        ),
    ),
    Case("binary-data-output-not-bool", (infer("echo", _JSON_ONE, parameters={"binary_data_output": 1}),)),
    Case("binary-header-is-whole-body", (infer_binary("echo", {"inputs": _JSON_ONE}, b""),)),
    Case(
        "binary-zero-size",
        (infer_binary("identity_fp32", {"inputs": [tensor("INPUT0", "FP32", [0], binary_data_size=0)]}, b""),),
    ),
    Case(
        "binary-zero-size-binary-out",
        (
            infer_binary(
                "identity_fp32",
                {
                    "inputs": [tensor("INPUT0", "FP32", [0], binary_data_size=0)],
                    "outputs": [output("OUTPUT0", binary_data=True)],
                },
                b"",
            ),
        ),
    ),
    Case(
        "binary-strings",
        (
            infer_binary(
                "identity_bytes",
                {
                    "inputs": [tensor("INPUT0", "BYTES", [3], binary_data_size=18)],
                    "outputs": [output("OUTPUT0", binary_data=True)],
                },
                strings(b"", b"\xff\x00\x01", b"abc"),
            ),
        ),
    ),
    Case(
        "binary-strings-invalid-utf8-json-out",
        (
            infer_binary(
                "identity_bytes", {"inputs": [tensor("INPUT0", "BYTES", [1], binary_data_size=6)]}, strings(b"\xff\xfe")
            ),
        ),
    ),
    _with_header("word", "abc"),
    _with_header("empty", ""),
    _with_header("negative", "-1"),
    _with_header("too-long", "9999"),
    _with_header("out-of-range", "99999999999"),
    _with_header("fraction", "10.5"),
    _with_header("trailing-text", "84x"),
    _with_header("too-short", "10"),
    _with_header("plus", f"+{len(compact({'inputs': _ONE}))}"),
    _with_header("space", f" {len(compact({'inputs': _ONE}))} "),
    Case(
        "binary-lower-case-header",
        (
            Http(
                "POST",
                infer_path("echo"),
                compact({"inputs": _ONE}) + _FOUR,
                (("inference-header-content-length", str(len(compact({"inputs": _ONE})))),),
            ),
        ),
    ),
    Case("binary-size-without-header", (infer("echo", _ONE),)),
    Case("binary-too-few-bytes", (infer_binary("echo", {"inputs": _ONE}, b"\x01\x02"),)),
    Case("binary-no-bytes", (infer_binary("echo", {"inputs": _ONE}, b""),)),
    Case("binary-too-many-bytes", (infer_binary("echo", {"inputs": _ONE}, _FOUR + b"\x00"),)),
    Case("binary-left-over-after-json", (infer_binary("echo", {"inputs": _JSON_ONE}, b"\x00"),)),
    Case(
        "binary-size-not-shape",
        (infer_binary("echo", {"inputs": [tensor("INPUT0", "INT32", [1], binary_data_size=8)]}, _FOUR * 2),),
    ),
    Case(
        "binary-size-string",
        (infer_binary("echo", {"inputs": [tensor("INPUT0", "INT32", [1], binary_data_size="4")]}, _FOUR),),
    ),
    Case(
        "binary-size-negative",
        (infer_binary("echo", {"inputs": [tensor("INPUT0", "INT32", [1], binary_data_size=-4)]}, _FOUR),),
    ),
    Case(
        "binary-size-float",
        (infer_binary("echo", {"inputs": [tensor("INPUT0", "INT32", [1], binary_data_size=4.0)]}, _FOUR),),
    ),
    Case(
        "binary-size-huge",
        (infer_binary("echo", {"inputs": [tensor("INPUT0", "INT32", [1], binary_data_size=2**63)]}, _FOUR),),
    ),
    Case(
        "binary-size-and-data",
        (infer_binary("echo", {"inputs": [tensor("INPUT0", "INT32", [1], [1], binary_data_size=4)]}, _FOUR),),
    ),
    Case("binary-output-not-bool", (infer("echo", _JSON_ONE, [output("OTHER", binary_data=1)]),)),
    Case(
        "binary-json-malformed",
        (Http("POST", infer_path("echo"), b'{"inputs"' + _FOUR, (("Inference-Header-Content-Length", "9"),)),),
    ),
    Case("raw-one-input", (infer_raw("echo", _FOUR),)),
    Case("raw-variable-input", (infer_raw("identity_fp32", _A),)),
    Case("raw-variable-input-empty", (infer_raw("identity_fp32", b""),)),
    Case("raw-variable-input-odd", (infer_raw("identity_fp32", _A[:5]),)),
    Case("raw-batch", (infer_raw("identity_batch", _A),)),
    Case("raw-bytes", (infer_raw("identity_bytes_batch", b"a text"),)),
    Case("raw-bytes-variable", (infer_raw("identity_bytes", b"a text"),)),
    Case("raw-bytes-empty", (infer_raw("identity_bytes_batch", b""),)),
    Case("raw-bytes-four-elements", (infer_raw("identity_bytes_2d", b"a text"),)),
    Case("raw-two-variable-dims", (infer_raw("identity_variable", _A),)),
    Case("raw-two-inputs", (infer_raw("add_sub", _A),)),
    Case("raw-wrong-size", (infer_raw("echo", _FOUR * 2),)),
    Case("raw-fixed", (infer_raw("identity_fixed", struct.pack("<6i", *range(6))),)),
    Case("raw-no-body-no-header", (Http("POST", infer_path("echo")),)),
    Case("raw-unknown-model", (infer_raw("nothing", _FOUR),)),
    Case("raw-json-body", (infer_raw("identity_bytes_batch", compact({"inputs": _JSON_ONE})),)),
)
