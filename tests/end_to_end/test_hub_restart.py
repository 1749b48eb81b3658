"""kill -9 of the hub: what clients have changed while the server ran, and what was counted, outlives it."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from tests.crash.processes import by_kind
from tests.end_to_end.daemons import ask
from tests.end_to_end.trace_files import trace_objects
from tests.serving import RunningServer, serving
from tests.waiting import wait_until

CONFIG = """
backend: "identity" max_batch_size: 0
input [ { name: "INPUT0" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 1 ] } ]
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    for name in ("one", "two"):
        (tmp_path / "models" / name / "1").mkdir(parents=True)
        (tmp_path / "models" / name / "config.pbtxt").write_text(CONFIG)
    options = (f"--log-file={tmp_path / 'log'}", f"--trace-config=triton,file={tmp_path / 'trace.json'}")
    with serving(tmp_path, options, repository=tmp_path / "models") as running:
        yield running


ENSEMBLE = """
platform: "ensemble" max_batch_size: 0
input [ { name: "INPUT0" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 1 ] } ]
ensemble_scheduling { step [
  { model_name: "one" model_version: -1
    input_map { key: "INPUT0" value: "INPUT0" } output_map { key: "OUTPUT0" value: "between" } },
  { model_name: "own" model_version: -1
    input_map { key: "INPUT0" value: "between" } output_map { key: "OUTPUT0" value: "OUTPUT0" } } ] }
"""


@pytest.fixture
def explicit(tmp_path: Path) -> Iterator[RunningServer]:
    """A server with models of two workers, of one with a worker of its own, and an ensemble."""
    isolated = f'{CONFIG} parameters {{ key: "ISOLATE" value {{ string_value: "yes" }} }}'
    for name, config in {"one": CONFIG, "two": CONFIG, "own": isolated, "both": ENSEMBLE}.items():
        (tmp_path / "models" / name / "1").mkdir(parents=True)
        (tmp_path / "models" / name / "config.pbtxt").write_text(config)
    options = ("--workers=2", "--model-control-mode=explicit", "--load-model=both")
    with serving(tmp_path, options, repository=tmp_path / "models") as running:
        yield running


def infer(server: RunningServer, model: str = "one", count: int = 1) -> None:
    tensor = tritonclient.http.InferInput("INPUT0", [1], "INT32").set_data_from_numpy(np.zeros(1, np.int32))
    with tritonclient.http.InferenceServerClient(server.http) as client:
        for _ in range(count):
            client.infer(model, [tensor])


def kill(server: RunningServer, kind: str, number: signal.Signals = signal.SIGKILL) -> None:
    [pid] = by_kind(server)[kind]
    os.kill(pid, number)
    wait_until(lambda: by_kind(server)[kind] not in ([], [pid]), f"another {kind} process")
    port = int(server.http.rpartition(":")[2])
    wait_until(lambda: ask(port, "POST", "/v2/repository/index")[0] == 200, "the hub has everybody's HELLO")
    wait_until(lambda: ask(port, "GET", "/v2/models/stats")[0] == 200, "the hub answers")
    wait_until(lambda: _answers_over_grpc(server), "the hub answers over gRPC, too")


def served(server: RunningServer, model: str = "one") -> bool:
    """Whether one inference goes well; what is said of readiness may be from before a death."""
    try:
        infer(server, model)
    except tritonclient.http.InferenceServerException:
        return False
    return True


def _answers_over_grpc(server: RunningServer) -> bool:
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        try:
            client.get_log_settings()
        except tritonclient.grpc.InferenceServerException:
            return False
        return True


def counted(server: RunningServer) -> dict[str, int]:
    with tritonclient.http.InferenceServerClient(server.http) as client:
        return {entry["name"]: entry["inference_count"] for entry in client.get_inference_statistics()["model_stats"]}


def metrics(server: RunningServer) -> str:
    return str(urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=60).read().decode())


def revision(server: RunningServer) -> int:
    match = re.search(r"^tensorhub_snapshot_revision (\d+)", metrics(server), re.MULTILINE)
    assert match is not None
    return int(match[1])


