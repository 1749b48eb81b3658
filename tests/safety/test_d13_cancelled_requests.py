"""D13: requests that are given up at any point leave no lease, no slot of an arena and no request behind."""

import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
import tritonclient.grpc.service_pb2 as pb

from tests.safety.client import Grpc, Http, infer_request
from tests.safety.conftest import ARENA_BYTES
from tests.safety.processes import mapped, nothing_is_left, worker
from tests.safety.soak import turns
from tests.serving import RunningServer
from tests.shm.segments import segment
from tests.waiting import wait_until

CALLS = turns(300, 100_000)
_SIZE = 200_000
_AT_ONCE = 16


def _requests() -> Iterator[pb.ModelInferRequest]:
    """Through the arenas, through a region, and both; quick and slow models."""
    large = pb.ModelInferRequest(model_name="identity", raw_input_contents=[b"\1" * _SIZE])
    large.inputs.add(name="INPUT0", datatype="UINT8", shape=[_SIZE])
    placed = infer_request("d13", 0, _SIZE)
    slow = infer_request("d13", 0, _SIZE, model="gated")
    out = pb.ModelInferRequest()
    out.CopyFrom(placed)
    out.outputs[0].parameters["shared_memory_region"].string_param = "d13"
    out.outputs[0].parameters["shared_memory_byte_size"].int64_param = _SIZE
    while True:
        yield from (large, placed, slow, out)


@pytest.mark.timeout(3_600)
def test_cancelled_calls(guarded: RunningServer, http: Http, rpc: Grpc) -> None:
    pid = worker(guarded)
    chance = random.Random(13)
    outcomes: set[str] = set()
    done = threading.Semaphore(_AT_ONCE)
    with segment(b"\1" * _SIZE) as made, nothing_is_left(guarded):
        assert http.register("d13", made.key, 0, _SIZE)[0] == 200
        for request, _ in zip(_requests(), range(CALLS), strict=False):
            done.acquire()
            call = rpc.stub.ModelInfer.future(request, timeout=60)
            call.add_done_callback(lambda call: (outcomes.add(call.code().name), done.release()))
            if chance.random() < 0.8:
                time.sleep(chance.choice((0, 0, 0.0005, 0.002)))
                call.cancel()
        for _ in range(_AT_ONCE):
            assert done.acquire(timeout=60)
        _nothing_is_held(guarded, pid, made.key)
    assert {"OK", "CANCELLED"} <= outcomes <= {"OK", "CANCELLED", "UNAVAILABLE"}
    assert worker(guarded) == pid


def test_clients_that_hang_up(guarded: RunningServer, http: Http) -> None:
    pid = worker(guarded)
    chance = random.Random(131)
    host, _, port = guarded.http.rpartition(":")
    header = json.dumps(
        {
            "inputs": [
                {
                    "name": "INPUT0",
                    "datatype": "UINT8",
                    "shape": [_SIZE],
                    "parameters": {"shared_memory_region": "d13", "shared_memory_byte_size": _SIZE},
                }
            ]
        }
    ).encode()
    start = b"POST /v2/models/identity/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(header)
    with segment(b"\1" * _SIZE) as made, nothing_is_left(guarded):
        assert http.register("d13", made.key, 0, _SIZE)[0] == 200
        for _ in range(turns(100, 20_000)):
            with socket.create_connection((host, int(port)), timeout=60) as connection:
                whole = start + header
                connection.sendall(whole[: chance.randrange(1, len(whole) + 1)])
                if chance.random() < 0.3:
                    time.sleep(0.001)
        _nothing_is_held(guarded, pid, made.key)
    assert worker(guarded) == pid


def _nothing_is_held(server: RunningServer, pid: int, key: str) -> None:
    """Leases: the mapping goes with the name. Slots: the whole arena can be had, several times over."""
    with closing(Http(server.http)) as http:  # a new one: the server closes connections that are idle for long
        assert http.unregister("d13") == 200
        wait_until(lambda: mapped(pid, key) == 0, "the last lease is given back")
        size = ARENA_BYTES * 3 // 4
        wait_until(lambda: http.infer_inline(bytes(size))[0] == 200, "the arenas are empty")
