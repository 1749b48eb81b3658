"""Answers in JSON and in binary; the texts are those of a running Triton, where it has them."""

import json
import math
import struct
from typing import Any

import numpy as np
import pytest

from tensorhub.errors import InternalError, InvalidArgument, TensorhubError
from tensorhub.protocol import messages
from tensorhub.protocol.http_infer import BINARY_PLAN, JSON_PLAN, ResponsePlan
from tensorhub.protocol.json_reply import encode_infer


def response(*outputs: tuple[str, str, list[int], bytes], **fields: Any) -> bytes:
    made = messages.ModelInferResponse(model_name="m", model_version="1", **fields)
    for name, datatype, shape, data in outputs:
        made.outputs.add(name=name, datatype=datatype, shape=shape)
        made.raw_output_contents.append(data)
    return bytes(made.SerializeToString())


def json_of(plan: ResponsePlan, data: bytes) -> bytes:
    encoded = encode_infer(plan, data, None)
    assert encoded.json_size is None
    (chunk,) = encoded.chunks
    return bytes(chunk)


@pytest.mark.parametrize(
    ("datatype", "data", "text"),
    [
        ("BOOL", b"\0\1\2", b"[false,true,true]"),
        ("UINT8", b"\0\xff", b"[0,255]"),
        ("INT8", b"\0\xff", b"[0,-1]"),
        ("UINT16", b"\xff\xff", b"[65535]"),
        ("INT16", b"\xff\xff", b"[-1]"),
        ("UINT32", b"\xff" * 4, b"[4294967295]"),
        ("INT32", b"\xff" * 4, b"[-1]"),
        ("UINT64", b"\xff" * 8, b"[18446744073709551615]"),
        ("INT64", b"\0" * 7 + b"\x80", b"[-9223372036854775808]"),
        ("FP32", struct.pack("<3f", 1, 0.1, -0.0), b"[1.0,0.10000000149011612,-0.0]"),
        ("FP32", struct.pack("<3f", math.nan, math.inf, -math.inf), b"[NaN,Infinity,-Infinity]"),
        ("FP32", struct.pack("<2f", 1e20, 1e-5), b"[100000002004087730000.0,0.000009999999747378752]"),
        ("FP64", struct.pack("<4d", 1e21, 1e20, 1e-6, 1e-7), b"[1e21,100000000000000000000.0,0.000001,1e-7]"),
        ("FP64", struct.pack("<3d", 1e16, 5e-324, -1.25e-9), b"[10000000000000000.0,5e-324,-1.25e-9]"),
        ("FP64", struct.pack("<2d", 123456789012345680.0, -1e-5), b"[123456789012345680.0,-0.00001]"),
        ("BYTES", b"\1\0\0\0a\3\0\0\0\xc3\xa9\n", '["a","é\\n"]'.encode()),
        ("BYTES", b'\2\0\0\0\xff"\0\0\0\0', b'["\xff\\"",""]'),
        ("BYTES", b"", b"[]"),
        ("FP32", b"", b"[]"),
    ],
)
def test_tensors_to_json(datatype: str, data: bytes, text: bytes) -> None:
    count = {"BYTES": text.count(b",") + (text != b"[]")}.get(datatype)
    if count is None:
        count = 0 if text == b"[]" else text.count(b",") + 1
    expected = b'{"model_name":"m","model_version":"1","outputs":[{"name":"A","datatype":"%b","shape":[%d],"data":%b}]}'
    assert json_of(JSON_PLAN, response(("A", datatype, [count], data))) == expected % (datatype.encode(), count, text)


def test_large_tensors_to_json() -> None:
    values = np.arange(-50_000, 50_000, dtype=np.int32)
    document = json.loads(json_of(JSON_PLAN, response(("A", "INT32", [100, 1000], values.tobytes()))))
    assert document["outputs"][0]["data"] == values.tolist()


