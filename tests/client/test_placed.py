"""Requests that name tensors in registered memory: offsets, sizes, and both forms of the request."""

import json

import numpy as np

from tensorhub.client import placed
from tensorhub.client.placed import Layout
from tensorhub.client.tensors import Tensor
from tensorhub.protocol.messages import ModelInferRequest

NUMBERS = Tensor("A", "INT32", np.arange(4, dtype=np.int32).reshape(2, 2))
TEXTS = Tensor("B", "BYTES", np.array([b"one", b""], dtype=object))
INPUTS = Layout.of("in", [NUMBERS, TEXTS])
OUTPUTS = Layout.of("out", [TEXTS, NUMBERS])


def test_tensors_lie_end_to_end() -> None:
    assert [(place.offset, place.byte_size) for place in INPUTS.places] == [(0, 16), (16, 11)]
    assert INPUTS.row_byte_size == 27
    assert INPUTS.content() == NUMBERS.array.tobytes() + b"\x03\0\0\0one\0\0\0\0"


def test_no_tensors_take_no_room() -> None:
    assert (Layout.of("r", []).row_byte_size, Layout.of("r", []).content()) == (0, b"")


def test_http_request() -> None:
    request = json.loads(placed.json_request(INPUTS, OUTPUTS, 0))
    assert request["inputs"][1] == {
        "name": "B",
        "datatype": "BYTES",
        "shape": [2],
        "parameters": {"shared_memory_region": "in", "shared_memory_byte_size": 11, "shared_memory_offset": 16},
    }
    assert request["outputs"][0] == {
        "name": "B",
        "parameters": {"shared_memory_region": "out", "shared_memory_byte_size": 11},
    }


def test_each_request_has_its_own_room_for_outputs_and_all_share_the_inputs() -> None:
    ranges = []
    for row in range(3):
        request = ModelInferRequest.FromString(placed.message("m", "2", INPUTS, OUTPUTS, row))
        assert (request.model_name, request.model_version) == ("m", "2")
        assert [tuple(item.shape) for item in request.inputs] == [(2, 2), (2,)]
        assert [item.parameters["shared_memory_offset"].int64_param for item in request.inputs] == [0, 16]
        for item in request.outputs:
            start = item.parameters["shared_memory_offset"].int64_param
            ranges.append((start, start + item.parameters["shared_memory_byte_size"].int64_param))
    assert ranges == [(0, 11), (11, 27), (27, 38), (38, 54), (54, 65), (65, 81)]