def traced(tmp_path: Path) -> set[int]:
    return {item["id"] for item in trace_objects(tmp_path / "trace.json") if "model_name" in item}


def test_changed_settings_outlive_the_hub(server: RunningServer, tmp_path: Path) -> None:
    with (
        tritonclient.http.InferenceServerClient(server.http) as http,
        tritonclient.grpc.InferenceServerClient(server.grpc) as grpc,
    ):
        log = http.update_log_settings({"log_verbose_level": 1, "log_format": "ISO8601"})
        every = http.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"], "trace_rate": "1"})
        own = grpc.update_trace_settings("two", {"trace_rate": "500"}, as_json=True)
        infer(server, count=2)
        wait_until(lambda: traced(tmp_path) == {1, 2}, "two traces are written")
        for trace in (3, 4):  # the second one takes over what the first one has taken over
            kill(server, "hub")
            assert http.get_log_settings() == log
            assert http.get_trace_settings() == every
            assert grpc.get_trace_settings("two", as_json=True) == own
            infer(server)
            wait_until(lambda last=trace: last in traced(tmp_path), "the file goes on")  # type: ignore[misc]
        assert traced(tmp_path) == {1, 2, 3, 4}
        http.update_log_settings({"log_verbose_level": 0, "log_format": "default"})
        cleared = http.update_trace_settings(settings={"trace_level": None, "trace_rate": None})
        kill(server, "hub")
        assert http.get_trace_settings() == cleared
        assert http.get_log_settings()["log_verbose_level"] == 0
        assert http.get_log_settings()["log_format"] == "default"
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_no_more_traces_than_were_asked_for(server: RunningServer, tmp_path: Path) -> None:
    with tritonclient.http.InferenceServerClient(server.http) as http:
        http.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"], "trace_rate": "1", "trace_count": "3"})
        for number in (1, 2):
            before = revision(server)
            infer(server)
            wait_until(lambda number=number: number in traced(tmp_path), "it is written")  # type: ignore[misc]
            wait_until(lambda before=before: revision(server) > before, "everybody knows how many are left")  # type: ignore[misc]
        kill(server, "hub")
        infer(server, count=5)
        wait_until(lambda: http.get_trace_settings()["trace_count"] == "0", "the third is taken")
    wait_until(lambda: traced(tmp_path) == {1, 2, 3}, "and written")


def test_counts_of_dead_workers_outlive_the_hub(server: RunningServer) -> None:
    infer(server, "one", 3)
    infer(server, "two", 2)
    wait_until(lambda: counted(server) == {"one": 3, "two": 2}, "all is counted")
    kill(server, "worker")
    wait_until(lambda: served(server), "the next worker serves")
    infer(server, "one", 3)
    wait_until(lambda: counted(server) == {"one": 7, "two": 2}, "the dead one's are added")
    kill(server, "hub")
    # A worker that is late, as on a machine that stands still, counts when it has told.
    wait_until(lambda: counted(server) == {"one": 7, "two": 2}, "all is counted still", account=lambda: counted(server))
    wait_until(
        lambda: 'nv_inference_count{model="one",version="1"} 7' in metrics(server),
        "and on the page of metrics",
        account=lambda: metrics(server),
    )
    assert 'tensorhub_process_restarts{role="worker"} 1' in metrics(server)


def test_a_worker_may_die_right_after_the_hub(server: RunningServer) -> None:
    """What it told the hub before is not told again unless somebody asks; so it comes with HELLO."""
    infer(server, count=3)
    wait_until(lambda: counted(server)["one"] == 3, "all is counted")
    [hub], [worker] = by_kind(server)["hub"], by_kind(server)["worker"]
    os.kill(hub, signal.SIGKILL)
    wait_until(lambda: by_kind(server)["hub"] not in ([], [hub]), "another hub")
    port = int(server.http.rpartition(":")[2])
    wait_until(lambda: ask(port, "POST", "/v2/repository/index")[0] == 200, "it has everybody's HELLO")
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: by_kind(server)["worker"] not in ([], [worker]), "another worker")
    wait_until(lambda: served(server), "it serves")
    wait_until(lambda: counted(server)["one"] == 4, "nothing is lost")