def test_the_order_of_the_keys() -> None:
    made = messages.ModelInferResponse(model_name="m", model_version="1", id='7"')
    made.parameters["flag"].bool_param = True
    text = bytes(made.SerializeToString())
    assert json_of(JSON_PLAN, text) == (
        b'{"id":"7\\"","model_name":"m","model_version":"1","parameters":{"flag":true},"outputs":[]}'
    )


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("int64_param", -5, b"-5"),
        ("uint64_param", 2**64 - 1, b"18446744073709551615"),
        ("double_param", math.nan, b"NaN"),
        ("double_param", 1e20, b"100000000000000000000.0"),
        ("string_param", "é", '"é"'.encode()),
        ("bool_param", False, b"false"),
    ],
)
def test_parameters_of_the_response(field: str, value: Any, text: bytes) -> None:
    made = messages.ModelInferResponse(model_name="m", model_version="1")
    setattr(made.parameters["p"], field, value)
    assert b'"parameters":{"p":%b}' % text in json_of(JSON_PLAN, bytes(made.SerializeToString()))


def test_binary_outputs_follow_as_they_are() -> None:
    data = response(("A", "INT8", [2], b""), ("B", "INT8", [1], b""), ("C", "INT8", [0], b""), ("D", "INT8", [3], b""))
    contents = [memoryview(b"aa"), b"\7", memoryview(b""), memoryview(b"ddd")]
    encoded = encode_infer(ResponsePlan(True, {"B": False}), data, contents)
    assert encoded.json_size == len(encoded.chunks[0])
    assert encoded.chunks[1:] == [b"aa", b"ddd"]
    assert encoded.chunks[1] is contents[0]
    assert json.loads(encoded.chunks[0])["outputs"] == [
        {"name": "A", "datatype": "INT8", "shape": [2], "parameters": {"binary_data_size": 2}},
        {"name": "B", "datatype": "INT8", "shape": [1], "data": [7]},
        {"name": "C", "datatype": "INT8", "shape": [0], "parameters": {"binary_data_size": 0}},
        {"name": "D", "datatype": "INT8", "shape": [3], "parameters": {"binary_data_size": 3}},
    ]


def test_empty_binary_outputs_make_no_binary_part() -> None:
    assert b'"binary_data_size":0' in json_of(BINARY_PLAN, response(("A", "FP32", [0], b"")))


def test_outputs_in_shared_memory() -> None:
    made = messages.ModelInferResponse.FromString(response(("A", "FP32", [2], b"")))
    made.outputs[0].parameters["shared_memory_region"].string_param = "r"
    for plan in (JSON_PLAN, BINARY_PLAN):
        assert json.loads(json_of(plan, bytes(made.SerializeToString())))["outputs"] == [
            {"name": "A", "datatype": "FP32", "shape": [2]}
        ]


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "kind", "text"),
    [
        (
            "FP16",
            [1],
            b"ab",
            InvalidArgument,
            "sending FP16 data via JSON is not supported. Please use the binary data format for output",
        ),
        (
            "BF16",
            [1],
            b"ab",
            InvalidArgument,
            "sending BF16 data via JSON is not supported. Please use the binary data format for output",
        ),
        (
            "FP32",
            [2],
            bytes(7),
            InternalError,
            "Failed to write 'data' field: output tensor shape does not match size of output for 'A'",
        ),
        *(
            ("BYTES", [2], data, InternalError, "output tensor shape does not match size of output for 'A'")
            for data in (b"", b"\0\0\0\0", b"\1\0\0\0", b"\1\0\0\0a\0\0\0", b"\1\0\0\0a\2\0\0\0b", b"\xff\xff\xff\xffa")
        ),
    ],
)
def test_outputs_that_cannot_be_written(
    datatype: str, shape: list[int], data: bytes, kind: type[TensorhubError], text: str
) -> None:
    with pytest.raises(kind) as caught:
        encode_infer(JSON_PLAN, response(("A", datatype, shape, data)), None)
    assert caught.value.message == text
