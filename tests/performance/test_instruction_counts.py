"""What the pure parts of a small request cost, in instructions of Python.

Each ceiling is about twice what was counted when it was set (CPython 3.11), so that a slow-down by two is noticed
without a clock, and a new version of Python is not.
"""

import itertools
import json
from typing import Any

import numpy as np
import pytest

from tensorhub import bytes_codec
from tensorhub.ipc import wire
from tensorhub.protocol import messages
from tensorhub.protocol.http_infer import BINARY_PLAN, JSON_PLAN, HttpInfer, Limits
from tensorhub.protocol.json_reply import encode_infer
from tensorhub.protocol.json_request import decode_infer
from tensorhub.protocol.known_calls import KnownReplies, KnownRequests
from tensorhub.protocol.model_spec import ModelSpec
from tensorhub.requests import InferRequest, InferResponse, Tensor
from tensorhub.tensors import DataType
from tensorhub.workers.decode import RequestDecoder
from tensorhub.workers.encode import ResponseEncoder
from tensorhub.workers.schedulers.default import DefaultScheduler
from tests.performance.counting import instructions
from tests.workers.fake_memory import FakeMemory

DATA = np.arange(16, dtype=np.int32)
CONFIG = messages.ModelConfig(name="add_sub", max_batch_size=8)
for _name in ("INPUT0", "INPUT1"):
    CONFIG.input.add(name=_name, data_type="TYPE_INT32", dims=[16])
for _name in ("OUTPUT0", "OUTPUT1"):
    CONFIG.output.add(name=_name, data_type="TYPE_INT32", dims=[16])
SPEC = ModelSpec.from_config(CONFIG, "add_sub", 1)


class Target:
    model = "add_sub"
    config = CONFIG


def _request(**fields: Any) -> bytes:
    message = messages.ModelInferRequest(model_name="add_sub", **fields)
    for name in ("INPUT0", "INPUT1"):
        message.inputs.add(name=name, datatype="INT32", shape=[1, 16])
        message.raw_input_contents.append(DATA.tobytes())
    result: bytes = message.SerializeToString()
    return result


def _response() -> bytes:
    message = messages.ModelInferResponse(model_name="add_sub", model_version="1")
    for name in ("OUTPUT0", "OUTPUT1"):
        message.outputs.add(name=name, datatype="INT32", shape=[1, 16])
        message.raw_output_contents.append(DATA.tobytes())
    result: bytes = message.SerializeToString()
    return result


def _frame(body: bytes) -> wire.Message:
    return wire.decode(wire.encode(wire.Kind.INFER, wire.Role.GRPC, 1, head=body))


_JSON = json.dumps(
    {"inputs": [{"name": name, "datatype": "INT32", "shape": [1, 16], "data": DATA.tolist()} for name in ("A", "B")]}
).encode()
_BINARY_HEAD = json.dumps(
    {
        "inputs": [
            {"name": name, "datatype": "INT32", "shape": [1, 16], "parameters": {"binary_data_size": 64}}
            for name in ("A", "B")
        ]
    }
).encode()
_BINARY = _BINARY_HEAD + 2 * DATA.tobytes()
_LIMITS = Limits()


def _decode_json() -> HttpInfer:
    return decode_infer(_JSON, len(_JSON), Target, _LIMITS)


def _decode_binary() -> HttpInfer:
    return decode_infer(_BINARY, len(_BINARY_HEAD), Target, _LIMITS)


def _known_requests() -> KnownRequests:
    table = KnownRequests(_LIMITS)
    for _ in range(2):
        table.learn("add_sub", _BINARY, len(_BINARY_HEAD), _decode_binary())
        table.learn("add_sub", _JSON, len(_JSON), _decode_json())
    return table


def _answer(request: InferRequest) -> InferResponse:
    return InferResponse([Tensor(name, DataType.INT32, (1, 16), DATA) for name in ("OUTPUT0", "OUTPUT1")])


