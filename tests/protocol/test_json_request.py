"""Infer calls in JSON. The error texts are those of a running Triton, where it has them."""

import contextlib
import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorhub.errors import Code, InternalError, InvalidArgument, TensorhubError, Unsupported
from tensorhub.protocol.http_infer import DEFAULT_MAX_INPUT_SIZE, HttpInfer, Limits, ResponsePlan
from tensorhub.protocol.json_request import decode_infer
from tests.protocol.targets import target

LIMITS = Limits()


def decode(body: bytes, header_length: int | None = None, limits: Limits = LIMITS, **options: Any) -> HttpInfer:
    return decode_infer(body, len(body) if header_length is None else header_length, target(), limits, **options)


def error_of(body: bytes, header_length: int | None = None, limits: Limits = LIMITS) -> tuple[Code, str]:
    with pytest.raises(TensorhubError) as caught:
        decode(body, header_length, limits)
    return caught.value.code, caught.value.message


def tensor(datatype: str, shape: Any, data: Any, **more: Any) -> bytes:
    return json.dumps({"inputs": [{"name": "IN", "datatype": datatype, "shape": shape, "data": data}], **more}).encode()


def parse_text(reason: str) -> str:
    return f"failed to parse the request JSON buffer: {reason}"


MISSING_INPUTS = "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'"
NO_SOURCE = (
    "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
    "'shared_memory_region' in 'parameters'. But no field is set"
)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", parse_text("Missing a name for object member. at 1")),
        (b"[", parse_text("Invalid value. at 1")),
        (b"x", parse_text("Invalid value. at 0")),
        (b" ", parse_text("The document is empty. at 1")),
        (b"{} x", parse_text("The document root must not be followed by other values. at 3")),
        (b'{"a":1,}', parse_text("Missing a name for object member. at 7")),
        (b'{"a" 1}', parse_text("Missing a colon after a name of object member. at 5")),
        (b"{a:1}", parse_text("Missing a name for object member. at 1")),
        (b'{"a":1 "b":2}', parse_text("Missing a comma or '}' after an object member. at 7")),
        (b"[1,]", parse_text("Invalid value. at 3")),
        (b"[1 2]", parse_text("Missing a comma or ']' after an array element. at 3")),
        (b'{"a":tru}', parse_text("Invalid value. at 8")),
        (b'{"a":01}', parse_text("Missing a comma or '}' after an object member. at 6")),
        (b'{"a":1.}', parse_text("Miss fraction part in number. at 7")),
        (b'{"a":1e}', parse_text("Miss exponent in number. at 7")),
        (b'{"a":1e999}', parse_text("Number too big to be stored in double. at 5")),
        (b'{"a":"\\x"}', parse_text("Invalid escape character in string. at 6")),
        (b'{"a":"\x01"}', parse_text("Invalid escape character in string. at 6")),
        (b'{"a":"\\ud800"}', parse_text("The surrogate pair in string is invalid. at 6")),
        (b'{"a":"\\u12"}', parse_text("Incorrect hex digit after \\u escape in string. at 6")),
        (b'{"a":"abc', parse_text("Missing a closing quotation mark in string. at 9")),
        (b'{"a":+Inf}', parse_text("Invalid value. at 5")),
        (b'{"a":nan}', parse_text("Invalid value. at 6")),
        (b"{'a':1}", parse_text("Missing a name for object member. at 1")),
        # Triton takes bytes that are no UTF-8.
        (b'{"a":"\xff"}', parse_text("Invalid encoding in string. at 6")),
        (b"{}", MISSING_INPUTS),
        (b"[]", MISSING_INPUTS),
        (b"null", MISSING_INPUTS),
        (b"1", MISSING_INPUTS),
        (b" \n\t{} ", MISSING_INPUTS),
        (b"\xef\xbb\xbf{}", MISSING_INPUTS),
        (b'{"a":1}\x00', MISSING_INPUTS),
        (b'{"a":[NaN,Inf,-Inf,Infinity,-Infinity]}', MISSING_INPUTS),
        (b'{"inputs":{}}', "Unable to parse 'inputs': attempt to access JSON non-array as array"),
        (b'{"inputs":[],"id":5}', "Unable to parse 'id': attempt to access JSON non-string as string"),
        (b'{"inputs":[],"outputs":{}}', "Unable to parse 'outputs': attempt to access JSON non-array as array"),
        (b'{"inputs":[],"parameters":5}', "failed to get request params.: attempt to get members for non-object"),
        (b'{"inputs":[],"parameters":null}', "failed to get request params.: attempt to get members for non-object"),
    ],
)
def test_broken_documents(body: bytes, text: str) -> None:
    assert error_of(body) == (Code.INTERNAL, text)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 1100 + b"]" * 1100])
