"""The server's validation of a request against the model's configuration, over both protocols."""

from __future__ import annotations

import struct

from ..messages import grpc_infer, grpc_tensor, infer, infer_binary, strings, tensor
from ..steps import Case

_FP = [1.0, 2.0, 3.0, 4.0]
_RAW = struct.pack("<4f", *_FP)


def _both(
    name: str, model: str, *inputs: tuple[str, str, list[int], list[object], bytes], request_id: str = ""
) -> tuple[Case, Case]:
    """The same request in JSON and in protobuf; an input is its name, datatype, shape, JSON data and binary data."""
    http = infer(model, [tensor(*entry[:4]) for entry in inputs], **({"id": request_id} if request_id else {}))
    grpc = grpc_infer(
        model, [grpc_tensor(*entry[:3]) for entry in inputs], [entry[4] for entry in inputs], id=request_id
    )
    return Case(f"error-{name}", (http,)), Case(f"error-{name}-grpc", (grpc,))


def _fp32(name: str, shape: list[int] | None = None) -> tuple[str, str, list[int], list[object], bytes]:
    count = 4 * (shape[0] if shape and len(shape) > 1 else 1)
    return name, "FP32", [1, 4] if shape is None else shape, [1.0] * count, bytes(4 * count)


def _int(name: str, shape: list[int], count: int) -> tuple[str, str, list[int], list[object], bytes]:
    return name, "INT32", shape, [1] * count, bytes(4 * count)


def _strings(name: str, payload: bytes, shape: list[int], model: str = "identity_bytes") -> tuple[Case, Case]:
    value = {"inputs": [tensor("INPUT0", "BYTES", shape, binary_data_size=len(payload))]}
    return (
        Case(f"error-strings-{name}", (infer_binary(model, value, payload),)),
        Case(f"error-strings-{name}-grpc", (grpc_infer(model, [grpc_tensor("INPUT0", "BYTES", shape)], [payload]),)),
    )


CASES = (
    *_both("unknown-model", "nothing", _fp32("INPUT0")),
    *_both("no-inputs", "add_sub"),
    *_both("no-inputs-with-id", "add_sub", request_id="abc"),
    *_both("one-input-missing", "add_sub", _fp32("INPUT0")),
    *_both("other-input-missing", "add_sub", _fp32("INPUT1"), request_id="abc"),
    *_both("too-many-inputs", "add_sub", _fp32("INPUT0"), _fp32("INPUT1"), _fp32("INPUT2")),
    *_both("wrong-input-name", "add_sub", _fp32("INPUT0"), _fp32("INPUT2")),
    *_both("wrong-input-name-with-id", "add_sub", _fp32("INPUT0"), _fp32("INPUT2"), request_id="abc"),
    *_both("input-twice", "add_sub", _fp32("INPUT0"), _fp32("INPUT0")),
    *_both("input-twice-with-id", "add_sub", _fp32("INPUT0"), _fp32("INPUT0"), request_id="abc"),
    *_both("empty-input-name", "add_sub", _fp32("INPUT0"), _fp32("")),
    *_both("required-missing-optional-given", "optional", _int("B", [2], 2)),
    *_both("required-missing-none-given", "optional"),
    *_both("optional-too-many", "optional", _int("A", [2], 2), _int("B", [2], 2), _int("D", [2], 2), _int("E", [2], 2)),
    *_both("optional-unknown", "optional", _int("A", [2], 2), _int("D", [2], 2)),
    *_both("optional-unknown-only", "all_optional", _int("D", [2], 2)),
    *_both("datatype", "add_sub", ("INPUT0", "INT32", [1, 4], [1, 2, 3, 4], bytes(16)), _fp32("INPUT1")),
    *_both(
        "datatype-with-id",
        "add_sub",
        ("INPUT0", "INT32", [1, 4], [1, 2, 3, 4], bytes(16)),
        _fp32("INPUT1"),
        request_id="abc",
    ),
    *_both("datatype-same-size-unsigned", "echo", ("INPUT0", "UINT32", [1], [1], bytes(4))),
    *_both("datatype-strings-for-int", "echo", ("INPUT0", "BYTES", [1], ["a"], strings(b"a"))),
    *_both("shape-last-dim", "add_sub", ("INPUT0", "FP32", [1, 5], [1.0] * 5, bytes(20)), _fp32("INPUT1")),
    *_both("shape-without-batch", "add_sub", _fp32("INPUT0", [4]), _fp32("INPUT1", [4])),
    *_both("shape-no-batching", "add_sub_int32", _int("INPUT0", [1, 4], 4), _int("INPUT1", [4], 4)),
    *_both(
        "shape-no-batching-with-id", "add_sub_int32", _int("INPUT0", [3], 3), _int("INPUT1", [4], 4), request_id="abc"
    ),
    *_both("batch-sizes-differ", "add_sub", _fp32("INPUT0"), _fp32("INPUT1", [2, 4])),
    *_both("batch-too-big", "add_sub", _fp32("INPUT0", [9, 4]), _fp32("INPUT1", [9, 4])),
    *_both("batch-too-big-with-id", "add_sub", _fp32("INPUT0", [9, 4]), _fp32("INPUT1", [9, 4]), request_id="abc"),
    *_both("two-errors", "add_sub", ("INPUT0", "INT32", [9, 5], [1] * 45, bytes(180)), _fp32("INPUT1")),
    *_both("second-input-shape", "add_sub", _fp32("INPUT0"), ("INPUT1", "FP32", [1, 3], [1.0] * 3, bytes(12))),
    *_both("decoupled", "decoupled", _int("COUNT", [1], 1)),
    *_strings("short-length", b"\x01\x00", [1]),
    *_strings("too-few", strings(b"a"), [2]),
    *_strings("too-many", strings(b"a", b"b"), [1]),
    *_strings("none", b"", [1]),
    *_strings("cut-length-after-first", strings(b"a") + b"\x01", [2]),
    *_strings("runs-past-end", b"\x05\x00\x00\x00ab", [1]),
    *_strings("huge-length", b"\xff\xff\xff\xffab", [1]),
    *_strings("left-over", strings(b"a") + b"\x00\x00", [1]),
    *_strings("batch-too-few", strings(b"a"), [2, 1], "identity_bytes_batch"),
    Case("error-json-strings-too-few", (infer("identity_bytes", [tensor("INPUT0", "BYTES", [3], ["a"])]),)),
    Case("error-json-strings-too-many", (infer("identity_bytes", [tensor("INPUT0", "BYTES", [1], ["a", "b"])]),)),
    Case("error-json-too-few-elements", (infer("echo", [tensor("INPUT0", "INT32", [2], [1])]),)),
    Case("error-json-too-many-elements", (infer("echo", [tensor("INPUT0", "INT32", [1], [1, 2])]),)),
    Case(
        "error-binary-too-short",
        (
            infer_binary(
                "add_sub",
                {
                    "inputs": [
                        tensor("INPUT0", "FP32", [1, 4], binary_data_size=12),
                        tensor("INPUT1", "FP32", [1, 4], binary_data_size=16),
                    ]
                },
                _RAW[:12] + _RAW,
            ),
        ),
    ),
    Case("error-unknown-version", (infer("add_sub", [], version="9"),)),
    Case("error-version-zero", (infer("add_sub", [], version="0"),)),
    Case("error-version-too-big", (infer("add_sub", [], version="9223372036854775808"),)),
)