def _schedule(scheduler: DefaultScheduler, request: InferRequest) -> None:
    scheduler.enqueue(request, 1)
    (run,) = scheduler.poll(1)
    scheduler.release(run.instance)


def _learn_another() -> None:
    """What the table costs for a request that no other is like."""
    head = _BINARY_HEAD.replace(b"{", b'{"parameters": {"sequence_id": %d}, ' % next(_NUMBERS), 1)
    _REQUESTS.learn("add_sub", head + 2 * DATA.tobytes(), len(head), _DECODED_BINARY)


_NUMBERS = itertools.count()
_DECODED_BINARY = _decode_binary()
_PLAIN = InferRequest("add_sub", 1, "", {})
_REPLIES = KnownReplies()
_REQUESTS = _known_requests()
_DECODER = RequestDecoder(SPEC, FakeMemory())
_ENCODER = ResponseEncoder(SPEC, FakeMemory())
_SCHEDULER = DefaultScheduler(1)
_RESPONSE = _response()
_USUAL, _WITH_ID = _frame(_request()), _frame(_request(id="7"))
_STRINGS = np.array([b"string %d" % index for index in range(1000)], dtype=object)
_ENCODED_STRINGS = bytes_codec.serialize(_STRINGS)

CEILINGS = {
    "wire: encode": (lambda: wire.encode(wire.Kind.INFER, wire.Role.HTTP, 1, head=b"x"), 90),
    "wire: decode": (lambda: wire.decode(_FRAME), 200),
    "HTTP: decode JSON": (_decode_json, 2100),
    "HTTP: decode binary": (_decode_binary, 1500),
    "HTTP: a known request": (lambda: _REQUESTS.find("add_sub", _BINARY, len(_BINARY_HEAD)), 200),
    "HTTP: a known request in JSON": (lambda: _REQUESTS.find("add_sub", _JSON, len(_JSON)), 640),
    "HTTP: a request that comes once": (_learn_another, 300),
    "HTTP: a known reply, binary": (lambda: _REPLIES.encode(BINARY_PLAN, _RESPONSE), 360),
    "HTTP: a known reply, JSON": (lambda: _REPLIES.encode(JSON_PLAN, _RESPONSE), 940),
    "HTTP: encode a reply": (lambda: encode_infer(JSON_PLAN, _RESPONSE, None), 900),
    "worker: decode a usual request": (lambda: _DECODER.decode(_USUAL, 1), 640),
    "worker: decode a request": (lambda: _DECODER.decode(_WITH_ID, 1), 1500),
    "worker: encode a usual response": (lambda: _ENCODER.encode(_PLAIN, _answer(_PLAIN), from_http=False), 570),
    "scheduler: default": (lambda: _schedule(_SCHEDULER, _PLAIN), 260),
    # Of a thousand strings: a few for each where objects are made, else none.
    "strings: to the wire": (lambda: bytes_codec.serialize(_STRINGS), 200),
    "strings: from the wire": (lambda: bytes_codec.deserialize(_ENCODED_STRINGS), 6500),
}
_FRAME = wire.encode(wire.Kind.INFER, wire.Role.HTTP, 1, head=b"x")


@pytest.mark.parametrize("name", CEILINGS)
def test_a_small_request_takes_no_more_instructions(name: str) -> None:
    call, ceiling = CEILINGS[name]
    count = instructions(call)
    print(f"{name}: {count} instructions, ceiling {ceiling}")
    assert 0 < count <= ceiling


def test_the_count_is_the_same_each_time() -> None:
    assert len({instructions(_decode_binary) for _ in range(3)}) == 1


def test_what_is_counted() -> None:
    def loop(rounds: int) -> int:
        total = 0
        for number in range(rounds):
            total += number
        return total

    assert instructions(lambda: loop(1000)) > 5 * instructions(lambda: loop(100)) > 0