def test_documents_that_no_parser_follows(body: bytes) -> None:
    assert error_of(body) == (Code.INVALID_ARG, "JSON nesting depth exceeds maximum allowed limit (100)")


UINT = "attempt to access JSON non-unsigned-integer as unsigned-integer"


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ("1", Code.INVALID_ARG, NO_SOURCE),
        ("{}", Code.INVALID_ARG, NO_SOURCE),
        ('{"name":1}', Code.INVALID_ARG, NO_SOURCE),
        (
            '{"data":[1],"parameters":{"binary_data_size":4,"shared_memory_region":"x"}}',
            Code.INVALID_ARG,
            NO_SOURCE.replace("But no field is set", "But set 'data' 'binary_data_size' 'shared_memory_region'"),
        ),
        (
            '{"data":[1]}',
            Code.INTERNAL,
            "Unable to parse 'name': attempt to access non-existing object member 'name'",
        ),
        (
            '{"data":[1],"name":1}',
            Code.INTERNAL,
            "Unable to parse 'name': attempt to access JSON non-string as string",
        ),
        (
            '{"data":[1],"name":"A"}',
            Code.INTERNAL,
            "Unable to parse 'datatype': attempt to access non-existing object member 'datatype'",
        ),
        (
            '{"data":[1],"name":"A","datatype":"FP32"}',
            Code.INTERNAL,
            "Unable to parse 'shape': attempt to access non-existing object member 'shape'",
        ),
        (
            '{"data":[1],"name":"A","datatype":"FP32","shape":1}',
            Code.INTERNAL,
            "Unable to parse 'shape': attempt to access JSON non-array as array",
        ),
        (
            '{"data":[1],"name":"A","datatype":"FP32","shape":[-1]}',
            Code.INTERNAL,
            f"Unable to parse 'shape': {UINT}",
        ),
        (
            '{"data":[1],"name":"A","datatype":"FP32","shape":[1.0]}',
            Code.INTERNAL,
            f"Unable to parse 'shape': {UINT}",
        ),
        (
            '{"data":[1],"name":"A","datatype":"FP32","shape":[true]}',
            Code.INTERNAL,
            f"Unable to parse 'shape': {UINT}",
        ),
        (
            '{"name":"A","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":-4}}',
            Code.INTERNAL,
            f"Unable to parse 'binary_data_size': {UINT}",
        ),
        (
            '{"name":"A","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}',
            Code.INVALID_ARG,
            "unexpected size for input 'A', expecting 4 additional bytes for model 'm'",
        ),
        (
            '{"name":"A","datatype":"FP32","shape":[1],"parameters":{"shared_memory_region":5}}',
            Code.INTERNAL,
            "Unable to parse 'shared_memory_region': attempt to access JSON non-string as string",
        ),
        (
            '{"name":"A","datatype":"FP32","shape":[1],"parameters":{"shared_memory_region":"r",'
            '"shared_memory_byte_size":"s","shared_memory_offset":1.5}}',
            Code.INTERNAL,
            f"Unable to parse 'shared_memory_offset': {UINT}",
        ),
        (
            '{"name":"A","datatype":"FP32","shape":[1],"parameters":{"shared_memory_region":"r",'
            '"shared_memory_byte_size":"s"}}',
            Code.INTERNAL,
            f"Unable to parse 'shared_memory_byte_size': {UINT}",
        ),
    ],
)
def test_broken_inputs(fields: str, code: Code, text: str) -> None:
    assert error_of(b'{"inputs":[%b]}' % fields.encode()) == (code, text)


