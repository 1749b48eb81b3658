"""Calls that have come before: the same bytes as from the parser, for requests and replies of every kind."""

import json
from typing import Any

import numpy as np
import pytest

from tensorhub.protocol import messages, v2_json
from tensorhub.protocol.known_calls import KnownReplies, KnownRequests
from tensorhub.protocol.v2_json import BINARY_PLAN, JSON_PLAN, ResponsePlan


class Target:
    model = "m"
    config = messages.ModelConfig()


def body_of(document: Any, *tensors: bytes) -> tuple[bytes, int]:
    head = json.dumps(document).encode()
    return b"".join((head, *tensors)), len(head)


def binary(name: str, size: int, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "datatype": "INT32", "shape": shape, "parameters": {"binary_data_size": size}}


KNOWN = {
    "one": ({"inputs": [binary("A", 8, [2])]}, 1),
    "two": ({"inputs": [binary("A", 8, [2]), binary("B", 8, [1, 2])], "parameters": {"binary_data_output": True}}, 2),
    "outputs": ({"inputs": [binary("A", 8, [2])], "outputs": [{"name": "O", "parameters": {"binary_data": True}}]}, 1),
    "custom parameter": ({"inputs": [binary("A", 8, [2])], "parameters": {"x": 7}}, 1),
    "an empty one as well": ({"inputs": [binary("E", 0, [0]), binary("A", 8, [2])]}, 1),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_request(name: str) -> None:
    document, count = KNOWN[name]
    table = KnownRequests()
    for step in range(3):
        tensors = [np.arange(2, dtype=np.int32) + 10 * step + index for index in range(count)]
        body, size = body_of(document, *[tensor.tobytes() for tensor in tensors])
        decoded = v2_json.decode_infer(body, size, Target, v2_json.Limits())
        known = table.find("m", body, size)
        assert table.find("other", body, size) is None
        if step:
            assert known is not None
            assert messages.ModelInferRequest.FromString(known[0]) == decoded.request
            assert known[1] == decoded.plan
        else:
            assert known is None
        table.learn("m", body, size, decoded)
        assert table.find("m", body + b"\0", size) is None
        assert table.find("m", body[:-1], size) is None


UNKNOWN = {
    "id": body_of({"id": "1", "inputs": [binary("A", 8, [2])]}, bytes(8)),
    "all in JSON": body_of({"inputs": [{"name": "A", "datatype": "INT32", "shape": [2], "data": [1, 2]}]}),
    "one in JSON": body_of(
        {"inputs": [binary("A", 8, [2]), {"name": "B", "datatype": "INT32", "shape": [2], "data": [1, 2]}]}, bytes(8)
    ),
    "in a region": body_of(
        {
            "inputs": [
                {
                    "name": "A",
                    "datatype": "INT32",
                    "shape": [2],
                    "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 8},
                }
            ]
        }
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_request_that_is_not_remembered(name: str) -> None:
    body, size = UNKNOWN[name]
    table = KnownRequests()
    table.learn("m", body, size, v2_json.decode_infer(body, size, Target, v2_json.Limits()))
    assert table.find("m", body, size) is None


def response(step: int, *, response_id: str = "", strings: bool = False) -> bytes:
    message = messages.ModelInferResponse(model_name="m", model_version="3", id=response_id)
    message.parameters["p"].int64_param = 5
    message.outputs.add(name="A", datatype="INT32", shape=[1, 2])
    message.raw_output_contents.append((np.arange(2, dtype=np.int32) + step).tobytes())
    message.outputs.add(name="R", datatype="INT32", shape=[2]).parameters["shared_memory_region"].string_param = "r"
    message.raw_output_contents.append(b"")
    message.outputs.add(name="E", datatype="FP32", shape=[0])
    message.raw_output_contents.append(b"")
    if strings:
        message.outputs.add(name="S", datatype="BYTES", shape=[1])
        message.raw_output_contents.append(b"\x02\0\0\0" + b"%02d" % step)
    message.outputs.add(name="F", datatype="FP32", shape=[1])
    message.raw_output_contents.append(np.float32([step / 2]).tobytes())
    result: bytes = message.SerializeToString()
    return result


PLANS = {
    "json": JSON_PLAN,
    "binary": BINARY_PLAN,
    "some": ResponsePlan(binary=False, listed={"A": True, "F": False}),
    "the others": ResponsePlan(binary=True, listed={"A": False}),
}


@pytest.mark.parametrize("response_id", ["", "7"])
@pytest.mark.parametrize("strings", [False, True])
def test_known_replies(response_id: str, strings: bool) -> None:
    table = KnownReplies()
    for step in range(12):
        data = response(step, response_id=response_id, strings=strings)
        for plan in PLANS.values():
            expected = v2_json.encode_infer(plan, data, None)
            got = table.encode(plan, data)
            assert got.json_size == expected.json_size
            assert b"".join(got.chunks) == b"".join(expected.chunks)
