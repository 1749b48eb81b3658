"""Errors that a Python model makes, by intent or by mistake, over both protocols."""

from __future__ import annotations

from ..messages import grpc_infer, grpc_tensor, infer, strings, tensor
from ..steps import Case

_KINDS = (
    "UNKNOWN",
    "INTERNAL",
    "NOT_FOUND",
    "INVALID_ARG",
    "UNAVAILABLE",
    "UNSUPPORTED",
    "ALREADY_EXISTS",
    "CANCELLED",
    "default_code",
    "empty_message",
    "long_message",
    "unicode_message",
    "error_and_tensors",
    "value_error",
    "key_error",
    "zero_division",
    "model_exception",
    "multiline",
    "no_such_kind",
    "return_int",
    "return_tuple",
    "return_response",
    "return_too_few",
    "return_too_many",
    "return_wrong_item",
    "no_outputs",
    "unknown_output",
    "extra_output",
    "wrong_dtype",
    "wrong_shape",
    "empty_tensor",
    "tensor_without_name",
    "tensor_of_complex",
    "strided",
    "asyncio_run",
    "ok",
)

CASES = (
    *(Case(f"model-{kind}", (infer("errors", [tensor("KIND", "BYTES", [1], [kind])], id="r"),)) for kind in _KINDS),
    *(
        Case(
            f"model-{kind}-grpc",
            (grpc_infer("errors", [grpc_tensor("KIND", "BYTES", [1])], [strings(kind.encode())], id="r"),),
        )
        for kind in _KINDS
    ),
    Case(
        "model-works-after-errors",
        tuple(
            infer("errors", [tensor("KIND", "BYTES", [1], [kind])])
            for kind in ("value_error", "ok", "return_int", "ok", "INTERNAL", "ok")
        ),
    ),
)
