"""The response cache in a real Redis server: who shares it, what it may say, and what happens without it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import np_to_triton_dtype

from tests.redis_server import RedisServer, redis_server
from tests.serving import RunningServer, free_ports, processes_of, serving
from tests.waiting import wait_until

from .cached_models import CACHED, COUNTING, GROUP, PYTHON, TENSORS, counted, write_models

redis = pytest.importorskip("redis")

ECHO = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.runs = 0

    def execute(self, requests):
        answers = []
        for request in requests:
            self.runs += 1
            inputs = request.inputs()
            outputs = [pb_utils.Tensor(item.name().replace("I_", "O_"), item.as_numpy()) for item in inputs]
            rows = inputs[0].as_numpy().shape[0]
            outputs.append(pb_utils.Tensor("RUNS", np.full((rows, 1), self.runs, np.int32)))
            answers.append(pb_utils.InferenceResponse(outputs, parameters={"runs": self.runs}))
        return answers
"""

CALLING = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            value = pb_utils.get_input_tensor_by_name(request, "I")
            answer = pb_utils.InferenceRequest(
                model_name="counting", requested_output_names=["A", "RUNS"], inputs=[value]
            ).exec()
            answers.append(pb_utils.InferenceResponse(answer.output_tensors()))
        return answers
"""


TYPES = ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64")
DATA: dict[str, np.ndarray[Any, Any]] = {
    **{
        name: np.array(
            [[0, 1, 1], [1, 0, 1]],
            {"BOOL": "bool", "FP16": "float16", "FP32": "float32", "FP64": "float64"}.get(name, name.lower()),
        )
        for name in TYPES
    },
    "STRING": np.array([[b"", b"\0\xff", b"text"], [b"a" * 3_000, b"b", b"c"]], object),
}

ENSEMBLE = """
platform: "ensemble"
ensemble_scheduling { step [
  { model_name: "counting" model_version: -1
    input_map { key: "I" value: "I" } output_map { key: "A" value: "M" } },
  { model_name: "counting" model_version: -1
    input_map { key: "I" value: "M" } output_map [ { key: "A" value: "A" }, { key: "RUNS" value: "RUNS" } ] }
] }
"""


def write_repository(root: Path) -> Path:
    tensors = "".join(
        f'{kind} {{ name: "{letter}_{name}" data_type: TYPE_{name} dims: [ 3 ] }}\n'
        for kind, letter in (("input", "I"), ("output", "O"))
        for name in DATA
    )
    output = 'output { name: "RUNS" data_type: TYPE_INT32 dims: [ 1 ] }\n'
    models = {
        "counting": (COUNTING, PYTHON + TENSORS + CACHED + GROUP.format(1)),
        "spread": (COUNTING, PYTHON + TENSORS + CACHED + GROUP.format(2)),
        "batched": (COUNTING, PYTHON + "max_batch_size: 8\ndynamic_batching { }\n" + TENSORS + CACHED),
        "types": (ECHO, PYTHON + "max_batch_size: 8\n" + tensors + output + CACHED + GROUP.format(1)),
        "calling": (CALLING, PYTHON + TENSORS),
        "graph": ("", ENSEMBLE + TENSORS + CACHED),
    }
    write_models(root, models)
    return root


def cache_options(server: RedisServer, *more: str) -> tuple[str, ...]:
    settings = ("host=127.0.0.1", f"port={server.port}", *more)
    return tuple(f"--cache-config=redis,{item}" for item in settings)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis"), "--requirepass", "secret") as running:
        yield running


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serve")
    write_repository(folder / "models")
    return folder


@contextmanager
def _serving(cache: RedisServer, work: Path, timeout_ms: int) -> Iterator[RunningServer]:
    timeouts = (f"{name}_timeout={timeout_ms}" for name in ("connect", "socket", "wait"))
    options = (*cache_options(cache, "password=secret", *timeouts), "--workers=2")
    control = ("--model-control-mode=explicit", "--load-model=*")
    with serving(work, (*options, *control), repository=work / "models") as running:
        yield running


@pytest.fixture(scope="module")
def server(cache: RedisServer, work: Path) -> Iterator[RunningServer]:
    """Yield a server that waits for Redis, however slow the machine is."""
    with _serving(cache, work, 60_000) as running:
        yield running


@pytest.fixture(scope="module")
def hasty(cache: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Yield a server that does not wait long for a Redis that hangs."""
    work = tmp_path_factory.mktemp("hasty")
    write_repository(work / "models")
    with _serving(cache, work, 500) as running:
        yield running


