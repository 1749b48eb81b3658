"""Statistics over both protocols, summed over workers, through a worker's death and a reload."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from tests.serving import RunningServer, processes_of, serving
from tests.waiting import wait_until

MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, "INPUT0")
            if tensor.as_numpy()[0, 0] < 0:
                raise ValueError("negative")
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", tensor.as_numpy())]))
        return answers
"""

CONFIG = """
backend: "python" max_batch_size: 8
input [ { name: "INPUT0" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 1 ] } ]
instance_group [ { count: 2, kind: KIND_CPU } ]
version_policy { all {} }
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    work = tmp_path_factory.mktemp("statistics")
    repository = work / "models"
    for model, versions in (("one", (1,)), ("two", (1, 2))):
        for version in versions:
            (repository / model / str(version)).mkdir(parents=True)
            (repository / model / str(version) / "model.py").write_text(MODEL)
        (repository / model / "config.pbtxt").write_text(CONFIG)
    options = ("--workers=2", "--model-control-mode=explicit", "--load-model=*")
    with serving(work, options, repository=repository) as running:
        yield running


def infer(server: RunningServer, model: str, value: int = 1, batch: int = 1, version: str = "") -> None:
    tensor = tritonclient.http.InferInput("INPUT0", [batch, 1], "INT32")
    tensor.set_data_from_numpy(np.full((batch, 1), value, np.int32))
    with tritonclient.http.InferenceServerClient(server.http) as client:
        client.infer(model, [tensor], model_version=version)


def statistics(server: RunningServer, model: str = "", version: str = "") -> list[dict[str, Any]]:
    with tritonclient.http.InferenceServerClient(server.http) as client:
        found: list[dict[str, Any]] = client.get_inference_statistics(model, version)["model_stats"]
        return found


def counts(server: RunningServer, model: str) -> tuple[int, int, int, int]:
    (entry,) = statistics(server, model)
    stats = entry["inference_stats"]
    return entry["inference_count"], entry["execution_count"], stats["success"]["count"], stats["fail"]["count"]


def workers(server: RunningServer) -> set[int]:
    assert server.run_dir is not None
    return {pid for pid, command in processes_of(server.run_dir).items() if "tensorhub.workers" in command}


def test_requests_are_summed_over_the_workers_and_survive_the_death_of_one(server: RunningServer) -> None:
    before = counts(server, "one")
    for batch in (1, 2, 3, 1, 2, 3):
        infer(server, "one", batch=batch)
    with pytest.raises(tritonclient.http.InferenceServerException, match="negative"):
        infer(server, "one", value=-1)
    expected = tuple(old + new for old, new in zip(before, (12, 7, 6, 1), strict=True))
    wait_until(lambda: counts(server, "one") == expected, "everything is counted")
    (entry,) = statistics(server, "one")
    assert {item["batch_size"] for item in entry["batch_stats"]} >= {1, 2, 3}
    stats = entry["inference_stats"]
    parts = sum(stats[name]["ns"] for name in ("queue", "compute_input", "compute_infer", "compute_output"))
    assert 0 < parts <= stats["success"]["ns"]

    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        over_grpc = client.get_inference_statistics("one", as_json=True)["model_stats"]
    assert json.dumps(over_grpc).count('"count"')
    assert over_grpc[0]["inference_count"] == str(expected[0])

    old = workers(server)
    assert len(old) == 2
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(workers(server)) == 2 and not workers(server) & old, "both workers are new")

    def served() -> bool:
        try:
            infer(server, "one")
        except tritonclient.http.InferenceServerException:
            return False
        return True

    wait_until(served, "the new workers serve")
    wait_until(lambda: counts(server, "one")[0] == expected[0] + 1, "nothing that was counted is lost")


def test_a_reload_begins_at_zero(server: RunningServer) -> None:
    infer(server, "two", version="2")
    wait_until(lambda: [item["inference_count"] for item in statistics(server, "two")] == [0, 1], "it is counted")
    assert [item["version"] for item in statistics(server, "two", "2")] == ["2"]
    with tritonclient.http.InferenceServerClient(server.http) as client:
        client.load_model("two", config='{"backend":"python","max_batch_size":8}')
    assert [item["inference_count"] for item in statistics(server, "two")] == [0]
    with tritonclient.http.InferenceServerClient(server.http) as client:
        client.unload_model("two")
    wait_until(lambda: [item["name"] for item in statistics(server)] == ["one"], "an unloaded model has none")
    with pytest.raises(tritonclient.http.InferenceServerException, match="requested model 'two' is not available"):
        statistics(server, "two")


def test_unknown_versions_are_refused(server: RunningServer) -> None:
    text = "requested model version is not available for model 'one'"
    with pytest.raises(tritonclient.http.InferenceServerException, match=text):
        statistics(server, "one", "9")
    with (
        tritonclient.grpc.InferenceServerClient(server.grpc) as client,
        pytest.raises(tritonclient.grpc.InferenceServerException, match=text) as caught,
    ):
        client.get_inference_statistics("one", "9")
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
