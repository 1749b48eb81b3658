"""ModelInfer: raw and typed contents, and what is wrong with a request in its protobuf form."""

from __future__ import annotations

import struct

from tritonclient.grpc import service_pb2 as pb

from ..messages import grpc_infer, grpc_output, grpc_tensor, strings
from ..steps import Case, Grpc

_A = struct.pack("<4f", 1, 2, 3, 4)
_B = struct.pack("<4f", 10, 20, 30, 40)
_IN = [grpc_tensor("INPUT0", "FP32", [1, 4]), grpc_tensor("INPUT1", "FP32", [1, 4])]
_TYPED = [
    grpc_tensor("INPUT0", "FP32", [1, 4], {"fp32_contents": [1, 2, 3, 4]}),
    grpc_tensor("INPUT1", "FP32", [1, 4], {"fp32_contents": [10, 20, 30, 40]}),
]
_ONE = grpc_tensor("INPUT0", "INT32", [1])
_FOUR = struct.pack("<i", 4)

CASES = (
    Case("grpc-add-sub-raw", (grpc_infer("add_sub", _IN, [_A, _B]),)),
    Case("grpc-add-sub-typed", (grpc_infer("add_sub", _TYPED),)),
    Case("grpc-add-sub-with-id", (grpc_infer("add_sub", _IN, [_A, _B], id="request 7"),)),
    Case("grpc-add-sub-with-version", (grpc_infer("add_sub", _IN, [_A, _B], model_version="1"),)),
    Case("grpc-add-sub-unknown-version", (grpc_infer("add_sub", _IN, [_A, _B], model_version="7"),)),
    Case("grpc-version-word", (grpc_infer("add_sub", _IN, [_A, _B], model_version="x"),)),
    Case("grpc-version-zero", (grpc_infer("add_sub", _IN, [_A, _B], model_version="0"),)),
    Case("grpc-version-negative", (grpc_infer("add_sub", _IN, [_A, _B], model_version="-5"),)),
    Case("grpc-unknown-model", (grpc_infer("nothing", _IN, [_A, _B]),)),
    Case("grpc-no-model", (Grpc("ModelInfer", pb.ModelInferRequest()),)),
    Case("grpc-one-output", (grpc_infer("add_sub", _IN, [_A, _B], [grpc_output("OUTPUT1")]),)),
    Case(
        "grpc-outputs-in-other-order",
        (grpc_infer("add_sub", _IN, [_A, _B], [grpc_output("OUTPUT1"), grpc_output("OUTPUT0")]),),
    ),
    Case(
        "grpc-binary-data-is-ignored",
        (grpc_infer("add_sub", _IN, [_A, _B], [grpc_output("OUTPUT1", binary_data=True)]),),
    ),
    Case(
        "grpc-dynamic-batching",
        (
            grpc_infer(
                "add_sub_dynamic",
                [grpc_tensor(f"INPUT{i}", "INT32", [1, 4]) for i in (0, 1)],
                [bytes(16), bytes(range(16))],
            ),
        ),
    ),
    Case("grpc-raw-and-typed", (grpc_infer("add_sub", [_TYPED[0], _IN[1]], [_B]),)),
    Case("grpc-raw-missing", (grpc_infer("add_sub", _IN, [_A]),)),
    Case("grpc-no-data", (grpc_infer("add_sub", _IN),)),
    Case("grpc-one-input-no-data", (grpc_infer("add_sub", [_TYPED[0], _IN[1]]),)),
    Case("grpc-raw-too-many", (grpc_infer("echo", [_ONE], [_FOUR, _FOUR]),)),
    Case("grpc-raw-too-short", (grpc_infer("echo", [_ONE], [b"\x01"]),)),
    Case("grpc-raw-too-long", (grpc_infer("echo", [_ONE], [_FOUR * 2]),)),
    Case("grpc-raw-empty", (grpc_infer("echo", [_ONE], [b""]),)),
    Case(
        "grpc-typed-too-few",
        (grpc_infer("identity_fixed", [grpc_tensor("INPUT0", "INT32", [2, 3], {"int_contents": [1, 2]})]),),
    ),
    Case("grpc-typed-too-many", (grpc_infer("echo", [grpc_tensor("INPUT0", "INT32", [1], {"int_contents": [1, 2]})]),)),
    Case(
        "grpc-typed-wrong-family", (grpc_infer("echo", [grpc_tensor("INPUT0", "INT32", [1], {"fp32_contents": [1]})]),)
    ),
    Case(
        "grpc-typed-wrong-family-int64",
        (grpc_infer("echo", [grpc_tensor("INPUT0", "INT32", [1], {"int64_contents": [1]})]),),
    ),
    Case(
        "grpc-typed-two-families",
        (grpc_infer("echo", [grpc_tensor("INPUT0", "INT32", [1], {"int_contents": [1], "uint_contents": [1]})]),),
    ),
    Case(
        "grpc-typed-fp16", (grpc_infer("identity_fp16", [grpc_tensor("INPUT0", "FP16", [1], {"fp32_contents": [1]})]),)
    ),
    Case(
        "grpc-typed-bf16", (grpc_infer("identity_bf16", [grpc_tensor("INPUT0", "BF16", [1], {"fp32_contents": [1]})]),)
    ),
    Case(
        "grpc-typed-narrowed",
        (grpc_infer("identity_int8", [grpc_tensor("INPUT0", "INT8", [3], {"int_contents": [300, -129, 5]})]),),
    ),
    Case(
        "grpc-typed-unsigned-narrowed",
        (grpc_infer("identity_uint8", [grpc_tensor("INPUT0", "UINT8", [2], {"uint_contents": [300, 255]})]),),
    ),
    Case(
        "grpc-typed-empty-tensor",
        (grpc_infer("identity_fp32", [grpc_tensor("INPUT0", "FP32", [0], {"fp32_contents": []})]),),
    ),
    Case("grpc-empty-tensor-no-data", (grpc_infer("identity_fp32", [grpc_tensor("INPUT0", "FP32", [0])]),)),
    Case("grpc-empty-tensor-raw", (grpc_infer("identity_fp32", [grpc_tensor("INPUT0", "FP32", [0])], [b""]),)),
    Case("grpc-negative-dim", (grpc_infer("identity_fp32", [grpc_tensor("INPUT0", "FP32", [-1])], [_A]),)),
    Case("grpc-very-negative-dim", (grpc_infer("identity_fp32", [grpc_tensor("INPUT0", "FP32", [-2])], [_A]),)),
    Case("grpc-unknown-datatype", (grpc_infer("identity_fp32", [grpc_tensor("INPUT0", "FP31", [4])], [_A]),)),
    Case(
        "grpc-unknown-datatype-typed",
        (grpc_infer("identity_fp32", [grpc_tensor("INPUT0", "FP31", [4], {"fp32_contents": [1, 2, 3, 4]})]),),
    ),
    Case("grpc-no-datatype", (grpc_infer("identity_fp32", [grpc_tensor("INPUT0", "", [4])], [_A]),)),
    Case("grpc-lower-case-datatype", (grpc_infer("identity_fp32", [grpc_tensor("INPUT0", "fp32", [4])], [_A]),)),
    Case("grpc-decoupled", (grpc_infer("decoupled", [grpc_tensor("COUNT", "INT32", [1])], [_FOUR]),)),
    Case(
        "grpc-strings-raw",
        (grpc_infer("identity_bytes", [grpc_tensor("INPUT0", "BYTES", [3])], [strings(b"", b"\xff\x00", b"abc")]),),
    ),
    Case(
        "grpc-strings-typed",
        (
            grpc_infer(
                "identity_bytes", [grpc_tensor("INPUT0", "BYTES", [3], {"bytes_contents": [b"", b"\xff\x00", b"abc"]})]
            ),
        ),
    ),
    Case("grpc-strings-out", (grpc_infer("strings_out", [_ONE], [_FOUR]),)),
    Case("grpc-floats-out", (grpc_infer("floats", [_ONE], [_FOUR]),)),
    Case("grpc-many-outputs", (grpc_infer("many_outputs", [grpc_tensor("INPUT0", "INT32", [2])], [_FOUR * 2]),)),
    Case("grpc-optional-one", (grpc_infer("optional", [grpc_tensor("A", "INT32", [2])], [_FOUR * 2]),)),
    Case(
        "grpc-optional-two",
        (
            grpc_infer(
                "optional", [grpc_tensor("A", "INT32", [2]), grpc_tensor("B", "INT32", [2])], [_FOUR * 2, _FOUR * 2]
            ),
        ),
    ),
    Case("grpc-all-optional-none", (grpc_infer("all_optional", []),)),
    Case("grpc-autocompleted-model", (grpc_infer("autocomplete", [grpc_tensor("INPUT0", "FP32", [1, 4])], [_A]),)),
    Case("grpc-asynchronous-model", (grpc_infer("asynchronous", [_ONE], [_FOUR]),)),
)