def infer(server: RunningServer, values: list[int], model: str = "counting", outputs: tuple[str, ...] = ()) -> Any:
    shape = [1, len(values)] if model == "batched" else [len(values)]
    tensor = tritonclient.http.InferInput("I", shape, "INT32")
    tensor.set_data_from_numpy(np.array(values, np.int32).reshape(shape))
    listed = [tritonclient.http.InferRequestedOutput(name) for name in outputs] or None
    with tritonclient.http.InferenceServerClient(server.http) as client:
        answer = client.infer(model, [tensor], outputs=listed)
        return {name: answer.as_numpy(name).ravel().tolist() for name in outputs or ("A", "RUNS")}


def keys(cache: RedisServer, model: str = "counting") -> list[bytes]:
    with redis.Redis(port=cache.port, password="secret") as client:
        found: list[bytes] = client.keys(f"tensorhub:1:{model}:*")
        return found


def kept(cache: RedisServer, server: RunningServer, values: list[int], model: str = "counting") -> dict[str, list[int]]:
    """Ask once, and wait until the answer is in Redis."""
    before = len(keys(cache, model))
    answer: dict[str, list[int]] = infer(server, values, model)
    wait_until(lambda: len(keys(cache, model)) > before, "the answer is kept")
    return answer


def count(server: RunningServer, what: str, model: str = "counting") -> int:
    return int(counted(server, model)["inference_stats"][what]["count"])


def test_a_hit_is_the_same_answer_without_a_run_and_counted(cache: RedisServer, server: RunningServer) -> None:
    before = counted(server, "counting")
    first = kept(cache, server, [1, 2, 3])
    assert [infer(server, [1, 2, 3]) for _ in range(5)] == [first] * 5
    hits = before["inference_stats"]["cache_hit"]["count"] + 5
    wait_until(lambda: count(server, "cache_hit") == hits, "five hits are counted")
    after = counted(server, "counting")
    assert after["execution_count"] == before["execution_count"] + 1
    assert after["inference_count"] == before["inference_count"] + 1
    stats, then = after["inference_stats"], before["inference_stats"]
    assert stats["success"]["count"] == then["success"]["count"] + 6
    assert stats["cache_miss"]["count"] == then["cache_miss"]["count"] + 1
    assert stats["cache_hit"]["ns"] > then["cache_hit"]["ns"]
    assert stats["cache_miss"]["ns"] > then["cache_miss"]["ns"]
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=60) as answer:
        page = answer.read().decode()
    assert 'nv_cache_num_hits_per_model{model="counting",version="1"}' in page
    assert "nv_cache_num_hits " in page
    assert "nv_cache_util" not in page, "how full Redis is, is for Redis to tell"


def test_every_datatype_comes_back_over_both_protocols_with_its_batch(
    cache: RedisServer, server: RunningServer
) -> None:
    def ask(module: Any, address: str) -> Any:
        inputs = []
        for name, data in DATA.items():
            inputs.append(module.InferInput(f"I_{name}", [2, 3], np_to_triton_dtype(data.dtype)))
            inputs[-1].set_data_from_numpy(data)
        with module.InferenceServerClient(address) as client:
            return client.infer("types", inputs)

    first = ask(tritonclient.http, server.http)
    assert first.as_numpy("RUNS").tolist() == [[1], [1]]
    wait_until(lambda: keys(cache, "types"), "the answer is kept")
    for module, address in ((tritonclient.http, server.http), (tritonclient.grpc, server.grpc)):
        answer = ask(module, address)
        assert answer.as_numpy("RUNS").tolist() == [[1], [1]]
        for name, data in DATA.items():
            np.testing.assert_array_equal(answer.as_numpy(f"O_{name}"), data)
    parameters = answer.get_response().parameters
    assert parameters["runs"].int64_param == 1
    assert len(keys(cache, "types")) == 1


def test_listed_outputs_have_entries_of_their_own(cache: RedisServer, server: RunningServer) -> None:
    everything = kept(cache, server, [11, 12])
    before = len(keys(cache))
    one = infer(server, [11, 12], outputs=("RUNS",))
    wait_until(lambda: len(keys(cache)) > before, "it is kept")
    assert one["RUNS"] != everything["RUNS"]
    assert infer(server, [11, 12], outputs=("RUNS",)) == one
    assert infer(server, [11, 12]) == everything
    assert infer(server, [11, 12], outputs=("RUNS", "A")) == everything


def test_all_workers_of_a_server_share_it(cache: RedisServer, server: RunningServer) -> None:
    first = kept(cache, server, [21], "spread")
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda _: infer(server, [21], "spread"), range(100))) == [first] * 100
    wait_until(lambda: count(server, "cache_hit", "spread") == 100, "all are hits")
    assert counted(server, "spread")["execution_count"] == 1


