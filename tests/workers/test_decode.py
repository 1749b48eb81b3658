"""Requests as they come in frames: Triton's verdict on each, where the data is taken from, and who holds what."""

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorhub.backends.destinations import HandedOutput, PlacedOutput
from tensorhub.errors import GRPC_STATUS, InternalError, InvalidArgument, NotFound, TensorhubError, Unsupported
from tensorhub.ipc import wire
from tensorhub.protocol import messages
from tensorhub.protocol.model_spec import ModelSpec
from tensorhub.requests import FLAG_SEQUENCE_END, FLAG_SEQUENCE_START, InferRequest, RequestedOutput
from tensorhub.workers.decode import DEADLINE_GRACE_NS, RequestDecoder
from tests.workers import decode_cases
from tests.workers.decode_cases import CASES, request, tensor
from tests.workers.fake_memory import FakeMemory

RECORDED = json.loads(Path(__file__).with_name("decode_recorded.json").read_text())
"""What Triton 2.51 answered to each case of decode_cases over gRPC: status and text."""

_PREFIX = "[request id: <id_unknown>] "
DIFFERENT = {
    # The order of the names is that of a hash map.
    "optional: too many": (
        "INVALID_ARGUMENT",
        f"{_PREFIX}expected number of inputs between 1 and 3 but got 4 inputs for model 'optional'. Got input(s) "
        "['D','C','B','A'], but missing required input(s) ]. Please provide all required input(s).",
    ),
    # 2.51 calculates with negative and wrapped sizes, up to the death of the model; newer versions refuse them.
    "minus two for a free": ("INVALID_ARGUMENT", f"{_PREFIX}tensor 'INPUT0' contains an invalid dimension [-2]"),
    "minus two for a free in a batch": (
        "INVALID_ARGUMENT",
        f"{_PREFIX}tensor 'INPUT0' contains an invalid dimension [1,-2,2]",
    ),
    "minus two twice": ("INVALID_ARGUMENT", f"{_PREFIX}tensor 'INPUT0' contains an invalid dimension [-2,-2]"),
    "minus two strings": (
        "INVALID_ARGUMENT",
        f"{_PREFIX}tensor 'INPUT0' contains an invalid dimension in shape [-2]",
    ),
    "elements overflow": (
        "INVALID_ARGUMENT",
        f"{_PREFIX}element count for tensor 'INPUT0' exceeds maximum size of 9223372036854775807",
    ),
    "elements overflow with zero": ("OK", ""),
    "bytes overflow": (
        "INVALID_ARGUMENT",
        f"{_PREFIX}byte size for tensor 'INPUT0' exceeds maximum size of 9223372036854775807",
    ),
    # The model was reached, and could not do without the input.
    "optional: only optional": ("OK", ""),
}

_STATUS_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}

SENDER = 4711


def frame(head: Any, *, from_http: bool = False, placed: dict[int, tuple[int, int]] | None = None) -> wire.Message:
    tail = b""
    if placed is not None:
        extras = messages.RequestExtras()
        for index, (offset, byte_size) in placed.items():
            item = extras.inputs.add(index=index)
            item.data.offset = offset
            item.data.byte_size = byte_size
        tail = extras.SerializeToString()
    flags = wire.FLAG_FROM_HTTP if from_http else 0
    role = wire.Role.HTTP if from_http else wire.Role.GRPC
    return wire.decode(
        wire.encode(
            wire.Kind.INFER,
            role,
            SENDER,
            flags=flags,
            deadline_ns=77,
            head=head if isinstance(head, bytes) else head.SerializeToString(),
            tail=tail,
        )
    )


def decode(head: Any, memory: FakeMemory | None = None, config: Any = None, **options: Any) -> InferRequest:
    config = decode_cases.config(head.model_name) if config is None else config
    decoder = RequestDecoder(ModelSpec.from_config(config, head.model_name, 3), memory or FakeMemory())
    return decoder.decode(frame(head, **options), 5)


@pytest.mark.parametrize("name", CASES)
def test_the_verdict_is_tritons(name: str) -> None:
    memory = FakeMemory()
    try:
        decode(CASES[name], memory)
        verdict = ("OK", "")
    except TensorhubError as error:
        verdict = (_STATUS_NAMES[GRPC_STATUS[error.code]], error.message)
    assert verdict == DIFFERENT.get(name, tuple(RECORDED.get(name, ())))
    assert memory.pinned == 0


