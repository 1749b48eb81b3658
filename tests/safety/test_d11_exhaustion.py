"""D11: what is too large, too deep or too many is refused, without much memory, and others do not feel it."""

import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import tritonclient.grpc.service_pb2 as pb

from tests.safety.client import Grpc, Http
from tests.safety.processes import nothing_is_left, resident_bytes, worker
from tests.serving import RunningServer, processes_of
from tests.shm.segments import segment
from tests.shortage import starved

INFER = "/v2/models/identity/infer"
RSS_CEILING = 400 << 20
"""Bytes that a process may grow by. A decompressed body may have 64 MiB; a parsed one takes several times as much."""
LATENCY_CEILING_S = 20.0
_BOMB = 256 << 20


@contextmanager
def _others_are_served(server: RunningServer) -> Iterator[None]:
    """Check that meanwhile another client gets right answers, none of them late, and that no process grows much."""
    assert server.run_dir is not None
    stop = threading.Event()
    wrong: list[object] = []
    served = threading.Semaphore(0)
    before = {pid: resident_bytes(pid) for pid in processes_of(server.run_dir)}
    peak = dict(before)

    def work() -> None:
        client = Http(server.http)
        while not stop.is_set():
            started = time.monotonic()
            answer = client.infer("d11", 0, 64)
            if answer != (200, b"\5" * 64) or time.monotonic() - started > LATENCY_CEILING_S:
                wrong.append((answer, time.monotonic() - started))
            served.release()
            for pid in peak:
                peak[pid] = max(peak[pid], resident_bytes(pid))
            stop.wait(0.01)
        client.close()

    client = Http(server.http)
    with segment(b"\5" * 4096) as made:
        assert client.register("d11", made.key, 0, 4096)[0] == 200
        thread = threading.Thread(target=work)
        thread.start()
        try:
            assert served.acquire(timeout=60)
            yield
        finally:
            stop.set()
            thread.join()
            client.unregister("d11")
            client.close()
    assert wrong == []
    grown = {pid: (peak[pid] - before[pid]) >> 20 for pid in before if peak[pid] - before[pid] > RSS_CEILING}
    assert grown == {}, "MiB"


def _gzip_bomb() -> bytes:
    chunk = bytes(1 << 20)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([packer.compress(chunk) for _ in range(_BOMB >> 20)] + [packer.flush()])


def test_bodies(guarded: RunningServer, http: Http) -> None:
    one = {"name": "INPUT0", "datatype": "UINT8", "shape": [1], "data": [1]}
    bomb = _gzip_bomb()
    corpus: list[tuple[bytes, dict[str, str]]] = [
        (b'{"inputs":' + b"[" * 200_000, {}),
        (b'{"inputs":' + b'{"a":' * 200_000, {}),
        (b"[" * 1_000 + b"]" * 1_000, {}),
        (json.dumps({"inputs": [one] * 20_000}).encode(), {}),
        (json.dumps({"inputs": [{**one, "name": f"I{i}"} for i in range(20_000)]}).encode(), {}),
        (json.dumps({"inputs": [one], "outputs": [{"name": f"O{i}"} for i in range(20_000)]}).encode(), {}),
        (json.dumps({"inputs": [{**one, "shape": [1] * 500_000}]}).encode(), {}),
        (json.dumps({"inputs": [{**one, "shape": [2**62, 2**62]}]}).encode(), {}),
        (b'{"inputs":[{"name":"INPUT0","datatype":"UINT8","shape":[1' + b"0" * 100_000 + b'],"data":[1]}]}', {}),
        (b'{"inputs":[{"name":"INPUT0","datatype":"UINT8","shape":[1],"data":' + b"[" * 50_000 + b"]" * 50_000, {}),
        (json.dumps({"parameters": {f"p{i}": i for i in range(50_000)}, "inputs": [one]}).encode()[:-1], {}),
        (b'"' + b"x" * (70 << 20) + b'"', {}),
        (bomb, {"Content-Encoding": "gzip"}),
        (gzip.compress(bomb), {"Content-Encoding": "gzip"}),
        (zlib.compress(bytes(200 << 20)), {"Content-Encoding": "deflate"}),
        (b"{}", {"Inference-Header-Content-Length": "9" * 4_000}),
        (b"{}", {f"x-{i}": "y" for i in range(2_000)}),
        (b"{}", {"x": "y" * 1_000_000}),
    ]
    for kind in (2**40, 2**63, 2**64, 10**30, -1):
        tensor = {"name": "INPUT0", "datatype": "UINT8", "shape": [1], "parameters": {"binary_data_size": kind}}
        text = json.dumps({"inputs": [tensor]}).encode()
        corpus.append((text + b"x", {"Inference-Header-Content-Length": str(len(text))}))
    with nothing_is_left(guarded), _others_are_served(guarded):
        for body, headers in corpus:
            status, answer = http.ask("POST", INFER, body, headers)
            assert status == 0 or 400 <= status < 600, (status, body[:80])
            assert status != 500 or b"Traceback" not in answer
        for path in ("/v2/systemsharedmemory/region/d11x/register", "/v2/repository/models/x/load", "/v2/logging"):
            for body in (b'{"key":' + b"[" * 200_000, b'"' + b"x" * (70 << 20) + b'"'):
                status, _ = http.ask("POST", path, body)
                assert status == 0 or 400 <= status < 600, (path, status)