def test_servers_share_it_and_a_changed_model_has_its_own(
    cache: RedisServer, server: RunningServer, tmp_path: Path
) -> None:
    first = kept(cache, server, [31, 32])
    models = write_repository(tmp_path / "models")
    environ = {"TRITONCACHE_REDIS_PASSWORD": "secret"}
    control = ("--model-control-mode=explicit", "--load-model=counting")
    with serving(tmp_path, (*cache_options(cache), *control), repository=models, environ=environ) as other:
        before = len(keys(cache))
        assert infer(other, [31, 32]) == first
        assert count(other, "cache_miss") == 0
        assert len(keys(cache)) == before
        (models / "counting" / "1" / "model.py").write_text(COUNTING.replace("value + 1", "value + 5"))
        with tritonclient.http.InferenceServerClient(other.http) as client:
            client.load_model("counting")
        assert kept(cache, other, [31, 32])["A"] == [36, 37]
        assert infer(server, [31, 32]) == first
        (models / "counting" / "1" / "model.py").write_text(COUNTING)
        with tritonclient.http.InferenceServerClient(other.http) as client:
            client.load_model("counting")
        assert infer(other, [31, 32]) == first, "the same model as before is the same again"


def test_batches_are_made_of_what_is_not_found(cache: RedisServer, server: RunningServer) -> None:
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda number: infer(server, [number], "batched"), range(48)))
    assert [answer["A"] for answer in answers] == [[number + 1] for number in range(48)]
    wait_until(lambda: len(keys(cache, "batched")) == 48, "all are kept")
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(lambda number: infer(server, [number], "batched"), range(48))) == answers


def test_models_that_call_and_ensembles_use_it(cache: RedisServer, server: RunningServer) -> None:
    first = kept(cache, server, [41])
    assert [infer(server, [41], "calling") for _ in range(3)] == [first] * 3
    steps = len(keys(cache))
    graph = kept(cache, server, [41], "graph")
    wait_until(lambda: len(keys(cache)) == steps + 2, "the answers of its two steps are kept, too")
    assert graph["A"] == [43]
    before = count(server, "cache_hit", "graph")
    assert [infer(server, [41], "graph") for _ in range(3)] == [graph] * 3
    wait_until(lambda: count(server, "cache_hit", "graph") == before + 3, "hits of the ensemble")
    with redis.Redis(port=cache.port, password="secret") as client:
        assert client.ttl(keys(cache, "graph")[0]) > 0, "its key ends with its load"
        assert client.ttl(keys(cache)[0]) == -1


def test_rubbish_in_redis_is_a_miss(cache: RedisServer, server: RunningServer, work: Path) -> None:
    rubbish = [b"", b"x", b"TH1\n\xff\xff", b"TH1\n", bytes(100_000), None]
    for number, value in enumerate(rubbish):
        answer = kept(cache, server, [51, number])
        with redis.Redis(port=cache.port, password="secret") as client:
            whole = {key: client.get(key) for key in keys(cache)}
            for key in whole:
                client.delete(key)
                client.rpush(key, "a list") if value is None else client.set(key, value)
        again = infer(server, [51, number])
        assert again["A"] == answer["A"]
        assert again["RUNS"] != answer["RUNS"]
        with redis.Redis(port=cache.port, password="secret") as client:
            wait_until(
                lambda client=client, value=value: any(  # type: ignore[misc]
                    client.type(key) == b"string" and client.get(key) != value for key in keys(cache)
                ),
                "the answer has taken the place of the rubbish",
            )
            client.flushall()
    log = (work / "server.log").read_text()
    assert 1 <= log.count("an entry of the response cache is ignored") <= 2, "once for each worker"


def test_no_command_line_shows_the_password(server: RunningServer) -> None:
    assert server.run_dir is not None
    others = {pid: line for pid, line in processes_of(server.run_dir).items() if pid != server.pid}
    assert len(others) >= 4
    assert not [line for line in others.values() if "secret" in line]


def test_killed_under_load_no_request_fails_and_back_again_it_is_used(
    cache: RedisServer, server: RunningServer, work: Path
) -> None:
    stop, failed, answered = threading.Event(), [], [0]

    def load(number: int) -> None:
        while not stop.is_set():
            value = answered[0] % 50
            try:
                assert infer(server, [value], "spread")["A"] == [value + 1]
                answered[0] += 1
            except Exception as exc:
                failed.append(exc)
                return

    with ThreadPoolExecutor(4) as threads:
        for number in range(4):
            threads.submit(load, number)
        try:
            for _ in range(2):
                at = answered[0]
                wait_until(lambda at=at: failed or answered[0] > at + 100, "requests are answered")  # type: ignore[misc]
                cache.signal(signal.SIGKILL)
                at = answered[0]
                wait_until(lambda at=at: failed or answered[0] > at + 100, "also without Redis")  # type: ignore[misc]
                cache.start()
                hits = count(server, "cache_hit", "spread")
                wait_until(
                    lambda hits=hits: failed or count(server, "cache_hit", "spread") > hits + 20,  # type: ignore[misc]
                    "it is used again",
                )
        finally:
            stop.set()
    assert not failed
    log = (work / "server.log").read_text()
    assert "answers again" in log
    assert log.count("the response cache is not used until it answers again") < 20, "told once, and not per request"


