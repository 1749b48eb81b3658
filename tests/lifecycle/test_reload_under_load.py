"""Reloads while clients infer: no request fails, every answer is one of a version that was there, memory stays flat.

TENSORHUB_RELOADS (default 5) and TENSORHUB_RELOAD_CLIENTS (default 8) say how many.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import tritonclient.grpc
import tritonclient.http

from tests.serving import RunningServer, processes_of, serving
from tests.waiting import comes_true

RELOADS = int(os.environ.get("TENSORHUB_RELOADS", "5"))
CLIENTS = int(os.environ.get("TENSORHUB_RELOAD_CLIENTS", "8"))
_WARM = 2
"""Reloads before memory is looked at."""
_GROWTH_LIMIT = 24 * 2**20
"""Bytes that a process may grow by over all reloads: a leaked model is its ballast times the reloads."""
_BALLAST = 8 * 2**20
"""Bytes that each instance maps and touches. They are not of the heap, which may keep what is freed: the kernel has
them back when the model goes."""

_CONFIG = """backend: "python"
max_batch_size: 0
input [ { name: "INPUT0" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 1 ] } ]
instance_group [ { count: 2 kind: KIND_CPU } ]
"""


def _model(add: int) -> str:
    return f"""import mmap

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.ballast = mmap.mmap(-1, {_BALLAST})
        for offset in range(0, {_BALLAST}, mmap.PAGESIZE):
            self.ballast[offset] = 1

    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("OUTPUT0", pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy() + {add})]
            )
            for request in requests
        ]
"""


class Clients:
    """Threads that infer as fast as they can, over both protocols, and note what goes wrong."""

    def __init__(self, server: RunningServer, model: str, count: int) -> None:
        self.answers = 0
        self.failures: list[str] = []
        self.newest = 0
        self._server = server
        self._model = model
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(self._grpc if index % 2 else self._http,))
            for index in range(count)
        ]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self, make: Callable[[], Callable[[], int]]) -> None:
        infer = make()
        while not self._stopping.is_set():
            floor = self.newest
            try:
                value = infer()
            except Exception as exc:
                self.failures.append(f"{type(exc).__name__}: {exc}")
                continue
            self.answers += 1
            if value < floor:
                self.failures.append(f"version {value} answered after version {floor} had taken over")

    def _http(self) -> Callable[[], int]:
        client = tritonclient.http.InferenceServerClient(self._server.http)
        tensor = tritonclient.http.InferInput("INPUT0", [1], "INT32")
        tensor.set_data_from_numpy(np.zeros(1, np.int32))
        return lambda: int(client.infer(self._model, [tensor]).as_numpy("OUTPUT0")[0])

    def _grpc(self) -> Callable[[], int]:
        client = tritonclient.grpc.InferenceServerClient(self._server.grpc)
        tensor = tritonclient.grpc.InferInput("INPUT0", [1], "INT32")
        tensor.set_data_from_numpy(np.zeros(1, np.int32))
        return lambda: int(client.infer(self._model, [tensor]).as_numpy("OUTPUT0")[0])


def _memory(server: RunningServer) -> dict[int, int]:
    assert server.run_dir is not None
    found = {}
    for pid in processes_of(server.run_dir):
        found[pid] = psutil.Process(pid).memory_info().rss
    return found


@pytest.mark.timeout(600)
def test_clients_do_not_notice_reloads(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    folder = repository / "counted"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(_CONFIG)
    (folder / "1" / "model.py").write_text(_model(0))
    options = ["--model-control-mode=explicit", "--load-model=counted"]
    with serving(tmp_path, options, repository) as server:
        control = tritonclient.http.InferenceServerClient(server.http, network_timeout=120, connection_timeout=120)
        before: dict[int, int] = {}
        with Clients(server, "counted", CLIENTS) as clients:
            for number in range(1, 1 + _WARM + RELOADS):
                (folder / "1" / "model.py").write_text(_model(number))
                control.load_model("counted")
                clients.newest = number
                if number == _WARM:
                    before = _memory(server)
        assert clients.failures == []
        assert clients.answers > 0
        assert _memory(server).keys() == before.keys()

        def grown() -> dict[int, int]:
            return {pid: now - before[pid] for pid, now in _memory(server).items()}

        # the model that was replaced last may still be on its way out
        assert comes_true(lambda: max(grown().values()) < _GROWTH_LIMIT, 20.0), grown()