GATED = """
import os
import time

import triton_python_backend_utils as pb_utils


def wait_for(name):
    while not os.path.exists(os.path.join(os.path.dirname(__file__), name)):
        time.sleep(0.01)


class TritonPythonModel:
    def initialize(self, args):
        wait_for("may_load")

    def execute(self, requests):
        open(os.path.join(os.path.dirname(__file__), "runs"), "w").close()
        wait_for("may_run")
        inputs = [pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", value)]) for value in inputs]
"""
"""A model that loads, and runs, when there is a file that says so."""


def test_what_was_unloaded_stays_so_though_the_worker_is_not_done_with_it(tmp_path: Path) -> None:
    """The hub dies while an unloaded model still answers a request, and while a load that was given up goes on."""
    folder = tmp_path / "models" / "gated" / "1"
    folder.mkdir(parents=True)
    (folder.parent / "config.pbtxt").write_text(CONFIG.replace("identity", "python"))
    (folder / "model.py").write_text(GATED)
    (folder / "may_load").touch()
    options = ["--model-control-mode=explicit", "--load-model=gated", f"--log-file={tmp_path / 'log'}"]
    with (
        serving(tmp_path, options, repository=tmp_path / "models") as server,
        ThreadPoolExecutor(1) as threads,
        tritonclient.http.InferenceServerClient(server.http, network_timeout=60) as client,
    ):

        def state() -> str:
            [entry] = client.get_model_repository_index()
            return str(entry["state"])

        running = threads.submit(infer, server, "gated")
        wait_until((folder / "runs").exists, "the model runs")
        client.unload_model("gated")
        kill(server, "hub")
        assert state() == "UNLOADING"
        (folder / "may_run").touch()
        running.result(60)
        wait_until(lambda: state() == "UNAVAILABLE", "it is gone")

        (folder / "may_load").unlink()
        loading = threads.submit(client_loads, server, "gated")
        wait_until(lambda: state() == "LOADING", "it is being loaded")
        client.unload_model("gated")
        assert not loading.result(60)
        kill(server, "hub")
        assert state() == "UNLOADING"
        (folder / "may_load").touch()
        wait_until(lambda: state() == "UNAVAILABLE", "it is gone")
        assert client_loads(server, "gated")
        infer(server, "gated")


def client_loads(server: RunningServer, model: str) -> bool:
    with tritonclient.http.InferenceServerClient(server.http, network_timeout=60) as client:
        try:
            client.load_model(model)
        except tritonclient.http.InferenceServerException:
            return False
        return True


def test_what_changes_in_the_repository_while_there_is_no_hub_is_followed(tmp_path: Path) -> None:
    """The next hub goes on from what the one before has seen last, and not from what it finds."""
    models, aside = tmp_path / "models", tmp_path / "aside"
    for name in ("changed", "removed", "same"):
        (models / name / "1").mkdir(parents=True)
        (models / name / "config.pbtxt").write_text(CONFIG)
    aside.mkdir()
    (aside / "config.pbtxt").write_text(CONFIG + 'parameters { key: "new" value { string_value: "yes" } }')
    options = ["--model-control-mode=poll", "--repository-poll-secs=1", f"--log-file={tmp_path / 'log'}"]
    with (
        serving(tmp_path, options, repository=models) as server,
        tritonclient.http.InferenceServerClient(server.http, network_timeout=60) as client,
    ):
        for name in ("changed", "same"):
            infer(server, name)
        [hub] = by_kind(server)["hub"]
        os.kill(hub, signal.SIGKILL)
        (aside / "config.pbtxt").rename(models / "changed" / "config.pbtxt")
        (models / "removed").rename(aside / "removed")
        wait_until(lambda: "new" in client.get_model_config("changed")["parameters"], "the change is followed")
        wait_until(lambda: not client.is_model_ready("removed"), "the removal is followed")
        wait_until(lambda: counted(server) == {"changed": 0, "same": 1}, "what is the same is not loaded anew")


