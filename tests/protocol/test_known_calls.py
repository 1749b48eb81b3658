"""Calls that have come before: the same bytes as from the parser, for requests and replies of every kind."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorhub.errors import TensorhubError
from tensorhub.protocol import messages
from tensorhub.protocol.http_infer import BINARY_PLAN, JSON_PLAN, Limits, ResponsePlan
from tensorhub.protocol.json_reply import encode_infer
from tensorhub.protocol.json_request import decode_infer
from tensorhub.protocol.known_calls import KnownReplies, KnownRequests
from tensorhub.protocol.layouts import LIMIT


class Target:
    model = "m"
    config = messages.ModelConfig()


def body_of(document: Any, *tensors: bytes) -> tuple[bytes, int]:
    head = json.dumps(document).encode()
    return b"".join((head, *tensors)), len(head)


def learn(table: KnownRequests, body: bytes, size: int = -1, times: int = 2) -> None:
    """Show a request to the table as often as it takes to remember it."""
    size = len(body) if size < 0 else size
    for _ in range(times):
        table.learn("m", body, size, decode_infer(body, size, Target, Limits()))


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
    table = KnownRequests(Limits())
    for step in range(3):
        tensors = [np.arange(2, dtype=np.int32) + 10 * step + index for index in range(count)]
        body, size = body_of(document, *[tensor.tobytes() for tensor in tensors])
        decoded = decode_infer(body, size, Target, Limits())
        known = table.find("m", body, size)
        assert table.find("other", body, size) is None
        if step:
            assert known is not None
            assert messages.ModelInferRequest.FromString(known[0]) == decoded.request
            assert known[1] == decoded.plan
        else:
            assert known is None
        learn(table, body, size)
        assert table.find("m", body + b"\0", size) is None
        assert table.find("m", body[:-1], size) is None


def text(*data: Any, datatype: str = "INT32", shape: Any = None, **others: Any) -> Any:
    """A request whose inputs A, B ... have these data."""
    return {
        "inputs": [
            {
                "name": chr(65 + index),
                "datatype": datatype,
                "shape": [len(item)] if shape is None else shape,
                "data": item,
            }
            for index, item in enumerate(data)
        ],
        **others,
    }


TEXTS = {
    "integers": [text([1, 2], [3, -4]), text([5, 6], [-7, 8]), text([0, 2**31 - 1], [-(2**31), 9])],
    "integers that do not fit lose bits": [text([1, 2]), text([2**40 + 5, 2])],
    "unsigned": [text([1, 2], datatype="UINT8"), text([255, 256], datatype="UINT8")],
    "floats": [text([1, 2.5], datatype="FP32"), text([1e300, 7], datatype="FP32"), text([1, 2], datatype="FP32")],
    "booleans": [text([True, False], datatype="BOOL"), text([False, False], datatype="BOOL")],
    "empty": [text([], shape=[0]), text([], shape=[0])],
    "outputs": [text([n], outputs=[{"name": "O", "parameters": {"binary_data": True}}]) for n in (1, 2)],
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n", "  :\t")], ids=str)
def test_a_known_text(name: str, separators: tuple[str, str]) -> None:
    table = KnownRequests(Limits())
    for step, document in enumerate(TEXTS[name]):
        body = json.dumps(document, separators=separators).encode()
        decoded = decode_infer(body, len(body), Target, Limits())
        known = table.find("m", body, len(body))
        assert (known is None) == (step == 0)
        if known is not None:
            assert messages.ModelInferRequest.FromString(known[0]) == decoded.request
            assert known[1] == decoded.plan
        learn(table, body)


WRONG = {
    "one too few": text([1]),
    "one too many": text([1, 2, 3]),
    "a float": text([1, 2.5]),
    "a boolean": text([1, True]),
    "nothing": text([1, None]),
    "beyond 64 bits": text([1, 2**64]),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_text_like_a_known_one_with_wrong_numbers_is_left_to_the_parser(name: str) -> None:
    table = KnownRequests(Limits())
    right = json.dumps(text([1, 2])).encode()
    learn(table, right)
    assert table.find("m", right, len(right)) is not None
    document = WRONG[name]
    document["inputs"][0]["shape"] = [2]
    body = json.dumps(document).encode()
    assert table.find("m", body, len(body)) is None
    with pytest.raises(TensorhubError):
        decode_infer(body, len(body), Target, Limits())


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=2, max_size=2), st.binary(max_size=4), st.integers(0, 60))
def test_a_text_that_is_found_means_what_the_parser_says(numbers: list[int], noise: bytes, place: int) -> None:
    table = KnownRequests(Limits())
    right = json.dumps(text([1, 2])).encode()
    learn(table, right)
    plain = json.dumps(text(numbers)).encode()
    for body in (plain, plain[:place] + noise + plain[place:], plain[:place] + plain[place + 1 :]):
        known = table.find("m", body, len(body))
        if known is not None:
            decoded = decode_infer(body, len(body), Target, Limits())
            assert messages.ModelInferRequest.FromString(known[0]) == decoded.request


@pytest.mark.parametrize("tensors", [(), (bytes(8),)], ids=["text", "binary"])
def test_a_request_is_remembered_when_it_comes_again(tensors: tuple[bytes, ...]) -> None:
    """So a client whose requests all differ does not push out those of the others."""
    table = KnownRequests(Limits())

    def step(number: int) -> tuple[bytes, int]:
        parameters = {"sequence_id": number}
        if tensors:
            return body_of({"inputs": [binary("A", 8, [2])], "parameters": parameters}, *tensors)
        return body_of(text([1, 2], parameters=parameters))

    again, size = step(0)
    learn(table, again, size, times=1)
    assert table.find("m", again, size) is None
    learn(table, again, size, times=1)
    for number in range(1, 2 * LIMIT):
        body, length = step(number)
        learn(table, body, length, times=1)
        assert table.find("m", body, length) is None
    assert table.find("m", again, size) is not None


UNKNOWN = {
    "id": body_of({"id": "1", "inputs": [binary("A", 8, [2])]}, bytes(8)),
    "text with an id": body_of(text([1, 2], id="1")),
    "nested": body_of(text([[1, 2], [3, 4]], shape=[2, 2])),
    "strings": body_of(text(["a", "b"], datatype="BYTES")),
    "a key in disguise": (
        b'{"inputs":[{"name":"A","datatype":"INT32","shape":[1],"d\\u0061ta":[1]}],'
        b'"outputs":[{"name":"O","data":[1]}]}',
        -1,
    ),
    "one array more than inputs": body_of(text([1], outputs=[{"name": "O", "data": [1]}])),
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
    size = len(body) if size < 0 else size
    table = KnownRequests(Limits())
    learn(table, body, size)
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
            expected = encode_infer(plan, data, None)
            got = table.encode(plan, data)
            assert got.json_size == expected.json_size
            assert b"".join(got.chunks) == b"".join(expected.chunks)


def test_replies_with_a_region_of_their_own_are_not_remembered() -> None:
    """Each would be remembered in vain, and in the place of another."""
    table = KnownReplies()
    for step in range(3):
        message = messages.ModelInferResponse(model_name="m", model_version="1", raw_output_contents=[b""])
        parameters = message.outputs.add(name="A", datatype="UINT8", shape=[4]).parameters
        parameters["shared_memory_region"].string_param = f"handed out {step}"
        parameters["shared_memory_offset"].int64_param = 0
        parameters["shared_memory_byte_size"].int64_param = 4
        got = table.encode(BINARY_PLAN, message.SerializeToString())
        assert got.json_size is None
        [output] = json.loads(b"".join(got.chunks))["outputs"]
        assert output == {
            "name": "A",
            "datatype": "UINT8",
            "shape": [4],
            "parameters": {
                "shared_memory_region": f"handed out {step}",
                "shared_memory_offset": 0,
                "shared_memory_byte_size": 4,
            },
        }
    assert repr(table._layouts) == "<LayoutTable 0 layouts>"
