"""D4: a CUDA handle is 64 bytes and no other number, and a registration that fails leaves nothing open."""

import base64
import json
import os

import tritonclient.grpc.service_pb2 as pb

from tests.safety.client import Grpc, Http
from tests.safety.processes import nothing_is_left
from tests.safety.soak import turns
from tests.serving import RunningServer
from tests.shm.segments import segment

PAGE = 4096
CYCLES = turns(60, 5_000)
FAILURES = turns(200, 10_000)


def _cuda(http: Http, handle: bytes) -> tuple[int, str]:
    document = {"raw_handle": {"b64": base64.b64encode(handle).decode()}, "device_id": 0, "byte_size": 64}
    status, body = http.ask("POST", "/v2/cudasharedmemory/region/d04/register", document)
    return status, json.loads(body)["error"] if status != 200 else ""


def test_every_length_of_a_handle(guarded: RunningServer, http: Http, rpc: Grpc) -> None:
    with nothing_is_left(guarded):
        for length in range(129):
            handle = os.urandom(length)
            status, text = _cuda(http, handle)
            assert status == 400, (length, text)
            assert (text == "'raw_handle' must be a valid base64 encoded cudaIpcMemHandle_t") is (length != 64), text
            request = pb.CudaSharedMemoryRegisterRequest(name="d04", raw_handle=handle, device_id=0, byte_size=64)
            code, details = rpc.ask("CudaSharedMemoryRegister", request)
            assert code == "INVALID_ARGUMENT", (length, code, details)
        assert json.loads(http.ask("GET", "/v2/cudasharedmemory/status")[1]) == []


def test_failures_leave_nothing(guarded: RunningServer, http: Http) -> None:
    with segment(bytes(2 * PAGE)) as made, nothing_is_left(guarded):
        wrong = [
            (made.key, 0, 2 * PAGE + 1),
            (made.key, 3 * PAGE, 1),
            (made.key, 16, 16),
            (made.key, 0, 0),
            (made.key, 2**63, 2**63),
            (made.key + "-nothing", 0, PAGE),
            ("//" + made.key, 0, PAGE),
            ("triton_python_backend_shm_region_x", 0, PAGE),
        ]
        for turn in range(FAILURES):
            key, offset, byte_size = wrong[turn % len(wrong)]
            status, body = http.register("d04", key, offset, byte_size)
            assert status in (400, 500), body
            if turn % len(wrong) == 0:
                assert _cuda(http, bytes(64))[0] == 400
        assert http.regions() == []


def test_cycles_leave_nothing(guarded: RunningServer, http: Http) -> None:
    with segment(bytes(2 * PAGE)) as made, nothing_is_left(guarded):
        for turn in range(CYCLES):
            assert http.register("d04", made.key, 0, 2 * PAGE)[0] == 200
            assert http.register("d04", made.key, 0, PAGE)[0] == 400, "the name is taken"
            if turn % 8 == 0:
                assert http.infer("d04", 0, PAGE)[0] == 200
            assert http.unregister("d04") == 200
        assert http.regions() == []