def test_a_model_whose_files_came_with_a_request_outlives_the_hub(tmp_path: Path) -> None:
    """It stays in the index, its worker finds its files, and they go with it."""
    models, temporary = tmp_path / "models", tmp_path / "tmp"
    models.mkdir()
    temporary.mkdir()
    config = """{"backend": "python", "max_batch_size": 0,
        "input": [{"name": "INPUT0", "data_type": "TYPE_INT32", "dims": [1]}],
        "output": [{"name": "OUTPUT0", "data_type": "TYPE_INT32", "dims": [1]}]}"""
    options = ["--model-control-mode=explicit", f"--log-file={tmp_path / 'log'}"]
    with (
        serving(tmp_path, options, repository=models, environ={"TMPDIR": str(temporary)}) as server,
        tritonclient.http.InferenceServerClient(server.http, network_timeout=60) as client,
    ):

        def loads() -> None:
            client.load_model("sent", config=config, files={"file:1/model.py": SENT})

        def folders() -> list[Path]:
            return list(temporary.glob("*/sent"))

        def sent_is(state: str) -> bool:
            return [(entry["name"], entry["state"]) for entry in client.get_model_repository_index()] == [
                ("sent", state)
            ]

        loads()
        [folder] = folders()
        for number in (signal.SIGKILL, signal.SIGTERM):
            kill(server, "hub", number)
            assert sent_is("READY")
            kill(server, "worker")
            wait_until(lambda: served(server, "sent"), "the next worker loads it")
            assert folders() == [folder]
        client.unload_model("sent")
        wait_until(lambda: not folders(), "its files go with it")
        loads()
        assert len(folders()) == 1
    assert not folders()


SENT = b"""
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", value)]) for value in inputs]
"""


def test_no_model_is_loaded_again(explicit: RunningServer) -> None:
    """Not one with a worker of its own either, nor an ensemble: what they have counted is still there."""
    infer(explicit, "both", 3)
    wait_until(lambda: counted(explicit) == {"one": 3, "own": 3, "both": 3}, "all is counted")
    workers = by_kind(explicit)["worker"]
    for _ in range(2):
        [hub] = by_kind(explicit)["hub"]
        os.kill(hub, signal.SIGKILL)
        wait_until(lambda dead=hub: by_kind(explicit)["hub"] not in ([], [dead]), "another hub")  # type: ignore[misc]
        wait_until(lambda: set(states(explicit).values()) == {"READY", ""}, "it has begun")
        wait_until(lambda: counted(explicit) == {"one": 3, "own": 3, "both": 3}, "they have counted on")
    assert by_kind(explicit)["worker"] == workers


def test_what_was_served_comes_back_when_hub_and_workers_die_together(explicit: RunningServer) -> None:
    """Also what clients have loaded and unloaded, and how."""
    with tritonclient.http.InferenceServerClient(explicit.http) as client:
        changed = client.get_model_config("own") | {"name": "two", "parameters": {"mine": {"string_value": "stays"}}}
        client.load_model("two", config=json.dumps(changed))
        client.unload_model("both")
        before = {"one": "READY", "own": "READY", "two": "READY", "both": "UNAVAILABLE"}
        wait_until(lambda: states(explicit) == before, "it is unloaded")
        dead = [*by_kind(explicit)["hub"], *by_kind(explicit)["worker"]]
        for pid in dead:
            os.kill(pid, signal.SIGKILL)
        wait_until(
            lambda: not set(dead) & {pid for pids in by_kind(explicit).values() for pid in pids}, "they are dead"
        )
        wait_until(lambda: states(explicit) == before, "it is as it was", account=lambda: states(explicit))
        assert client.get_model_config("two")["parameters"]["mine"] == {"string_value": "stays"}
        for model in ("one", "own", "two"):
            infer(explicit, model)


def states(server: RunningServer) -> dict[str, str]:
    """What the repository index says of each model: its state, or ""; nothing while no hub answers."""
    status, body = ask(int(server.http.rpartition(":")[2]), "POST", "/v2/repository/index")
    return {} if status != 200 else {model["name"]: model.get("state", "") for model in json.loads(body)}
