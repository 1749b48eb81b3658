"""Requests with two faults, and what Triton does not come to look at: which one it tells."""

from __future__ import annotations

from tritonclient.grpc import service_pb2 as pb

from ..messages import compact, grpc_infer, grpc_tensor, infer, post, strings, tensor
from ..steps import Case, Grpc, Http

_TRACE = "/v2/models/nothing/trace/setting"
_BAD_SETTINGS: dict[str, bytes] = {
    "nothing": b"",
    "not-json": b"x",
    "number": compact({"trace_rate": "abc"}),
    "list": compact({"trace_rate": []}),
    "level": compact({"trace_level": 1}),
    "file": compact({"trace_file": "x"}),
}


def _trace(**settings: list[str]) -> Grpc:
    request = pb.TraceSettingRequest(model_name="nothing")
    for name, values in settings.items():
        request.settings[name].value.extend(values)
    return Grpc("TraceSetting", request)


CASES = (
    *(
        Case(f"first-generate-{name}", (post(f"/v2/models/{model}/generate", {"INPUT0": value}),))
        for name, model, value in (
            ("number-for-strings", "identity_bytes_2d", -3),
            ("numbers-for-strings", "identity_bytes_2d", [1]),
            ("null-for-strings", "identity_bytes_2d", None),
            ("list-of-list", "identity_bytes_2d", [["a"]]),
            ("no-strings", "identity_bytes_2d", []),
            ("no-fp16", "identity_fp16", []),
            ("no-bf16", "identity_bf16", []),
        )
    ),
    *(
        Case(f"first-no-dims-{name}", (infer(model, [tensor("INPUT0", datatype, [], data)]),))
        for name, model, datatype, data in (
            ("too-many", "echo", "INT32", [1, 2, 3]),
            ("wrong-type", "echo", "INT32", ["a"]),
            ("none", "identity_fp64", "FP64", []),
            ("number-for-string", "identity_bytes", "BYTES", [1]),
            ("fp16", "identity_fp16", "FP16", [1]),
            ("not-array", "echo", "INT32", "a"),
            ("other-datatype", "echo", "UINT32", [False]),
            ("batch", "identity_batch", "FP32", [1, 2]),
        )
    ),
    Case("first-no-dims-then-outputs", (infer("echo", [tensor("INPUT0", "INT32", [], [1, 2])], {"a": 1}),)),
    Case("first-rank-negative-dim", (grpc_infer("identity_fp32", [grpc_tensor("INPUT0", "FP32", [1, -1])], [b""]),)),
    Case(
        "first-rank-negative-dim-batch",
        (grpc_infer("identity_batch", [grpc_tensor("INPUT0", "FP32", [1, 1, 2, -1])], [b""]),),
    ),
    Case(
        "first-rank-negative-dim-strings",
        (grpc_infer("identity_bytes", [grpc_tensor("INPUT0", "BYTES", [-1, 1])], [strings(b"a")]),),
    ),
    *(
        Case(f"first-unknown-{name}", (grpc_infer(model, [grpc_tensor("INPUT0", "INT32", [1])], [bytes(4)]),))
        for name, model in (("with-slash", "a/b"), ("path", "/echo"), ("only-slash", "/"))
    ),
    *(Case(f"first-trace-{name}", (Http("POST", _TRACE, body),)) for name, body in _BAD_SETTINGS.items()),
    *(
        Case(f"first-register-null-{kind}", (Http("POST", f"/v2/{kind}sharedmemory/region/r/register", b"null"),))
        for kind in ("system", "cuda")
    ),
    Case("first-trace-grpc-number", (_trace(trace_rate=["abc"]),)),
    Case("first-trace-grpc-two", (_trace(trace_rate=["1", "2"]),)),
    Case("first-trace-grpc-file", (_trace(trace_file=["x"]),)),
)
