"""The response cache with real processes: what is counted, what is shared, and what a client cannot reach."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import shared_memory

from tests.serving import RunningServer, serving
from tests.waiting import wait_until

from .cached_models import CACHED, COUNTING, GROUP, PYTHON, TENSORS, counted, write_models

SCRATCH = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            value = pb_utils.get_input_tensor_by_name(request, "I").as_numpy()
            answer = pb_utils.InferenceRequest(
                model_name="cached", requested_output_names=["A"], inputs=[pb_utils.Tensor("I", value)]
            ).exec()
            got = pb_utils.get_output_tensor_by_name(answer, "A").as_numpy()
            if got.flags.writeable:
                got[:] = -1
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("A", value), pb_utils.Tensor("RUNS", value)]))
        return answers
"""

SIZE = 1_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    work = tmp_path_factory.mktemp("cache")
    config = PYTHON + TENSORS + GROUP.format(1)
    models = {"cached": (COUNTING, config + CACHED), "plain": (COUNTING, config), "scratch": (SCRATCH, config)}
    write_models(work / "models", models)
    options = (f"--response-cache-byte-size={SIZE}", "--model-control-mode=explicit", "--load-model=*")
    with serving(work, options, repository=work / "models") as running:
        yield running


def infer(server: RunningServer, values: list[int], model: str = "cached") -> dict[str, list[int]]:
    tensor = tritonclient.http.InferInput("I", [len(values)], "INT32")
    tensor.set_data_from_numpy(np.array(values, np.int32))
    with tritonclient.http.InferenceServerClient(server.http) as client:
        answer = client.infer(model, [tensor])
        return {name: answer.as_numpy(name).tolist() for name in ("A", "RUNS")}


def hits(server: RunningServer) -> int:
    return int(counted(server, "cached")["inference_stats"]["cache_hit"]["count"])


def metric(server: RunningServer, name: str) -> float:
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=60) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line.startswith(name + " ")]
    return float(lines[0].split()[-1])


def test_a_hit_is_the_same_answer_without_a_run(server: RunningServer) -> None:
    before, first = counted(server, "cached"), infer(server, [1, 2, 3])
    assert [infer(server, [1, 2, 3]) for _ in range(5)] == [first] * 5
    wait_until(lambda: hits(server) == before["inference_stats"]["cache_hit"]["count"] + 5, "five hits are counted")
    after = counted(server, "cached")
    assert after["execution_count"] == before["execution_count"] + 1
    assert after["inference_count"] == before["inference_count"] + 1
    stats, then = after["inference_stats"], before["inference_stats"]
    assert stats["success"]["count"] == then["success"]["count"] + 6
    assert stats["cache_miss"]["count"] == then["cache_miss"]["count"] + 1
    assert stats["cache_hit"]["ns"] > then["cache_hit"]["ns"]
    assert stats["cache_miss"]["ns"] > then["cache_miss"]["ns"]


def test_a_model_without_it_runs_each_time(server: RunningServer) -> None:
    assert infer(server, [1, 2], "plain")["RUNS"] != infer(server, [1, 2], "plain")["RUNS"]
    assert counted(server, "plain")["inference_stats"]["cache_miss"]["count"] == 0


def test_large_answers_come_from_it_too_by_both_protocols(server: RunningServer) -> None:
    values = list(range(30_000))
    first = infer(server, values)
    tensor = tritonclient.grpc.InferInput("I", [len(values)], "INT32")
    tensor.set_data_from_numpy(np.array(values, np.int32))
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        for _ in range(3):
            answer = client.infer("cached", [tensor])
            assert {name: answer.as_numpy(name).tolist() for name in ("A", "RUNS")} == first


def test_the_metrics_say_what_is_in_it_and_what_had_to_go(server: RunningServer) -> None:
    for number in range(12):
        infer(server, [number] * 30_000)
    wait_until(lambda: metric(server, "nv_cache_num_evictions") >= 8, "evictions are counted")
    assert 0.4 < metric(server, "nv_cache_util") <= 1
    assert 1 <= metric(server, "nv_cache_num_entries") <= 5
    assert metric(server, "nv_cache_num_lookups") >= 12


def test_a_client_that_writes_to_its_region_changes_no_answer(server: RunningServer) -> None:
    values = np.array([41, 42], np.int32)
    tensor = tritonclient.http.InferInput("I", [2], "INT32")
    tensor.set_data_from_numpy(values)
    outputs = [tritonclient.http.InferRequestedOutput(name) for name in ("A", "RUNS")]
    handle = shared_memory.create_shared_memory_region("cache-out", "/tensorhub-test-cache-out", 16)
    try:
        with tritonclient.http.InferenceServerClient(server.http) as client:
            client.register_system_shared_memory("cache-out", "/tensorhub-test-cache-out", 16)
            for index, output in enumerate(outputs):
                output.set_shared_memory("cache-out", 8, 8 * index)
            client.infer("cached", [tensor], outputs=outputs)
            written = shared_memory.get_contents_as_numpy(handle, np.int32, [4]).copy()
            shared_memory.set_shared_memory_region(handle, [np.full(4, -9, np.int32)])
            assert infer(server, [41, 42]) == {"A": [42, 43], "RUNS": written[2:].tolist()}
            client.infer("cached", [tensor], outputs=outputs)
            assert shared_memory.get_contents_as_numpy(handle, np.int32, [4]).tolist() == written.tolist()
            client.unregister_system_shared_memory("cache-out")
    finally:
        shared_memory.destroy_shared_memory_region(handle)


def test_a_model_that_calls_it_cannot_change_what_is_in_it(server: RunningServer) -> None:
    before = infer(server, [51, 52])
    for _ in range(3):
        infer(server, [51, 52], "scratch")
    assert infer(server, [51, 52]) == before


def test_a_reload_forgets(server: RunningServer) -> None:
    infer(server, [61])
    with tritonclient.http.InferenceServerClient(server.http) as client:
        client.unload_model("cached")
        client.load_model("cached")
    assert infer(server, [62])["RUNS"] == [1]
    assert infer(server, [61])["RUNS"] == [2]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--cache-config=local,size=none",), "must be a number of bytes above 0. Got 'none'"),
        (("--cache-config=local,size=0",), "must be a number of bytes above 0. Got '0'"),
        (("--cache-config=local,room=1",), "has no setting 'room'"),
        (("--cache-config=redis,host=here",), "didn't specify address. Must at a minimum specify 'host' and 'port'"),
        (
            ("--cache-config=local,size=1", "--cache-config=redis,host=here"),
            "found multiple cache configurations, but only a single cache is currently supported",
        ),
    ],
)
def test_what_there_is_not_is_refused(options: tuple[str, ...], text: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tensorhub", "serve", f"--model-repository={tmp_path}", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert text in done.stderr
