"""The rate limiter with real processes: whose turn it is when several models want one resource all the time."""

from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient

from tests.serving import RunningServer, serving
from tests.waiting import wait_until

_CONFIG = """
backend: "python" max_batch_size: {rows} dynamic_batching {{ }}
input [ {{ name: "X" data_type: TYPE_INT32 dims: [ 1 ] }} ]
output [ {{ name: "Y" data_type: TYPE_INT32 dims: [ 1 ] }} ]
instance_group [ {{ kind: KIND_CPU rate_limiter {{ resources [ {{ name: "R" count: 1 }} ] priority: {priority} }} }} ]
"""
_MODEL = """
import threading
from pathlib import Path
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.name = args["model_name"]
        self.repository = Path(args["model_repository"]).parent

    def execute(self, requests):
        with open(self.repository / "runs", "a") as runs:
            print(self.name, file=runs)
        while not (self.repository / "go").exists():
            threading.Event().wait(0.01)
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("Y", pb_utils.get_input_tensor_by_name(one, "X").as_numpy())])
            for one in requests
        ]
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name, priority in (("often", 1), ("seldom", 2), ("batches", 1)):
        folder = tmp_path / "models" / name / "1"
        folder.mkdir(parents=True)
        (folder.parent / "config.pbtxt").write_text(
            _CONFIG.format(rows=8 if name == "batches" else 1, priority=priority)
        )
        (folder / "model.py").write_text(_MODEL)
    return tmp_path / "models"


@pytest.fixture
def server(repository: Path, tmp_path: Path) -> Iterator[RunningServer]:
    options = ["--rate-limit=execution_count", "--workers=2", "--allow-metrics=false"]
    with serving(tmp_path, options, repository) as running:
        yield running


def _tensor(rows: int) -> grpcclient.InferInput:
    return grpcclient.InferInput("X", [rows, 1], "INT32").set_data_from_numpy(np.zeros((rows, 1), np.int32))


def _all_are_there(client: grpcclient.InferenceServerClient, model: str) -> None:
    """Wait until what was sent before is in the worker: a request that it refuses comes behind, and is answered."""
    answers: SimpleQueue[Any] = SimpleQueue()
    client.async_infer(model, [_tensor(9)], lambda result, error: answers.put(error))
    assert "batch-size must be <= " in str(answers.get(timeout=60))


def test_priorities_hold_while_all_have_much_to_do(server: RunningServer, repository: Path) -> None:
    answers: SimpleQueue[Any] = SimpleQueue()
    with grpcclient.InferenceServerClient(server.grpc) as client:

        def ask(name: str, count: int) -> None:
            for _ in range(count):
                client.async_infer(name, [_tensor(1)], lambda result, error: answers.put(error))
            _all_are_there(client, name)

        ask("often", 1)
        wait_until((repository / "runs").exists, "the first has the resource")
        ask("seldom", 12)
        ask("often", 23)
        (repository / "go").touch()
        assert [answers.get(timeout=60) for _ in range(36)] == [None] * 36
    runs = (repository / "runs").read_text().split()
    middle = runs[6:30]  # at both ends one of them may have nothing to do
    assert 14 <= middle.count("often") <= 18, runs


def test_a_batch_grows_while_it_waits_for_its_turn(server: RunningServer, repository: Path) -> None:
    answers: SimpleQueue[Any] = SimpleQueue()
    with grpcclient.InferenceServerClient(server.grpc) as client:

        def ask(name: str) -> None:
            client.async_infer(name, [_tensor(1)], lambda result, error: answers.put(error))

        ask("often")
        wait_until((repository / "runs").exists, "the first has the resource")
        for _ in range(5):
            ask("batches")
        _all_are_there(client, "batches")
        (repository / "go").touch()
        assert [answers.get(timeout=60) for _ in range(6)] == [None] * 6
    assert (repository / "runs").read_text().split() == ["often", "batches"]