def test_one_name_twice() -> None:
    one = {"name": "A", "datatype": "FP32", "shape": [1], "data": [1]}
    assert error_of(json.dumps({"id": "7", "inputs": [one, one]}).encode()) == (
        Code.INVALID_ARG,
        "[request id: 7] input 'A' already exists in request",
    )


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "packed"),
    [
        ("BOOL", [2], [True, False], b"\1\0"),
        ("UINT8", [3], [255, 256, 2**64 - 1], b"\xff\x00\xff"),
        ("INT8", [3], [-1, 256, -129], b"\xff\x00\x7f"),
        ("UINT16", [2], [1, 65536], struct.pack("<2H", 1, 0)),
        ("INT16", [1], [-32769], struct.pack("<h", 32767)),
        ("UINT32", [1], [2**32 + 5], struct.pack("<I", 5)),
        ("INT32", [2], [-1, 2**31], struct.pack("<2i", -1, -(2**31))),
        ("INT64", [2], [-(2**63), 2**63 - 1], struct.pack("<2q", -(2**63), 2**63 - 1)),
        ("UINT64", [1], [2**64 - 1], b"\xff" * 8),
        ("FP32", [2], [1, 1e300], struct.pack("<2f", 1, math.inf)),
        ("FP32", [2], [2**64, -(2**63) - 1], struct.pack("<2f", 2.0**64, -(2.0**63))),
        ("FP64", [2], [0.1, -0.0], struct.pack("<2d", 0.1, -0.0)),
        ("INT32", [2, 2], [[1, 2], [3, 4]], struct.pack("<4i", 1, 2, 3, 4)),
        ("INT32", [4], [[1, [2]], 3, [[[4]]]], struct.pack("<4i", 1, 2, 3, 4)),
        ("INT32", [2], [[], [1, []], [2]], struct.pack("<2i", 1, 2)),
        ("BYTES", [2], ["a", "é\0"], b"\1\0\0\0a\3\0\0\0\xc3\xa9\0"),
        ("BYTES", [2], [["a"], [""]], b"\1\0\0\0a\0\0\0\0"),
        # How many strings there should be is for the worker to say.
        ("BYTES", [2], ["a"], b"\1\0\0\0a"),
        ("FP32", [0], ["not looked at"], b""),
        ("NONSENSE", [0], [], b""),
    ],
)
def test_tensors_from_json(datatype: str, shape: list[int], data: Any, packed: bytes) -> None:
    decoded = decode(tensor(datatype, shape, data))
    assert list(decoded.request.raw_input_contents) == [packed]
    (described,) = decoded.request.inputs
    assert (described.name, described.datatype, list(described.shape)) == ("IN", datatype, shape)


def test_literals_that_are_no_json() -> None:
    body = b'{"inputs":[{"name":"A","datatype":"FP32","shape":[3],"data":[NaN,Inf,-Infinity]}]}'
    values = struct.unpack("<3f", decode(body).request.raw_input_contents[0])
    assert math.isnan(values[0])
    assert values[1:] == (math.inf, -math.inf)


MISMATCH = "Unable to parse 'data': Shape does not match true shape of 'data' field"
SIGNED = "Unable to parse 'data': attempt to access JSON non-signed-integer as signed-integer"
UNSIGNED = f"Unable to parse 'data': {UINT}"
NUMBER = "Unable to parse 'data': attempt to access JSON non-number as double"
BOOLEAN = "Unable to parse 'data': attempt to access JSON non-boolean as boolean"
STRINGS = "Unable to parse JSON bytes array: attempt to access JSON non-string as string"


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "text"),
    [
        ("FP32", [2], [1], MISMATCH),
        ("FP32", [2], [1, 2, 3], MISMATCH),
        ("FP32", [2], [1, 2, "x"], MISMATCH),
        ("FP32", [2], ["x", 2, 3], NUMBER),
        ("FP32", [2], [1, None], NUMBER),
        ("FP32", [2], [1, True], NUMBER),
        ("FP32", [2], [1, {}], NUMBER),
        ("FP32", [1], 1, "Unable to parse 'data': attempt to access JSON non-array as array"),
        ("BOOL", [2], [1, 0], BOOLEAN),
        ("INT32", [1], [True], SIGNED),
        ("INT32", [1], [1.0], SIGNED),
        ("INT32", [1], [2**63], SIGNED),
        ("INT32", [1], [2**63, 1], SIGNED),
        ("INT8", [1], [2**64], SIGNED),
        ("UINT8", [1], [-1], UNSIGNED),
        ("UINT64", [1], [2**64], UNSIGNED),
        ("BYTES", [2], [1, "a"], STRINGS),
        ("BYTES", [1], "a", "Unable to parse 'data': attempt to access JSON non-array as array"),
    ],
)
def test_tensors_that_json_has_wrong(datatype: str, shape: list[int], data: Any, text: str) -> None:
    assert error_of(tensor(datatype, shape, data)) == (Code.INTERNAL, text)


