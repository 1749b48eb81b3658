"""Shapes: variable, zero-sized, scalar-like, reshaped, and those that do not fit the model.

Sizes whose product overflows 64 bits are not here: they end Triton 2.51 or its model, which leaves nothing to record.
"""

from __future__ import annotations

from ..messages import grpc_infer, grpc_tensor, infer, output, strings, tensor
from ..steps import Case

_BIG = 2**62


def _identity(name: str, model: str, shape: object, data: object, datatype: str = "INT32") -> Case:
    return Case(f"shape-{name}", (infer(model, [tensor("INPUT0", datatype, shape, data)]),))


CASES = (
    _identity("variable", "identity_variable", [2, 3], [1, 2, 3, 4, 5, 6]),
    _identity("variable-other", "identity_variable", [3, 1], [1, 2, 3]),
    _identity("variable-zero", "identity_variable", [0, 3], []),
    _identity("variable-zero-last", "identity_variable", [3, 0], [[], [], []]),
    _identity("zero-no-data", "identity_variable", [0, 0], None),
    _identity("zero-with-data", "identity_variable", [0, 3], [1, 2, 3]),
    _identity("zero-strings", "identity_bytes", [0], [], "BYTES"),
    _identity("rank-too-small", "identity_variable", [3], [1, 2, 3]),
    _identity("rank-too-big", "identity_variable", [1, 3, 1], [1, 2, 3]),
    _identity("empty", "identity_variable", [], [1]),
    _identity("empty-no-data", "identity_variable", [], None),
    _identity("fixed-wrong", "identity_fixed", [3, 2], [1, 2, 3, 4, 5, 6]),
    _identity("fixed-zero", "identity_fixed", [0, 3], []),
    _identity("batch-one", "identity_batch", [1, 1, 2], [1, 2], "FP32"),
    _identity("batch-max", "identity_batch", [4, 1, 2], list(range(8)), "FP32"),
    _identity("batch-too-big", "identity_batch", [5, 1, 2], list(range(10)), "FP32"),
    _identity("batch-zero", "identity_batch", [0, 1, 2], [], "FP32"),
    _identity("batch-missing", "identity_batch", [1, 2], [1, 2], "FP32"),
    _identity("batch-no-dims", "identity_batch", [], [1], "FP32"),
    _identity("batch-only", "identity_batch", [2], [1, 2], "FP32"),
    _identity("batch-zero-sized", "identity_batch", [2, 0, 2], [], "FP32"),
    _identity("batch-wrong-fixed", "identity_batch", [1, 1, 3], [1, 2, 3], "FP32"),
    _identity("batch-strings", "identity_bytes_batch", [2, 1], ["a", "b"], "BYTES"),
    _identity("negative", "identity_variable", [-1, 2], [1, 2]),
    _identity("float", "identity_variable", [1.0, 2], [1, 2]),
    _identity("string", "identity_variable", ["1", 2], [1, 2]),
    _identity("bool", "identity_variable", [True, 2], [1, 2]),
    _identity("nested", "identity_variable", [[1], 2], [1, 2]),
    _identity("null", "identity_variable", [None, 2], [1, 2]),
    _identity("not-list", "identity_variable", None, [1, 2]),
    _identity("huge-strings", "identity_bytes", [_BIG], ["a"], "BYTES"),
    Case(
        "shape-huge-strings-grpc",
        (grpc_infer("identity_bytes", [grpc_tensor("INPUT0", "BYTES", [2**63 - 1])], [strings(b"a")]),),
    ),
    Case("shape-empty-grpc", (grpc_infer("identity_variable", [grpc_tensor("INPUT0", "INT32", [])], [bytes(4)]),)),
    Case("shape-batch-empty-grpc", (grpc_infer("identity_batch", [grpc_tensor("INPUT0", "FP32", [])], [bytes(4)]),)),
    Case("shape-batch-zero-grpc", (grpc_infer("identity_batch", [grpc_tensor("INPUT0", "FP32", [0, 1, 2])], [b""]),)),
    Case("reshape-fixed", (infer("reshape", [tensor("INPUT0", "INT32", [4], [1, 2, 3, 4])]),)),
    Case("reshape-as-the-model-sees-it", (infer("reshape", [tensor("INPUT0", "INT32", [2, 2], [1, 2, 3, 4])]),)),
    Case(
        "reshape-to-batch-only",
        (infer("reshape_scalar", [tensor("INPUT0", "INT32", [3, 1], [1, 2, 3])], [output("OUTPUT0")]),),
    ),
    Case("reshape-seen-batch-only", (infer("reshape_scalar", [tensor("INPUT0", "INT32", [1, 1], [1])]),)),
    Case(
        "reshape-variable", (infer("reshape_variable", [tensor("INPUT0", "INT32", [1, 3, 2, 1], [1, 2, 3, 4, 5, 6])]),)
    ),
    Case(
        "reshape-variable-wrong",
        (infer("reshape_variable", [tensor("INPUT0", "INT32", [1, 3, 2], [1, 2, 3, 4, 5, 6])]),),
    ),
    Case("reshape-grpc", (grpc_infer("reshape", [grpc_tensor("INPUT0", "INT32", [4])], [bytes(range(16))]),)),
)