def test_a_request_like_one_before_has_the_same_verdict() -> None:
    """All cases in turn, several times and on both ways, at decoders that remember."""
    decoders: dict[str, RequestDecoder] = {}
    first: dict[tuple[str, bool], tuple[object, ...]] = {}
    for from_http in (False, True) * 3:
        for name, head in CASES.items():
            if head.model_name not in decoders:
                spec = ModelSpec.from_config(decode_cases.config(head.model_name), head.model_name, 3)
                decoders[head.model_name] = RequestDecoder(spec, FakeMemory())
            try:
                got = decoders[head.model_name].decode(frame(head, from_http=from_http), 5)
                seen: tuple[object, ...] = (
                    got.batch_size,
                    got.requested,
                    got.deadline_ns,
                    (got.parameters, got.correlation_id, got.flags, got.priority, got.timeout_us),
                    [(key, item.name, item.datatype, item.shape, bytes(item.data)) for key, item in got.inputs.items()],
                )
            except TensorhubError as error:
                seen = (error.code, error.message)
            assert first.setdefault((name, from_http), seen) == seen


def test_a_request_like_one_before_has_its_own_data() -> None:
    spec = ModelSpec.from_config(decode_cases.config("add_sub"), "add_sub", 3)
    decoder = RequestDecoder(spec, FakeMemory())
    requests = []
    for step in range(4):
        contents = [struct.pack("<4f", *[step + index] * 4) for index in range(2)]
        head = request("add_sub", [tensor("INPUT0"), tensor("INPUT1")], contents, ["OUTPUT1"])
        requests.append(decoder.decode(frame(head), step))
        assert [bytes(item.data) for item in requests[-1].inputs.values()] == contents
        assert requests[-1].arrival_ns == step
        data: Any = requests[-1].inputs["INPUT0"].data
        data[:4] = b"mine"  # private to the request, and writable
    assert len({id(item.inputs["INPUT0"].data) for item in requests}) == 4


def test_what_a_request_holds() -> None:
    head = request(
        "add_sub",
        [tensor("INPUT1"), tensor("INPUT0")],
        [struct.pack("<4f", 1, 2, 3, 4), bytes(16)],
        ["OUTPUT1"],
        parameters={
            "sequence_id": -1,
            "sequence_start": True,
            "sequence_end": True,
            "priority": 2,
            "timeout": 9,
            "one": 1,
            "text": "x",
            "yes": True,
            "half": 0.5,
            "triton_enable_empty_final_response": True,
        },
        request_id="abc",
    )
    got = decode(head)
    assert (got.model, got.version, got.request_id, got.batch_size) == ("add_sub", 3, "abc", 1)
    assert list(got.inputs) == ["INPUT1", "INPUT0"]
    assert got.inputs["INPUT1"].data == struct.pack("<4f", 1, 2, 3, 4)
    assert got.inputs["INPUT1"].shape == (1, 4)
    assert [item.name for item in got.requested] == ["OUTPUT1"]
    assert got.correlation_id == 2**64 - 1
    assert got.flags == FLAG_SEQUENCE_START | FLAG_SEQUENCE_END
    assert (got.priority, got.timeout_us, got.deadline_ns, got.arrival_ns) == (2, 9, 77 + DEADLINE_GRACE_NS, 5)
    assert dict(got.parameters) == {"one": 1, "text": "x", "yes": True, "half": 0.5}


def test_inline_data_belongs_to_the_request() -> None:
    got = decode(CASES["good"])
    assert not memoryview(got.inputs["INPUT0"].data).readonly


def test_our_http_frontend_may_use_unsigned_integers() -> None:
    big = ("uint64_param", 2**63)
    head = request(
        "add_sub",
        [tensor("INPUT0"), tensor("INPUT1")],
        [bytes(16)] * 2,
        [("OUTPUT0", {"classification": big})],
        parameters={"sequence_id": big, "priority": big, "timeout": big},
    )
    got = decode(head, from_http=True)
    assert (got.correlation_id, got.priority, got.timeout_us) == (2**63,) * 3
    assert got.requested[0].classification == 2**32 - 1
    with pytest.raises(InvalidArgument, match="invalid value type for"):
        decode(head)


def test_inputs_in_the_senders_arena() -> None:
    memory = FakeMemory()
    memory.arenas[SENDER] = bytearray(range(64))
    head = request("add_sub", [tensor("INPUT0"), tensor("INPUT1")], [b"x" * 16])
    got = decode(head, memory, placed={0: (32, 16)})
    view = memoryview(got.inputs["INPUT0"].data)
    assert bytes(view) == bytes(range(32, 48))
    view[0] = 99
    assert memory.arenas[SENDER][32] == 99
    assert got.inputs["INPUT1"].data == b"x" * 16