BIG = 9223372036854775807


@pytest.mark.parametrize(
    ("datatype", "shape", "text"),
    [
        (
            "FP16",
            [1],
            "receiving FP16 data via JSON is not supported. Please use the binary data format for input IN",
        ),
        (
            "BF16",
            [1],
            "receiving BF16 data via JSON is not supported. Please use the binary data format for input IN",
        ),
        ("XX", [1], "invalid datatype for input IN"),
        (
            "UINT8",
            [BIG, 2],
            f"invalid shape for input 'IN': shape [{BIG},2] causes total element count to exceed maximum size of {BIG}",
        ),
        (
            "FP32",
            [2**63],
            "invalid shape for input 'IN': shape [-9223372036854775808] contains one or more invalid dimensions",
        ),
        (
            "FP32",
            [2**62],
            f"byte size overflow for input 'IN': element count ({2**62}) * data type size (4) exceeds maximum allowed "
            f"size ({BIG})",
        ),
        (
            "FP32",
            [2**40],
            f"JSON input 'IN' has a byte_size ({2**42} bytes) that exceeds the maximum allowed value of "
            f"{DEFAULT_MAX_INPUT_SIZE} bytes. Use --http-max-input-size to increase the limit.",
        ),
    ],
)
def test_tensors_that_cannot_be(datatype: str, shape: list[int], text: str) -> None:
    assert error_of(tensor(datatype, shape, [1])) == (Code.INVALID_ARG, text)


@pytest.mark.parametrize(
    ("datatype", "leaf", "prefix"), [("FP32", b"1", "Unable to parse 'data': "), ("BYTES", b'"a"', "")]
)
def test_the_depth_of_data(datatype: str, leaf: bytes, prefix: str) -> None:
    def nested(depth: int, leaf: bytes = leaf) -> bytes:
        data = b"[" * depth + leaf + b"]" * depth
        return b'{"inputs":[{"name":"A","datatype":"%b","shape":[1],"data":%b}]}' % (datatype.encode(), data)

    assert len(decode(nested(99)).request.raw_input_contents) == 1
    irregular = b"[],%b" % leaf
    for body in (nested(100), nested(101, b""), nested(100, irregular)):
        code, text = error_of(body)
        assert code is Code.INVALID_ARG
        assert text.endswith("JSON nesting depth exceeds maximum allowed limit (100)")
    assert error_of(nested(100))[1] == prefix + "JSON nesting depth exceeds maximum allowed limit (100)"


def values_of(parameters: Any) -> dict[str, Any]:
    return {
        name: (choice := item.WhichOneof("parameter_choice"), getattr(item, choice))
        for name, item in parameters.items()
    }


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [
        ({"sequence_id": 5}, ("int64_param", 5)),
        ({"sequence_id": 2**64 - 1}, ("uint64_param", 2**64 - 1)),
        ({"sequence_id": "a\0b"}, ("string_param", "a")),
        ({"sequence_id": "a" * 128}, ("string_param", "a" * 128)),
        ({"sequence_start": True}, ("bool_param", True)),
        ({"sequence_end": False}, None),
        ({"priority": 2**63}, ("uint64_param", 2**63)),
        ({"timeout": 12}, ("int64_param", 12)),
        ({"binary_data_output": True}, None),
        ({"any": True}, ("bool_param", True)),
        ({"any": -(2**63)}, ("int64_param", -(2**63))),
        ({"any": 2**63}, ("double_param", 2.0**63)),
        ({"any": 2**64}, ("double_param", 2.0**64)),
        ({"any": 1.0}, ("double_param", 1.0)),
        ({"any": "x\0y"}, ("string_param", "x")),
        ({"headers": "x"}, ("string_param", "x")),
        ({"": 1}, ("int64_param", 1)),
    ],
)
def test_parameters(given_value: dict[str, Any], expected: Any) -> None:
    decoded = decode(json.dumps({"inputs": [], "parameters": given_value}).encode())
    (name,) = given_value
    assert values_of(decoded.request.parameters) == ({} if expected is None else {name: expected})
    assert decoded.plan.binary is (name == "binary_data_output")


