"""Responses on their way out: inline, in the arena, in the client's regions."""

from typing import Any

import numpy as np
import pytest

from tensorhub.backends.destinations import HandedOutput, PlacedOutput
from tensorhub.errors import InternalError, Unavailable
from tensorhub.ipc import wire
from tensorhub.ipc.wire import INLINE_LIMIT
from tensorhub.protocol import messages
from tensorhub.protocol.model_spec import ModelSpec, OutputSpec
from tensorhub.requests import NO_SEQUENCE, InferRequest, InferResponse, RequestedOutput, Tensor
from tensorhub.tensors import DataType
from tensorhub.workers.encode import EncodedResponse, ResponseEncoder, encode_response
from tests.workers.fake_memory import FakeMemory


def infer_request(requested: tuple[RequestedOutput, ...] = ()) -> InferRequest:
    return InferRequest("m", 2, "id", {}, requested=requested)


def output(name: str, data: Any, shape: tuple[int, ...] | None = None) -> Tensor:
    return Tensor(name, DataType.UINT8, (len(data),) if shape is None else shape, data)


def place(memory: FakeMemory, name: str, region: str, byte_size: int, offset: int = 0) -> PlacedOutput:
    lease = memory.region(region, offset, byte_size, writable=True)
    return PlacedOutput(name=name, region=region, offset=offset, byte_size=byte_size, lease=lease)


def parse(encoded: EncodedResponse) -> Any:
    return messages.ModelInferResponse.FromString(encoded.head)


def extras(encoded: EncodedResponse) -> Any:
    return messages.ResponseExtras.FromString(encoded.tail).outputs


@pytest.mark.parametrize(
    "data", [b"abc", bytearray(b"abc"), memoryview(b"abc"), np.frombuffer(b"abc", np.uint8)], ids=lambda d: type(d)
)
def test_small_outputs_are_in_the_message(data: Any) -> None:
    parameters = {"b": True, "i": -1, "f": 0.5, "s": "x"}
    encoded = encode_response(
        infer_request(), InferResponse([output("A", data), output("B", b"")], parameters), FakeMemory(), from_http=False
    )
    got = parse(encoded)
    assert (got.model_name, got.model_version, got.id) == ("m", "2", "id")
    assert [(item.name, item.datatype, list(item.shape)) for item in got.outputs] == [
        ("A", "UINT8", [3]),
        ("B", "UINT8", [0]),
    ]
    assert list(got.raw_output_contents) == [b"abc", b""]
    assert got.parameters["b"].bool_param is True
    assert got.parameters["i"].int64_param == -1
    assert got.parameters["f"].double_param == 0.5
    assert got.parameters["s"].string_param == "x"
    assert (encoded.tail, encoded.flags, encoded.slots) == (b"", 0, [])


def test_outputs_that_nobody_wants_are_left_out() -> None:
    request = infer_request((RequestedOutput("B"),))
    response = InferResponse([output("A", bytes(INLINE_LIMIT)), output("B", b"b")])
    got = parse(encode_response(request, response, FakeMemory(), from_http=False))
    assert [item.name for item in got.outputs] == ["B"]
    assert list(got.raw_output_contents) == [b"b"]


@pytest.mark.parametrize(
    ("byte_size", "inline"), [(INLINE_LIMIT - 1, True), (INLINE_LIMIT, True), (INLINE_LIMIT + 1, False)]
)
def test_the_limit_of_what_is_inline(byte_size: int, inline: bool) -> None:
    memory = FakeMemory()
    encoded = encode_response(infer_request(), InferResponse([output("A", bytes(byte_size))]), memory, from_http=False)
    assert bool(encoded.flags & wire.FLAG_HEAD_ONLY) is not inline
    assert memory.taken == len(encoded.slots) == (0 if inline else 1)


def test_large_outputs_are_in_the_arena() -> None:
    memory = FakeMemory()
    large = np.arange(50_000, dtype=np.int32)
    tensor = Tensor("L", DataType.INT32, large.shape, large)
    encoded = encode_response(infer_request(), InferResponse([output("A", b"abc"), tensor]), memory, from_http=False)
    assert encoded.flags == wire.FLAG_HEAD_ONLY
    assert list(parse(encoded).raw_output_contents) == []
    first, second = extras(encoded)
    assert first.inline == b"abc"
    start = second.slot.offset
    assert memory.own[start : start + second.slot.byte_size] == large.tobytes()
    encoded.slots[0].free()
    assert memory.taken == 0


def test_a_full_arena_takes_nothing() -> None:
    memory = FakeMemory()
    memory.slots = 1
    response = InferResponse([output("A", bytes(INLINE_LIMIT)), output("B", bytes(INLINE_LIMIT))])
    with pytest.raises(Unavailable):
        encode_response(infer_request(), response, memory, from_http=False)
    assert memory.taken == 0


