"""Requested outputs: which, in what order, and what is wrong with a list of them."""

from __future__ import annotations

from ..messages import grpc_infer, grpc_output, grpc_tensor, infer, output, tensor
from ..steps import Case

_IN = [tensor("INPUT0", "INT32", [2], [3, -4])]
_GRPC = [grpc_tensor("INPUT0", "INT32", [2])]
_DATA = [b"\x03\x00\x00\x00\xfc\xff\xff\xff"]
_ECHO = [tensor("INPUT0", "INT32", [1], [1])]


def _http(name: str, outputs: object, model: str = "many_outputs") -> Case:
    return Case(f"outputs-{name}", (infer(model, _IN if model == "many_outputs" else _ECHO, outputs),))


def _grpc(name: str, *outputs: object) -> Case:
    return Case(f"outputs-{name}-grpc", (grpc_infer("many_outputs", _GRPC, _DATA, outputs),))


CASES = (
    _http("all", None),
    _http("one", [output("C_BOOL")]),
    _http("two-in-config-order", [output("A_FP32"), output("D_INT64")]),
    _http("two-in-other-order", [output("D_INT64"), output("A_FP32")]),
    _http("four-in-name-order", [output(name) for name in ("A_FP32", "B_BYTES", "C_BOOL", "D_INT64")]),
    _http("mixed-binary", [output("A_FP32", binary_data=True), output("B_BYTES"), output("D_INT64", binary_data=True)]),
    _http("strings-binary", [output("B_BYTES", binary_data=True)]),
    _http("bool-binary", [output("C_BOOL", binary_data=True)]),
    _http("empty-parameters", [{"name": "A_FP32", "parameters": {}}]),
    _http("unknown-parameter", [output("A_FP32", other=1)]),
    _http("classification-zero", [output("A_FP32", classification=0)]),
    _http("unknown", [output("E")]),
    _http("unknown-and-known", [output("A_FP32"), output("E")]),
    _http("twice", [output("A_FP32"), output("A_FP32")]),
    _http("twice-different", [output("A_FP32"), output("A_FP32", binary_data=True)]),
    _http("no-name", [{}]),
    _http("name-not-string", [{"name": 1}]),
    _http("empty-name", [output("")]),
    _http("not-objects", ["A_FP32"]),
    _http("not-list", {"name": "A_FP32"}),
    _http("string", "A_FP32"),
    _http("parameters-not-object", [{"name": "A_FP32", "parameters": 1}]),
    _http("parameters-list", [{"name": "A_FP32", "parameters": []}]),
    _http("names-seen-by-model", [output("REPORT")], "echo"),
    _http("both-names-seen-by-model", [output("OTHER"), output("REPORT")], "echo"),
    _http("model-output-not-requested", [output("OTHER")], "echo"),
    Case("outputs-unknown-with-id", (infer("many_outputs", _IN, [output("E")], id="abc"),)),
    Case("outputs-twice-with-id", (infer("many_outputs", _IN, [output("A_FP32")] * 2, id="abc"),)),
    _grpc("all"),
    _grpc("one", grpc_output("C_BOOL")),
    _grpc("two-in-other-order", grpc_output("D_INT64"), grpc_output("A_FP32")),
    _grpc("unknown", grpc_output("E")),
    _grpc("empty-name", grpc_output("")),
    _grpc("twice", grpc_output("A_FP32"), grpc_output("A_FP32")),
    _grpc("unknown-parameter", grpc_output("A_FP32", other=1)),
    _grpc("classification-not-int", grpc_output("A_FP32", classification="1")),
    _grpc("classification-zero", grpc_output("A_FP32", classification=0)),
    _grpc("classification-negative", grpc_output("A_FP32", classification=-1)),
)