@pytest.mark.parametrize(
    ("parameters", "kind", "text"),
    [
        (
            {"sequence_id": -1},
            InternalError,
            "Unable to parse 'sequence_id': attempt to access JSON non-string as string",
        ),
        ({"sequence_id": "a" * 129}, Unsupported, "string correlation ID cannot be longer than 128 characters"),
        (
            {"sequence_start": 1},
            InternalError,
            "Unable to parse 'sequence_start': attempt to access JSON non-boolean as boolean",
        ),
        ({"priority": -1}, InternalError, f"Unable to parse 'priority': {UINT}"),
        ({"timeout": "5"}, InternalError, f"Unable to parse 'timeout': {UINT}"),
        (
            {"binary_data_output": 1},
            InternalError,
            "Unable to parse 'binary_data_output': attempt to access JSON non-boolean as boolean",
        ),
        (
            {"triton_x": 1},
            InvalidArgument,
            "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified.",
        ),
        (
            {"any": None},
            InvalidArgument,
            "parameter 'any' has invalid type. It should be either 'int', 'bool', or 'string'.",
        ),
        (
            {"any": []},
            InvalidArgument,
            "parameter 'any' has invalid type. It should be either 'int', 'bool', or 'string'.",
        ),
    ],
)
def test_parameters_that_are_wrong(parameters: dict[str, Any], kind: type[TensorhubError], text: str) -> None:
    with pytest.raises(kind) as caught:
        decode(json.dumps({"inputs": [], "parameters": parameters}).encode())
    assert caught.value.message == text


@pytest.mark.parametrize(
    ("outputs", "listed", "sent"),
    [
        ([], {}, []),
        ([{"name": "A"}], {"A": False}, [("A", {})]),
        ([{"name": "A", "parameters": 5}], {"A": False}, [("A", {})]),
        ([{"name": "A", "parameters": {"binary_data": True}}], {"A": True}, [("A", {})]),
        ([{"name": "A", "parameters": {"binary_data": True}}, {"name": "A"}], {"A": True}, [("A", {})]),
        (
            [{"name": "A", "parameters": {"classification": 3, "binary_data": True}}],
            {"A": True},
            [("A", {"classification": ("int64_param", 3)})],
        ),
        ([{"name": "A", "parameters": {"classification": 0}}], {"A": False}, [("A", {})]),
        (
            [{"name": "A", "parameters": {"shared_memory_region": "r", "binary_data": False}}],
            {"A": False},
            [("A", {"shared_memory_region": ("string_param", "r"), "shared_memory_byte_size": ("int64_param", 0)})],
        ),
    ],
)
def test_outputs(outputs: list[Any], listed: dict[str, bool], sent: list[Any]) -> None:
    body = json.dumps({"inputs": [], "outputs": outputs, "parameters": {"binary_data_output": True}}).encode()
    decoded = decode(body)
    assert decoded.plan == ResponsePlan(True, listed)
    assert [(item.name, values_of(item.parameters)) for item in decoded.request.outputs] == sent


@pytest.mark.parametrize(
    ("output", "code", "text"),
    [
        (1, Code.INTERNAL, "Unable to parse 'name': attempt to access non-existing object member 'name'"),
        ({"name": 1}, Code.INTERNAL, "Unable to parse 'name': attempt to access JSON non-string as string"),
        (
            {"name": "A", "parameters": {"binary_data": 1}},
            Code.INTERNAL,
            "Unable to parse 'binary_data': attempt to access JSON non-boolean as boolean",
        ),
        ({"name": "A", "parameters": {"classification": -1}}, Code.INTERNAL, f"Unable to set 'classification': {UINT}"),
        (
            {"name": "A", "parameters": {"classification": 1, "binary_data": 5, "shared_memory_region": "r"}},
            Code.INVALID_ARG,
            "Output can't set both 'shared_memory_region' and 'classification'",
        ),
        (
            {"name": "A", "parameters": {"binary_data": True, "shared_memory_region": "r"}},
            Code.INVALID_ARG,
            "Output can't set both 'shared_memory_region' and 'binary_data'",
        ),
        (
            {"name": "A", "parameters": {"shared_memory_region": 1}},
            Code.INTERNAL,
            "Unable to parse 'shared_memory_region': attempt to access JSON non-string as string",
        ),
    ],
)
def test_outputs_that_are_wrong(output: Any, code: Code, text: str) -> None:
    assert error_of(json.dumps({"inputs": [], "outputs": [output]}).encode()) == (code, text)