def test_connections_that_say_little(guarded: RunningServer) -> None:
    """Bodies that never come, and bodies in very many pieces."""
    host, _, port = guarded.http.rpartition(":")
    starts = [
        b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000000\r\n\r\n{" % INFER.encode(),
        b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n" % INFER.encode(),
        b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}" % INFER.encode(),
        b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % INFER.encode() + b"1\r\nx\r\n" * 50_000,
        b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n" % INFER.encode(),
        b"GET /" + b"a" * 200_000,
        b"\x00" * 10_000,
    ]
    with nothing_is_left(guarded), _others_are_served(guarded):
        held = []
        for start in starts * 5:
            connection = socket.create_connection((host, int(port)), timeout=60)
            held.append(connection)
            try:
                connection.sendall(start)
            except OSError:
                continue  # the server has had enough
        for connection in held:
            connection.close()


def test_grpc_messages(guarded: RunningServer, rpc: Grpc) -> None:
    many = pb.ModelInferRequest(model_name="identity")
    for index in range(50_000):
        many.inputs.add(name=f"I{index}", datatype="UINT8", shape=[1])
    deep = pb.ModelInferRequest(model_name="identity")
    deep.inputs.add(name="INPUT0", datatype="UINT8", shape=[1] * 500_000)
    contents = pb.ModelInferRequest(model_name="identity")
    contents.inputs.add(name="INPUT0", datatype="UINT8", shape=[1])
    contents.raw_input_contents.extend([b"x"] * 60_000)
    parameters = pb.ModelInferRequest(model_name="identity")
    for index in range(50_000):
        parameters.parameters[f"p{index}"].int64_param = index
    large = pb.ModelInferRequest(model_name="x" * (32 << 20))
    with nothing_is_left(guarded), _others_are_served(guarded):
        for request in (many, deep, parameters, large):
            code, _ = rpc.ask("ModelInfer", request)
            assert code in ("INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED"), code
        # Entries beyond the inputs are ignored, as in Triton.
        assert rpc.ask("ModelInfer", contents)[0] == "OK"
        contents.raw_input_contents.extend([b"x"] * 60_000)
        assert rpc.ask("ModelInfer", contents)[0] == "INTERNAL", "more than a request has fields"


def test_regions_that_claim_more_than_there_is(guarded: RunningServer, http: Http) -> None:
    with nothing_is_left(guarded), segment(b"") as made, _others_are_served(guarded):
        made.truncate(1 << 40)  # sparse: it costs its maker nothing
        assert http.register("d11_sparse", made.key, 0, 1 << 40)[0] == 200
        status, body = http.infer("d11_sparse", 0, 1 << 36, shape=[1])
        assert status == 400, body
        assert b"byte size mismatch" in body
        assert http.unregister("d11_sparse") == 200


def test_regions_leave_descriptors_for_all_else(guarded: RunningServer, http: Http) -> None:
    """As many regions as a worker can have: it still hears of others, serves new connections and loads models."""
    limit = 120
    with nothing_is_left(guarded), segment(bytes(4096)) as made, starved(worker(guarded), limit):
        count = 0
        while (registered := http.register(f"d11_{count}", made.key, 0, 4096))[0] == 200:
            count += 1
        status, body = registered
        assert status == 503, body
        text = "a process of the server has no descriptors to spare (ulimit -n is 120); unregister"
        assert text in json.loads(body)["error"]
        assert count > 10
        assert len(http.regions()) == count
        for _ in range(3):
            assert http.ask("POST", "/v2/repository/models/text/unload")[0] == 200
            assert http.ask("POST", "/v2/repository/models/text/load")[0] == 200
            assert http.infer(f"d11_{count - 1}", 0, 100) == (200, bytes(100))
            assert http.infer_inline(bytes(1 << 20))[0] == 200
        assert http.ask("POST", "/v2/systemsharedmemory/unregister")[0] == 200
        assert http.register("d11", made.key, 0, 4096)[0] == 200
        assert http.unregister("d11") == 200


@pytest.mark.timeout(600)
def test_many_connections(guarded: RunningServer) -> None:
    host, _, port = guarded.http.rpartition(":")
    with nothing_is_left(guarded), _others_are_served(guarded):
        held = [socket.create_connection((host, int(port)), timeout=60) for _ in range(300)]
        for connection in held:
            connection.sendall(b"POST /v2/models/identity/infer HTTP/1.1\r\n")
        for connection in held:
            connection.close()