def test_a_redis_that_hangs_fails_no_request(cache: RedisServer, hasty: RunningServer) -> None:
    first = infer(hasty, [71])
    cache.signal(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda number: infer(hasty, [71]), range(40)))
        assert {tuple(answer["A"]) for answer in answers} == {(72,)}
    finally:
        cache.signal(signal.SIGCONT)
    wait_until(lambda: infer(hasty, [71]) == infer(hasty, [71]), "it is used again")
    assert first["A"] == [72]


def open_requests(server: RunningServer) -> float:
    """Return how many requests the workers have not answered."""
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    values = [float(line.split()[-1]) for line in lines if line.startswith('tensorhub_open_requests{process="cpu')]
    assert len(values) == 2
    return sum(values)


def test_a_model_is_unloaded_when_the_request_is_answered_that_waits_for_redis(
    cache: RedisServer, hasty: RunningServer
) -> None:
    wait_until(lambda: infer(hasty, [81], "spread") == infer(hasty, [81], "spread"), "it is used")
    cache.signal(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as threads, tritonclient.http.InferenceServerClient(hasty.http) as client:
            going = threads.submit(infer, hasty, [81, 82], "spread")
            wait_until(lambda: open_requests(hasty) == 1 or going.done(), "it waits")
            client.unload_model("spread")
            assert going.result()["A"] == [82, 83]
            client.load_model("spread")
    finally:
        cache.signal(signal.SIGCONT)
    assert infer(hasty, [81], "spread")["A"] == [82]


def test_a_client_that_goes_meanwhile_leaves_nothing_behind(cache: RedisServer, hasty: RunningServer) -> None:
    wait_until(lambda: infer(hasty, [91]) == infer(hasty, [91]), "it is used")
    cache.signal(signal.SIGSTOP)
    try:
        tensor = tritonclient.grpc.InferInput("I", [1], "INT32")
        tensor.set_data_from_numpy(np.array([91], np.int32))
        with tritonclient.grpc.InferenceServerClient(hasty.grpc) as client:
            heard: list[Any] = []
            call = client.async_infer("counting", [tensor], callback=lambda result, error: heard.append(error))
            call.cancel()
            wait_until(lambda: heard, "the client hears of it")
    finally:
        cache.signal(signal.SIGCONT)
    wait_until(lambda: open_requests(hasty) == 0, "no request is left open")
    wait_until(lambda: infer(hasty, [92]) == infer(hasty, [92]), "it is used again")


def _serve(tmp_path: Path, *options: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tensorhub", "serve", f"--model-repository={tmp_path}", *options]
    ports = [f"--{name}-port={port}" for name, port in zip(("http", "grpc", "metrics"), free_ports(3), strict=True)]
    run_dir = f"--run-dir={tmp_path}/run"
    return subprocess.run(
        [*command, *ports, run_dir],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **(environ or {})},
    )


def test_a_redis_that_is_not_there_at_the_start_is_an_error(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    done = _serve(tmp_path, "--cache-config=redis,host=127.0.0.1", f"--cache-config=redis,port={port}")
    assert done.returncode == 1
    place = f"Redis at 127.0.0.1:{port}"
    assert f"error: creating server: Internal - Failed to initialize RedisCache: {place}: " in done.stderr
    assert "Connection refused" in done.stderr


def test_a_wrong_password_is_an_error_that_does_not_show_it(cache: RedisServer, tmp_path: Path) -> None:
    done = _serve(tmp_path, *cache_options(cache), environ={"TRITONCACHE_REDIS_PASSWORD": "guess-me"})
    assert done.returncode == 1
    assert "Failed to initialize RedisCache: " in done.stderr
    assert "invalid" in done.stderr
    assert "guess-me" not in done.stderr


def test_without_the_extra_the_error_says_how_to_install_it(cache: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "redis.py").write_text("raise ImportError('not installed')")
    done = _serve(tmp_path, *cache_options(cache), environ={"PYTHONPATH": str(tmp_path / "hidden")})
    assert done.returncode == 1
    assert "needs the extra redis: pip install 'tensorhub[redis]'" in done.stderr