def binary_request(*inputs: tuple[str, str, int]) -> bytes:
    return json.dumps(
        {
            "id": "a\0b",
            "inputs": [
                {"name": name, "datatype": datatype, "shape": [1], "parameters": {"binary_data_size": size}}
                for name, datatype, size in inputs
            ],
        }
    ).encode()


def test_the_binary_part_is_split_in_order() -> None:
    head = binary_request(("A", "FP16", 3), ("B", "FP32", 0), ("C", "INT8", 2))
    decoded = decode(head + b"aaacc", len(head))
    assert list(decoded.request.raw_input_contents) == [b"aaa", b"", b"cc"]
    assert decoded.request.id == "a"


def test_a_body_in_an_arena_is_not_copied() -> None:
    head = binary_request(("A", "FP32", 8), ("B", "UINT8", 1), ("C", "INT16", 4), ("D", "BYTES", 5), ("E", "FP32", 0))
    body = memoryview(head + b"aaaaaaaabccccddddd")
    decoded = decode_infer(body, len(head), target(), LIMITS, in_arena=True)
    assert decoded.ranges == [(0, len(head), 8), (1, len(head) + 8, 1), (3, len(head) + 13, 5)]
    # C lies at an odd address.
    assert list(decoded.request.raw_input_contents) == [b"cccc", b""]


def test_what_is_too_large_for_the_message() -> None:
    head = binary_request(("A", "UINT8", 10), ("B", "UINT8", 11))
    decoded = decode(head + b"a" * 10 + b"b" * 11, len(head), Limits(inline_size=10))
    assert [(item.input_index, bytes(item.data)) for item in decoded.large] == [(1, b"b" * 11)]
    assert list(decoded.request.raw_input_contents) == [b"a" * 10]


@pytest.mark.parametrize(
    ("given_bytes", "text"),
    [
        (b"aaa", "unexpected size for input 'A', expecting 1 additional bytes for model 'm'"),
        (b"aaaaa", "unexpected additional input data for model 'm'"),
    ],
)
def test_a_binary_part_of_the_wrong_size(given_bytes: bytes, text: str) -> None:
    head = binary_request(("A", "FP32", 4))
    assert error_of(head + given_bytes, len(head)) == (Code.INVALID_ARG, text)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
_TENSOR = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["A", "B"]) | _JSON,
        "datatype": st.sampled_from(["INT8", "UINT64", "FP32", "BOOL", "BYTES", "FP16"]) | _JSON,
        "shape": st.lists(st.integers(0, 4) | _JSON, max_size=3) | _JSON,
        "data": _JSON,
        "parameters": st.dictionaries(
            st.sampled_from(["binary_data_size", "shared_memory_region", "shared_memory_offset", "classification"]),
            st.integers(0, 9) | _JSON,
            max_size=2,
        ),
    },
)


@given(
    st.fixed_dictionaries(
        {"inputs": st.lists(_TENSOR, max_size=3)},
        optional={"id": _JSON, "outputs": st.lists(_TENSOR, max_size=2) | _JSON, "parameters": _JSON},
    ),
    st.binary(max_size=20),
)
def test_any_request_is_decoded_or_refused(document: Any, rest: bytes) -> None:
    head = json.dumps(document).encode()
    for in_arena in (False, True):
        with contextlib.suppress(TensorhubError):
            decoded = decode_infer(memoryview(head + rest), len(head), target(), LIMITS, in_arena=in_arena)
            decoded.request.SerializeToString()


@given(st.binary(max_size=40), st.integers(0, 40))
def test_any_bytes_are_decoded_or_refused(body: bytes, header_length: int) -> None:
    with contextlib.suppress(TensorhubError):
        decode_infer(body, min(header_length, len(body)), target(("A", 11, [-1])), LIMITS)
