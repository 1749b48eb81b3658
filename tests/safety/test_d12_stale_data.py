"""D12: after stalls, timeouts and deaths of the worker nobody gets the answer, or a byte, of somebody else."""

import http.client
import itertools
import json
import os
import random
import signal
import threading
from collections import Counter
from contextlib import closing

import grpc
import pytest
import tritonclient.grpc.service_pb2 as pb

from tests.safety.client import Grpc, Http
from tests.safety.processes import pids, worker
from tests.safety.soak import turns
from tests.serving import RunningServer
from tests.waiting import wait_until

STALLS = turns(25, 10_000)
DEATHS = turns(1, 20)
_SIZE = 100_000  # through the arenas
_numbers = itertools.count(1)


def _canary() -> bytes:
    number = next(_numbers)
    return number.to_bytes(8, "little") * (_SIZE // 8)


def _http(address: str, stop: threading.Event, seen: Counter[str], wrong: list[str], chance: random.Random) -> None:
    """Give up on half of the requests that do not come back at once, then ask again, on the same address."""
    while not stop.is_set():
        connection = http.client.HTTPConnection(address, timeout=chance.choice((0.02, 0.1, 30)))
        try:
            while not stop.is_set():
                sent = _canary()
                tensor = {"name": "INPUT0", "datatype": "UINT8", "shape": [_SIZE]}
                header = json.dumps(
                    {
                        "inputs": [{**tensor, "parameters": {"binary_data_size": _SIZE}}],
                        "parameters": {"binary_data_output": True},
                    }
                ).encode()
                headers = {"Inference-Header-Content-Length": str(len(header))}
                connection.request("POST", "/v2/models/identity/infer", header + sent, headers)
                response = connection.getresponse()
                body = response.read()
                if response.status == 200:
                    seen["http"] += 1
                    if body[-_SIZE:] != sent:
                        wrong.append(f"HTTP: {sent[:8]!r} sent, {body[-_SIZE:][:8]!r} came")
                elif response.status == 503:
                    seen["refused"] += 1
                    stop.wait(0.01)
                else:
                    wrong.append(f"HTTP {response.status}: {body[:200]!r}")
        except (OSError, http.client.HTTPException):
            seen["given up"] += 1
        finally:
            connection.close()


def _grpc(address: str, stop: threading.Event, seen: Counter[str], wrong: list[str], chance: random.Random) -> None:
    client = Grpc(address)
    while not stop.is_set():
        sent = _canary()
        request = pb.ModelInferRequest(model_name="identity", raw_input_contents=[sent])
        request.inputs.add(name="INPUT0", datatype="UINT8", shape=[_SIZE])
        try:
            answer = client.stub.ModelInfer(request, timeout=chance.choice((0.02, 0.1, 30)))
        except grpc.RpcError as exc:
            if exc.code().name not in ("DEADLINE_EXCEEDED", "UNAVAILABLE", "CANCELLED"):
                wrong.append(f"gRPC: {exc}")
            seen["given up"] += 1
            continue
        seen["grpc"] += 1
        if answer.raw_output_contents[0] != sent:
            wrong.append(f"gRPC: {sent[:8]!r} sent, {answer.raw_output_contents[0][:8]!r} came")
    client.close()


@pytest.mark.timeout(7_200)
def test_stalls_and_deaths(guarded: RunningServer) -> None:
    stop = threading.Event()
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    chance = random.Random(12)
    threads = [
        threading.Thread(target=work, args=(address, stop, seen, wrong, random.Random(index)))
        for index, (work, address) in enumerate([(_http, guarded.http), (_grpc, guarded.grpc)] * 3)
    ]
    for thread in threads:
        thread.start()
    try:
        for turn in range(STALLS):
            pid = worker(guarded)
            os.kill(pid, signal.SIGSTOP)
            stop.wait(chance.choice((0.0, 0.005, 0.05)))
            dies = turn % max(1, STALLS // DEATHS) == STALLS // DEATHS - 1
            os.kill(pid, signal.SIGKILL if dies else signal.SIGCONT)
            if dies:
                wait_until(lambda pid=pid: pid not in _workers(guarded), "the worker is gone")  # type: ignore[misc]
                wait_until(lambda: len(_workers(guarded)) == 1, "another worker comes")
            before = seen.copy()
            wait_until(lambda b=before: seen["http"] > b["http"] and seen["grpc"] > b["grpc"], "all are served")  # type: ignore[misc]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == [], wrong[:5]
    assert seen["given up"] > 0, "no request was given up"
    with closing(Http(guarded.http)) as client, closing(Grpc(guarded.grpc)) as rpc:
        for model in ("identity", "gated", "text"):  # which others need; both frontends have heard of the death by now
            request = pb.ModelReadyRequest(name=model)
            path = f"/v2/models/{model}/ready"
            wait_until(lambda path=path: client.ask("GET", path)[0] == 200, f"{model} is back")  # type: ignore[misc]
            wait_until(lambda request=request: rpc.ask("ModelReady", request)[1].ready, f"{model} is back")  # type: ignore[misc]


def _workers(server: RunningServer) -> list[int]:
    return pids(server)["worker"]