@pytest.mark.parametrize("from_http", [False, True])
def test_outputs_in_regions(from_http: bool) -> None:
    memory = FakeMemory()
    memory.regions["r"] = bytearray(16)
    request = infer_request((place(memory, "A", "r", 8, 4), RequestedOutput("B")))
    encoded = encode_response(
        request, InferResponse([output("A", b"abcd"), output("B", b"b")]), memory, from_http=from_http
    )
    assert memory.regions["r"] == bytes(4) + b"abcd" + bytes(8)
    got = parse(encoded)
    assert list(got.raw_output_contents) == [b"", b"b"]
    assert ("shared_memory_region" in got.outputs[0].parameters) is from_http
    assert "shared_memory_region" not in got.outputs[1].parameters


def test_a_large_output_in_a_region_keeps_the_response_small() -> None:
    memory = FakeMemory()
    memory.regions["r"] = bytearray(INLINE_LIMIT * 2)
    request = infer_request((place(memory, "A", "r", INLINE_LIMIT * 2),))
    encoded = encode_response(
        request, InferResponse([output("A", bytes([1]) * INLINE_LIMIT * 2)]), memory, from_http=False
    )
    assert encoded.flags == 0
    assert memory.regions["r"] == bytes([1]) * INLINE_LIMIT * 2


def test_regions_are_made_for_outputs() -> None:
    memory = FakeMemory()
    encoder = ResponseEncoder(SPEC, memory)
    request = InferRequest("m", 2, "", {}, requested=(HandedOutput("A"), RequestedOutput("B"), HandedOutput("C")))
    for large in (3, INLINE_LIMIT * 2):
        for content in (b"1", b"2"):
            data = [content * 3, content * large, np.full((2, 2), content[0], np.uint8)]
            response = InferResponse([output(name, item, (1,)) for name, item in zip("ABC", data, strict=True)])
            encoded = encoder.encode(request, response, from_http=False)
            first, second, third = parse(encoded).outputs
            assert not second.parameters
            for entry, size in ((first, 3), (third, 4)):
                assert entry.parameters["shared_memory_offset"].int64_param == 0
                assert entry.parameters["shared_memory_byte_size"].int64_param == size
                assert memory.handed_out.pop(entry.parameters["shared_memory_region"].string_param) == content * size
            if large == 3:
                assert list(parse(encoded).raw_output_contents) == [b"", content * 3, b""]
            else:
                assert [len(item.inline) for item in extras(encoded)] == [0, 0, 0]
                assert [item.slot.byte_size for item in extras(encoded)] == [0, large, 0]


@pytest.mark.parametrize("count", [3, 4])
def test_if_one_region_cannot_be_made_none_is(count: int) -> None:
    """Three are all that the memory makes; and with three, the arena has no room for the fourth output."""
    memory = FakeMemory()
    memory.slots = 0
    outputs = [output(str(index), bytes(INLINE_LIMIT * 2)) for index in range(4)]
    request = infer_request(tuple([HandedOutput(str(i)) if i < count else RequestedOutput(str(i)) for i in range(4)]))
    with pytest.raises(Unavailable):
        encode_response(request, InferResponse(outputs), memory, from_http=False)
    assert not memory.handed_out


def test_a_region_that_is_too_small_is_not_touched_and_nor_are_the_others() -> None:
    memory = FakeMemory()
    memory.regions["r"] = bytearray(16)
    request = infer_request((place(memory, "A", "r", 4), place(memory, "B", "r", 4, 8)))
    with pytest.raises(InternalError) as caught:
        encode_response(request, InferResponse([output("A", b"aaaa"), output("B", b"bbbbb")]), memory, from_http=False)
    assert caught.value.message == (
        "shared memory size specified with the request for output 'B' (4 bytes) should be at least 5 bytes to hold the "
        "results"
    )
    assert memory.regions["r"] == bytes(16)


@pytest.mark.parametrize("shape", [(0,), (0, 3)])
def test_an_empty_output_needs_no_space(shape: tuple[int, ...]) -> None:
    memory = FakeMemory()
    memory.regions["r"] = bytearray(16)
    request = infer_request((place(memory, "A", "r", 0),))
    tensor = Tensor("A", DataType.FP32, shape, np.empty(shape, np.float32))
    encoded = encode_response(request, InferResponse([tensor]), memory, from_http=False)
    assert list(parse(encoded).outputs[0].shape) == list(shape)


def test_an_output_that_was_written_in_place_stays_there() -> None:
    memory = FakeMemory()
    memory.regions["r"] = bytearray(16)
    destination = place(memory, "A", "r", 8, 8)
    array = np.ndarray((2,), "<i4", buffer=destination.lease.view)
    array[:] = [1, 2]
    tensor = Tensor("A", DataType.INT32, (2,), array)
    encode_response(infer_request((destination,)), InferResponse([tensor]), memory, from_http=False)
    assert memory.regions["r"][8:] == np.array([1, 2], "<i4").tobytes()