def test_large_inputs_of_a_model_on_a_gpu_are_staged() -> None:
    memory = FakeMemory()
    memory.arenas[SENDER] = bytearray(range(64))
    head = request("add_sub", [tensor("INPUT0"), tensor("INPUT1")])
    spec = ModelSpec.from_config(decode_cases.config(head.model_name), head.model_name, 3)
    decoder = RequestDecoder(replace(spec, stages_inputs=True), memory)
    memory.prepare_staging()
    memory.stages = 1
    got = decoder.decode(frame(head, placed={0: (0, 16), 1: (16, 16)}), 5)
    first, second = (memoryview(item.data) for item in got.inputs.values())
    assert bytes(first) == bytes(range(16))
    assert bytes(second) == bytes(range(16, 32)), "there was no room for it"
    memory.arenas[SENDER][:] = bytes(64)
    assert bytes(first) == bytes(range(16)), "it is a copy"
    assert bytes(second) == bytes(16)
    assert memory.staged == 1
    got.leases[0].release()
    assert memory.staged == 0
    memory.stages = 9
    with pytest.raises(TensorhubError):
        decoder.decode(frame(head, placed={0: (0, 16), 1: (60, 16)}), 5)
    assert memory.staged == 0


def test_an_arena_range_that_is_wrong() -> None:
    memory = FakeMemory()
    memory.arenas[SENDER] = bytearray(64)
    head = request("add_sub", [tensor("INPUT0"), tensor("INPUT1")], [bytes(16)])
    with pytest.raises(InternalError):
        decode(head, memory, placed={0: (56, 16)})
    with pytest.raises(InvalidArgument, match=r"Expected 16, got 8$"):
        decode(head, memory, placed={0: (56, 8)})


def test_contents_beside_placed_inputs_are_mixed_sources() -> None:
    memory = FakeMemory()
    memory.arenas[SENDER] = bytearray(64)
    head = request("add_sub", [tensor("INPUT0"), tensor("INPUT1", contents={"fp32_contents": [1.0] * 4})])
    with pytest.raises(InvalidArgument, match="contents field must not be specified"):
        decode(head, memory, placed={0: (0, 16)})


def _region(name: str, byte_size: int, offset: int = 0) -> dict[str, Any]:
    return {"shared_memory_region": name, "shared_memory_byte_size": byte_size, "shared_memory_offset": offset}


def test_inputs_and_outputs_in_regions() -> None:
    memory = FakeMemory()
    memory.regions = {"in": bytearray(range(64)), "out": bytearray(64)}
    head = request(
        "add_sub",
        [tensor("INPUT0", parameters=_region("in", 16, 16)), tensor("INPUT1")],
        [bytes(16)],
        [("OUTPUT0", _region("out", 32, 8)), "OUTPUT1"],
    )
    got = decode(head, memory)
    view = memoryview(got.inputs["INPUT0"].data)
    assert view.readonly
    assert bytes(view) == bytes(range(16, 32))
    place, other = got.requested
    assert isinstance(place, PlacedOutput)
    assert (place.region, place.offset, place.byte_size) == ("out", 8, 32)
    assert not isinstance(other, PlacedOutput)
    place.lease.view[0] = 7
    assert memory.regions["out"][8] == 7
    assert memory.pinned == len(got.leases) == 2


@pytest.mark.parametrize("parameter", ["copy", "COPY"])
def test_inputs_in_regions_are_copied_if_the_model_asks_for_it(parameter: str) -> None:
    config = decode_cases.config("add_sub")
    config.parameters["SHM_INPUT"].string_value = parameter
    memory = FakeMemory()
    memory.regions = {"in": bytearray(64)}
    head = request("add_sub", [tensor("INPUT0", parameters=_region("in", 16)), tensor("INPUT1")], [bytes(16)])
    got = decode(head, memory, config)
    memoryview(got.inputs["INPUT0"].data)[0] = 1
    assert memory.regions["in"][0] == 0
    assert memory.pinned == 0


_ALLOCATE = {"shared_memory_allocate": True}


