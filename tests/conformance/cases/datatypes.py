"""Every datatype, in both directions, in each of its wire forms."""

from __future__ import annotations

import struct

from ..messages import Json, grpc_infer, grpc_tensor, infer, infer_binary, output, strings, tensor
from ..steps import Case

_JSON: dict[str, list[object]] = {
    "BOOL": [True, False],
    "UINT8": [0, 255],
    "UINT16": [0, 65535],
    "UINT32": [0, 4294967295],
    "UINT64": [0, 18446744073709551615],
    "INT8": [-128, 127],
    "INT16": [-32768, 32767],
    "INT32": [-2147483648, 2147483647],
    "INT64": [-9223372036854775808, 9223372036854775807],
    "FP32": [1.5, -0.1],
    "FP64": [1.5, -0.1],
    "BYTES": ["", "caf\u00e9 \U0001f600 \x00 \n"],
}
_BINARY: dict[str, bytes] = {
    "BOOL": b"\x01\x00",
    "UINT8": b"\x00\xff",
    "UINT16": struct.pack("<2H", 1, 65535),
    "UINT32": struct.pack("<2I", 1, 4294967295),
    "UINT64": struct.pack("<2Q", 1, 2**64 - 1),
    "INT8": b"\x80\x7f",
    "INT16": struct.pack("<2h", -32768, 32767),
    "INT32": struct.pack("<2i", -(2**31), 2**31 - 1),
    "INT64": struct.pack("<2q", -(2**63), 2**63 - 1),
    "FP16": struct.pack("<2e", 1.5, -65504),
    "BF16": b"\xc0\x3f\x80\x7f",
    "FP32": struct.pack("<If", 0x7FC00001, -0.1),
    "FP64": struct.pack("<Qd", 0x7FF8000000000001, -0.1),
    "BYTES": strings(b"\x00\xff", b""),
}
_CONTENTS: dict[str, dict[str, list[object]]] = {
    "BOOL": {"bool_contents": [True, False]},
    "UINT8": {"uint_contents": [0, 255]},
    "UINT16": {"uint_contents": [0, 65535]},
    "UINT32": {"uint_contents": [0, 4294967295]},
    "UINT64": {"uint64_contents": [0, 2**64 - 1]},
    "INT8": {"int_contents": [-128, 127]},
    "INT16": {"int_contents": [-32768, 32767]},
    "INT32": {"int_contents": [-(2**31), 2**31 - 1]},
    "INT64": {"int64_contents": [-(2**63), 2**63 - 1]},
    "FP32": {"fp32_contents": [1.5, -0.1]},
    "FP64": {"fp64_contents": [1.5, -0.1]},
    "BYTES": {"bytes_contents": [b"", b"\x00\xff"]},
}
_WRONG_JSON: dict[str, list[object]] = {
    "BOOL-of-int": [1, 0],
    "BOOL-of-string": ["true", "false"],
    "BOOL-of-null": [None, True],
    "UINT8-of-negative": [-1, 0],
    "UINT8-too-big": [256, 65537],
    "UINT8-of-float": [1.0, 2.0],
    "UINT16-too-big": [65536, 65537],
    "UINT32-too-big": [4294967296, 4294967297],
    "UINT64-too-big": [18446744073709551616, 0],
    "UINT64-of-negative": [-1, 0],
    "INT8-too-big": [128, -129],
    "INT16-too-big": [32768, 32769],
    "INT32-too-big": [2147483648, -2147483649],
    "INT64-too-big": [9223372036854775808, 0],
    "INT64-of-float": [1.5, 2],
    "INT32-of-float": [1.0, 2],
    "INT32-of-string": ["1", "2"],
    "INT32-of-bool": [True, False],
    "INT32-of-null": [None, 1],
    "INT32-of-object": [{}, 1],
    "FP32-of-int": [1, -2],
    "FP32-of-big-int": [2**63, 2**64],
    "FP32-of-string": ["1.0", "2.0"],
    "FP32-of-bool": [True, False],
    "FP32-of-null": [None, 1.0],
    "FP64-of-int": [1, 18446744073709551615],
    "BYTES-of-int": [1, 2],
    "BYTES-of-null": [None, "a"],
    "BYTES-of-object": [{"a": 1}, "a"],
    "FP16-any": [1.0, 2.0],
    "BF16-any": [1.0, 2.0],
}


def _model(datatype: str) -> str:
    return f"identity_{datatype.lower()}"


def _binary(datatype: str, *outputs: Json) -> Case:
    data = _BINARY[datatype]
    value: Json = {"inputs": [tensor("INPUT0", datatype, [2], binary_data_size=len(data))], "outputs": list(outputs)}
    kind = "binary" if outputs else "json"
    return Case(f"binary-in-{kind}-out-{datatype}", (infer_binary(_model(datatype), value, data),))


CASES = (
    *(
        Case(f"json-{name}", (infer(_model(name), [tensor("INPUT0", name, [2], data)]),))
        for name, data in _JSON.items()
    ),
    *(
        Case(
            f"json-in-binary-out-{name}",
            (infer(_model(name), [tensor("INPUT0", name, [2], data)], [output("OUTPUT0", binary_data=True)]),),
        )
        for name, data in _JSON.items()
    ),
    *(_binary(name, output("OUTPUT0", binary_data=True)) for name in _BINARY),
    *(_binary(name) for name in _BINARY if name != "BYTES"),
    *(
        Case(f"grpc-raw-{name}", (grpc_infer(_model(name), [grpc_tensor("INPUT0", name, [2])], [data]),))
        for name, data in _BINARY.items()
    ),
    *(
        Case(f"grpc-typed-{name}", (grpc_infer(_model(name), [grpc_tensor("INPUT0", name, [2], contents)]),))
        for name, contents in _CONTENTS.items()
    ),
    *(
        Case(
            f"json-{name}",
            (infer(_model(name.partition("-")[0]), [tensor("INPUT0", name.partition("-")[0], [2], data)]),),
        )
        for name, data in _WRONG_JSON.items()
    ),
    Case(
        "binary-BOOL-other-bytes",
        (infer_binary("identity_bool", {"inputs": [tensor("INPUT0", "BOOL", [2], binary_data_size=2)]}, b"\x02\xff"),),
    ),
    Case("json-mixed-case-datatype", (infer("identity_fp32", [tensor("INPUT0", "Fp32", [1], [1])]),)),
    Case("json-config-datatype", (infer("identity_fp32", [tensor("INPUT0", "TYPE_FP32", [1], [1])]),)),
    Case("json-STRING-datatype", (infer("identity_bytes", [tensor("INPUT0", "STRING", [1], ["a"])]),)),
    Case("json-empty-datatype", (infer("identity_fp32", [tensor("INPUT0", "", [1], [1])]),)),
)
