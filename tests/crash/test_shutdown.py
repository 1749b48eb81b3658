"""SIGTERM while requests are being worked on: they are answered, nothing new is taken, nothing is left."""

import http.client
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from tests.crash.load import loaded
from tests.crash.processes import by_kind, shared_memory_files
from tests.end_to_end.daemons import ask
from tests.serving import RunningServer, processes_of, serving
from tests.waiting import wait_until

_CONFIG = """
backend: "python"
input {{ name: "INPUT0" data_type: TYPE_INT32 dims: [ 1 ] }}
output {{ name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 1 ] }}
instance_group {{ count: 4 kind: KIND_CPU }}
parameters {{ key: "folder" value {{ string_value: "{folder}" }} }}
"""
_MODEL = '''
import json
import pathlib
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Says in a folder that a request has begun, and ends it when a file `open` is there."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.folder = pathlib.Path(config["parameters"]["folder"]["string_value"])

    def execute(self, requests):
        answers = []
        for request in requests:
            given = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            (self.folder / f"begun-{given[0]}").touch()
            deadline = time.monotonic() + 200
            while not (self.folder / "open").exists() and time.monotonic() < deadline:
                time.sleep(0.005)
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", given + 1)]))
        return answers
'''


@dataclass(frozen=True, slots=True)
class Gate:
    """A repository with one model whose requests wait until the test opens the gate."""

    repository: Path
    folder: Path

    def open(self) -> None:
        (self.folder / "open").touch()

    def begun(self, number: int) -> bool:
        return (self.folder / f"begun-{number}").exists()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    found = Gate(tmp_path / "models", tmp_path / "gate")
    found.folder.mkdir()
    (found.repository / "gate" / "1").mkdir(parents=True)
    (found.repository / "gate" / "config.pbtxt").write_text(_CONFIG.format(folder=found.folder), encoding="utf-8")
    (found.repository / "gate" / "1" / "model.py").write_text(_MODEL, encoding="utf-8")
    yield found
    found.open()


class Waiting(threading.Thread):
    """A request that is at the gate; `answer` is what came of it."""

    def __init__(self, server: RunningServer, number: int, *, grpc: bool) -> None:
        super().__init__(daemon=True)
        self.answer: object = None
        self._server = server
        self._number = number
        self._grpc = grpc
        self.start()

    def run(self) -> None:
        self.answer = self._ask_grpc() if self._grpc else self._ask_http()

    def _ask_http(self) -> object:
        tensor = {"name": "INPUT0", "datatype": "INT32", "shape": [1], "data": [self._number]}
        status, body = ask(_port(self._server), "POST", "/v2/models/gate/infer", {"inputs": [tensor]})
        return json.loads(body)["outputs"][0]["data"][0] if status == 200 else status

    def _ask_grpc(self) -> object:
        tensor = tritonclient.grpc.InferInput("INPUT0", [1], "INT32")
        tensor.set_data_from_numpy(np.array([self._number], np.int32))
        with tritonclient.grpc.InferenceServerClient(self._server.grpc) as client:
            try:
                return int(client.infer("gate", [tensor], client_timeout=60).as_numpy("OUTPUT0")[0])
            except InferenceServerException as exc:
                return exc.status()


def _port(server: RunningServer) -> int:
    return int(server.http.rpartition(":")[2])


def _two_waiting(server: RunningServer, gate: Gate) -> list[Waiting]:
    waiting = [Waiting(server, 10, grpc=False), Waiting(server, 20, grpc=True)]
    wait_until(lambda: gate.begun(10) and gate.begun(20), "both requests run")
    return waiting


def test_requests_that_run_are_answered(tmp_path: Path, gate: Gate) -> None:
    before = shared_memory_files()
    with serving(tmp_path, repository=gate.repository) as server, socket.socket() as kept:
        kept.connect(("127.0.0.1", _port(server)))
        waiting = _two_waiting(server, gate)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGTERM)
        wait_until(lambda: ask(_port(server), "GET", "/v2/health/ready")[0] != 200, "it is not ready any more")
        assert all(request.answer is None for request in waiting)
        gate.open()
        for request in waiting:
            request.join(60)
        assert [request.answer for request in waiting] == [11, 21]
    assert shared_memory_files() <= before


def test_ready_turns_503_on_an_open_connection(tmp_path: Path, gate: Gate) -> None:
    """Who asks on a connection that is there already gets an answer as long as the server lives."""
    with serving(tmp_path, repository=gate.repository) as server:
        kept = http.client.HTTPConnection(server.http, timeout=60)
        statuses = []

        def ready() -> int:
            kept.request("GET", "/v2/health/ready")
            response = kept.getresponse()
            response.read()
            statuses.append(response.status)
            return response.status

        try:
            assert ready() == 200
            waiting = _two_waiting(server, gate)
            assert server.pid is not None
            os.kill(server.pid, signal.SIGTERM)
            try:
                wait_until(lambda: ready() != 200, "it says that it is not ready any more")
            except (OSError, http.client.HTTPException):
                statuses.append(0)
            assert 503 in statuses
        finally:
            kept.close()
        gate.open()
        for request in waiting:
            request.join(60)


def test_the_exit_timeout_ends_what_does_not_end(tmp_path: Path, gate: Gate) -> None:
    with serving(tmp_path, ["--exit-timeout-secs=1"], repository=gate.repository) as server:
        waiting = _two_waiting(server, gate)
    for request in waiting:
        request.join(60)
    assert {request.answer for request in waiting} <= {0, 503, "StatusCode.UNAVAILABLE", "StatusCode.CANCELLED"}


def test_a_worker_that_dies_at_work(tmp_path: Path, gate: Gate) -> None:
    """Its requests fail at once, though the model would have taken for ever."""
    with serving(tmp_path, repository=gate.repository) as server:
        waiting = _two_waiting(server, gate)
        for pid in by_kind(server)["worker"]:
            os.kill(pid, signal.SIGKILL)
        for request in waiting:
            request.join(60)
        assert [request.answer for request in waiting] == [503, "StatusCode.UNAVAILABLE"]
        gate.open()
        wait_until(lambda: _served(server), "the next worker serves")


def _served(server: RunningServer) -> bool:
    request = Waiting(server, 1, grpc=True)
    request.join(60)
    return request.answer == 2


def test_under_load(tmp_path: Path) -> None:
    with serving(tmp_path) as server, loaded(server.http, server.grpc) as load:
        wait_until(load.progress(), "all clients are served", account=load)
        assert server.pid is not None
        assert server.run_dir is not None
        os.kill(server.pid, signal.SIGTERM)
        run_dir = server.run_dir
        wait_until(lambda: not processes_of(run_dir), "all processes have ended", account=load)


def test_the_supervisor_is_killed(tmp_path: Path) -> None:
    """Nobody outlives it, so that the next server finds ports and run directory free."""
    with pytest.raises(AssertionError, match="ended with -9"):
        _kill_supervisor(tmp_path)


def _kill_supervisor(work: Path) -> None:
    with serving(work) as server:
        assert server.pid is not None
        assert server.run_dir is not None
        os.kill(server.pid, signal.SIGKILL)
        run_dir = server.run_dir
        wait_until(lambda: set(processes_of(run_dir)) <= {server.pid}, "all other processes have ended")