@pytest.mark.parametrize("from_http", [False, True])
def test_an_output_that_the_server_makes_a_region_for(*, from_http: bool) -> None:
    """Also when the request is recognised, and beside others that differ in nothing else."""
    decoder = RequestDecoder(ModelSpec.from_config(decode_cases.config("add_sub"), "add_sub", 3), FakeMemory())
    for number in range(4):
        for parameters, kind, classes in (
            (_ALLOCATE, HandedOutput, 0),
            ({"shared_memory_allocate": False}, RequestedOutput, 0),
            ({}, RequestedOutput, 0),
            ({"classification": 2, **_ALLOCATE}, HandedOutput, 2),
        ):
            data = [bytes([number]) * 16] * 2
            head = request("add_sub", [tensor("INPUT0"), tensor("INPUT1")], data, [("OUTPUT0", parameters), "OUTPUT1"])
            got = decoder.decode(frame(head, from_http=from_http), 5)
            assert [type(output) for output in got.requested] == [kind, RequestedOutput]
            assert got.requested[0].classification == classes
            assert got.inputs["INPUT0"].data == data[0]
            assert not got.leases


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        (
            {"shared_memory_allocate": 1},
            "invalid value type for 'shared_memory_allocate' parameter for tensor 'OUTPUT0'",
        ),
        ({"shared_memory_allocate": "true"}, "expected bool_param"),
        ({"shared_memory_allocate": None}, "expected bool_param"),
        ({**_ALLOCATE, **_region("out", 8)}, "can't set both 'shared_memory_region' and 'shared_memory_allocate'"),
        ({**_ALLOCATE, "shared_memory_offset": 8}, "without 'shared_memory_region'"),
        ({**_ALLOCATE, "shared_memory_byte_size": 8}, "without 'shared_memory_region'"),
    ],
)
def test_outputs_that_contradict_themselves(parameters: dict[str, Any], text: str) -> None:
    memory = FakeMemory()
    memory.regions = {"out": bytearray(64)}
    inputs = [tensor("INPUT0"), tensor("INPUT1")]
    with pytest.raises(InvalidArgument, match=text):
        decode(request("add_sub", inputs, [bytes(16)] * 2, [("OUTPUT0", parameters)]), memory)
    assert memory.pinned == 0


def test_a_server_that_makes_no_regions_says_so_each_time() -> None:
    memory = FakeMemory()
    memory.hands_out = False
    decoder = RequestDecoder(ModelSpec.from_config(decode_cases.config("add_sub"), "add_sub", 3), memory)
    head = request("add_sub", [tensor("INPUT0"), tensor("INPUT1")], [bytes(16)] * 2, [("OUTPUT0", _ALLOCATE)])
    for _ in range(3):
        with pytest.raises(InvalidArgument, match="nothing is handed out for 'OUTPUT0'"):
            decoder.decode(frame(head), 5)


def test_strings_in_a_region_are_read_from_a_copy() -> None:
    memory = FakeMemory()
    memory.regions = {"in": bytearray(struct.pack("<I", 2) + b"ab")}
    got = decode(request("identity_bytes", [tensor("INPUT0", "BYTES", [1], _region("in", 6))]), memory)
    memory.regions["in"][0] = 200
    assert got.inputs["INPUT0"].data == struct.pack("<I", 2) + b"ab"
    assert memory.pinned == 0


@pytest.mark.parametrize(
    ("second", "outputs", "error"),
    [
        (tensor("INPUT1", parameters=_region("nowhere", 16)), [], NotFound),
        (tensor("INPUT1", parameters=_region("in", 16, 64)), [], InvalidArgument),
        (tensor("INPUT1", parameters=_region("in", 65)), [], InvalidArgument),
        (tensor("INPUT1", parameters=_region("in", -1)), [], InvalidArgument),
        (tensor("INPUT1", parameters=_region("in", 12)), [], InvalidArgument),
        (tensor("INPUT1", parameters=_region("in", 16)), [("OUTPUT0", _region("nowhere", 1))], NotFound),
        (tensor("INPUT1", parameters=_region("in", 16)), [("NOPE", _region("in", 1))], InvalidArgument),
    ],
)
def test_a_request_that_fails_holds_nothing(second: dict[str, Any], outputs: list[Any], error: type[Exception]) -> None:
    memory = FakeMemory()
    memory.regions = {"in": bytearray(64)}
    head = request("add_sub", [tensor("INPUT0", parameters=_region("in", 16)), second], [], outputs)
    with pytest.raises(error):
        decode(head, memory)
    assert memory.pinned == 0