def test_an_output_that_overlaps_its_place_is_moved() -> None:
    memory = FakeMemory()
    memory.regions["r"] = bytearray(range(16))
    destination = place(memory, "A", "r", 12)
    source = np.frombuffer(memoryview(memory.regions["r"])[4:16], np.uint8)
    encode_response(infer_request((destination,)), InferResponse([output("A", source)]), memory, from_http=False)
    assert memory.regions["r"][:12] == bytes(range(4, 16))


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_a_parameter_that_cannot_be_sent(number: int) -> None:
    with pytest.raises(InternalError, match="response parameter 'n' cannot be sent"):
        encode_response(infer_request(), InferResponse([], {"n": number}), FakeMemory(), from_http=False)


@pytest.mark.parametrize(
    ("spec", "given", "shown"),
    [
        (OutputSpec("A", DataType.UINT8, (4,), reshape=(2, 2)), (2, 2), [4]),
        (OutputSpec("A", DataType.UINT8, (-1, 2, 1), True, (-1, 2)), (1, 2, 2), [1, 2, 2, 1]),
        (OutputSpec("A", DataType.UINT8, (1,), True, ()), (4,), [4, 1]),
        (OutputSpec("A", DataType.UINT8, (4,)), (2, 2), [2, 2]),
        (OutputSpec("A", DataType.UINT8, (4,), reshape=(2, 2)), (4, 1, 1), [4, 1, 1]),
    ],
)
def test_a_reshape_is_undone(spec: OutputSpec, given: tuple[int, ...], shown: list[int]) -> None:
    model = ModelSpec("m", 2, 4, {}, {"A": spec})
    encoded = encode_response(
        infer_request(), InferResponse([output("A", b"abcd", given)]), FakeMemory(), from_http=False, spec=model
    )
    assert list(parse(encoded).outputs[0].shape) == shown


SPEC = ModelSpec("m", 2, 0, {}, {})


@pytest.mark.parametrize("requested", [(), ("A",), ("B", "A"), ("B", "B")], ids=str)
def test_a_response_like_one_before_is_encoded_alike(requested: tuple[str, ...]) -> None:
    memory = FakeMemory()
    encoder = ResponseEncoder(SPEC, memory)
    request = InferRequest("m", 2, "", {}, requested=tuple(RequestedOutput(name) for name in requested))
    for step in range(4):
        for shape in ((3,), (1, 3)):
            array = np.arange(3, dtype=np.float32).reshape(shape) + step
            response = InferResponse(
                [
                    Tensor("A", DataType.FP32, shape, array),
                    Tensor("C", DataType.BYTES, (1,), b"\x01\0\0\0" + b"x" * (step + 1)),
                    Tensor("B", DataType.UINT8, (2,), bytes([step, 1])),
                ]
            )
            expected = encode_response(request, response, memory, from_http=True, spec=SPEC)
            assert encoder.encode(request, response, from_http=True) == expected
            assert encoder.encode(request, response, from_http=True) == expected


def test_a_tensor_of_another_size_than_its_like_is_not_cut() -> None:
    encoder = ResponseEncoder(SPEC, FakeMemory())
    request = InferRequest("m", 2, "", {})
    for data in (b"1234", b"123", b"12345", b"1234"):
        encoded = encoder.encode(request, InferResponse([Tensor("A", DataType.UINT8, (4,), data)]), from_http=False)
        assert parse(encoded).raw_output_contents == [data]


def test_places_ids_and_parameters_are_not_remembered() -> None:
    memory = FakeMemory()
    memory.regions["region"] = bytearray(8)
    encoder = ResponseEncoder(SPEC, memory)
    plain = InferRequest("m", 2, "", {})
    named = InferRequest("m", 2, "7", {})
    tensors = [output("A", b"abc")]
    for _ in range(2):
        assert parse(encoder.encode(plain, InferResponse(tensors), from_http=False)).id == ""
        assert parse(encoder.encode(named, InferResponse(tensors), from_http=False)).id == "7"
        with_parameter = parse(encoder.encode(plain, InferResponse(tensors, {"p": 1}), from_http=False))
        assert with_parameter.parameters["p"].int64_param == 1
        placed = infer_request((place(memory, "A", "region", 8),))
        assert parse(encoder.encode(placed, InferResponse(tensors), from_http=False)).raw_output_contents == [b""]


def test_a_remembered_response_of_no_sequence_is_written_as_the_first_one() -> None:
    encoder = ResponseEncoder(ModelSpec("m", 2, 0, {}, {}), FakeMemory())
    request = InferRequest("m", 2, "", {})
    for data, parameters in (
        (b"abc", NO_SEQUENCE),
        (b"def", NO_SEQUENCE),
        (b"ghi", {}),
        (b"jkl", {"sequence_id": 7, "sequence_start": True, "sequence_end": False}),
        (b"mno", NO_SEQUENCE),
    ):
        response = InferResponse([output("A", data)], parameters)
        wanted = encode_response(request, response, FakeMemory(), from_http=False)
        assert parse(encoder.encode(request, response, from_http=False)) == parse(wanted)