@given(st.sampled_from([0, 1, 63, 64, 65, 2**31, 2**32, 2**53, 2**63 - 1, -1]), st.sampled_from([0, 63, 64, 2**63 - 1]))
def test_wild_ranges_are_refused(byte_size: int, offset: int) -> None:
    memory = FakeMemory()
    memory.regions = {"in": bytearray(64)}
    head = request("identity_int8", [tensor("INPUT0", "INT8", [byte_size], _region("in", byte_size, offset))])
    unsigned = byte_size % 2**64
    if offset < 64 and offset + unsigned <= 64:
        assert len(memoryview(decode(head, memory).inputs["INPUT0"].data)) == byte_size
        return
    with pytest.raises(TensorhubError):
        decode(head, memory)
    assert memory.pinned == 0


@given(st.binary(max_size=300))
def test_any_bytes_give_an_error_of_ours_or_a_request(head: bytes) -> None:
    decoder = RequestDecoder(ModelSpec.from_config(decode_cases.config("add_sub"), "add_sub", 1), FakeMemory())
    with pytest.raises(TensorhubError):
        decoder.decode(frame(head), 0)


@pytest.mark.parametrize(
    ("datatype", "family", "values", "numpy"),
    [
        ("BOOL", "bool_contents", [True, False], "bool"),
        ("INT8", "int_contents", [300, -1], "int8"),
        ("INT16", "int_contents", [70_000, -1], "int16"),
        ("INT32", "int_contents", [2**31 - 1, -(2**31)], "int32"),
        ("INT64", "int64_contents", [2**63 - 1, -(2**63)], "int64"),
        ("UINT8", "uint_contents", [300, 1], "uint8"),
        ("UINT16", "uint_contents", [70_000, 1], "uint16"),
        ("UINT32", "uint_contents", [2**32 - 1, 0], "uint32"),
        ("UINT64", "uint64_contents", [2**64 - 1, 0], "uint64"),
        ("FP32", "fp32_contents", [1.5, float("inf")], "float32"),
        ("FP64", "fp64_contents", [1e300, -0.0], "float64"),
    ],
)
def test_typed_contents(datatype: str, family: str, values: list[Any], numpy: str) -> None:
    config = messages.ModelConfig(name="m")
    number = config.DESCRIPTOR.fields_by_name["input"].message_type.fields_by_name["data_type"].enum_type
    config.input.add(name="X", data_type=number.values_by_name[f"TYPE_{datatype}"].number, dims=[-1])
    head = request("m", [tensor("X", datatype, [2], contents={family: values})])
    expected = np.array(values, "uint64" if numpy == "uint64" else None).astype(numpy).tobytes()
    assert decode(head, config=config).inputs["X"].data == expected


def _sequence_config(datatype: str) -> Any:
    config = decode_cases.config("identity_fp16")
    control = config.sequence_batching.control_input.add(name="CORRID").control.add()
    kinds = control.DESCRIPTOR.enum_types_by_name["Kind"].values_by_name
    types = config.DESCRIPTOR.fields_by_name["input"].message_type.fields_by_name["data_type"].enum_type
    control.kind = kinds["CONTROL_SEQUENCE_CORRID"].number
    control.data_type = types.values_by_name[f"TYPE_{datatype}"].number
    return config


@pytest.mark.parametrize(
    ("datatype", "correlation_id", "error"),
    [
        ("UINT64", 5, None),
        ("INT32", 5, None),
        ("STRING", "a", None),
        ("UINT64", "a", "'CORRID' data-type is 'BYTES', but model 'identity_fp16' expects 'UINT64'"),
        ("STRING", 5, "'CORRID' data-type is 'UINT64', but model 'identity_fp16' expects 'BYTES'"),
    ],
)
def test_the_correlation_id_must_be_what_the_model_takes(
    datatype: str, correlation_id: int | str, error: str | None
) -> None:
    head = request(
        "identity_fp16", [tensor("INPUT0", "FP16", [1])], [bytes(2)], parameters={"sequence_id": correlation_id}
    )
    if error is None:
        assert decode(head, config=_sequence_config(datatype)).correlation_id == correlation_id
        return
    with pytest.raises(InvalidArgument) as caught:
        decode(head, config=_sequence_config(datatype))
    assert caught.value.message == f"sequence batching control {error}"


def test_a_long_correlation_id_is_measured_in_bytes() -> None:
    head = request("all_optional", parameters={"sequence_id": "\u00e4" * 65})
    with pytest.raises(Unsupported):
        decode(head)
