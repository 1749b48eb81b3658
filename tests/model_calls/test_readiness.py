"""Models that say themselves whether they are ready: who is asked, by which way, and what an answer is."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from tests.serving import RunningServer, serving
from tests.waiting import wait_until

MODEL = """
import asyncio, os, threading, time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.folder = args["model_repository"]
        self.instance = args["model_instance_name"]
        self.answering = threading.Lock()

    @IS_READY@

    def say(self):
        with open(os.path.join(self.folder, "asked"), "a") as asked:
            asked.write(self.instance + "\\n")
        with open(os.path.join(self.folder, "says")) as says:
            return says.read()

    def execute(self, requests):
        name = pb_utils.get_input_tensor_by_name(requests[0], "NAME").as_numpy()[0].decode()
        answer = np.array([pb_utils.is_model_ready(name)])
        return [pb_utils.InferenceResponse([pb_utils.Tensor("READY", answer)])]
"""

PLAIN = """
    def is_ready(self):
        said = self.say()
        if said == "slow":
            time.sleep(6)
        if said == "raise":
            raise RuntimeError("not today")
        return {"yes": True, "no": False, "one": 1}.get(said, False)
"""
COROUTINE = """
    async def is_ready(self):
        await asyncio.sleep(0)
        return self.say() == "yes"
"""

CONFIG = """
backend: "python"
input [ { name: "NAME" data_type: TYPE_STRING dims: [ 1 ] } ]
output [ { name: "READY" data_type: TYPE_BOOL dims: [ 1 ] } ]
instance_group [ { count: 2 kind: KIND_CPU } ]
"""

MODELS = {"says": PLAIN, "awaits": COROUTINE, "silent": "    pass"}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readiness")
    for name, code in MODELS.items():
        (folder / "models" / name / "1").mkdir(parents=True)
        (folder / "models" / name / "1" / "model.py").write_text(MODEL.replace("    @IS_READY@", code))
        (folder / "models" / name / "config.pbtxt").write_text(CONFIG)
    return folder


@pytest.fixture(autouse=True)
def say_yes(work: Path) -> None:
    for name in MODELS:
        says(work, name, "yes")


@pytest.fixture(scope="module")
def server(work: Path) -> Iterator[RunningServer]:
    for name in MODELS:
        says(work, name, "yes")
    with serving(work, ("--workers=2",), repository=work / "models") as running:
        yield running


def says(work: Path, model: str, what: str) -> None:
    (work / "models" / model / "says").write_text(what)


def asked(work: Path, model: str) -> list[str]:
    path = work / "models" / model / "asked"
    return path.read_text().split() if path.exists() else []


def ready(server: RunningServer, model: str = "") -> tuple[bool, bool]:
    """Return what HTTP and gRPC say, of a model or of the server."""
    with tritonclient.http.InferenceServerClient(server.http) as client:
        over_http = client.is_model_ready(model) if model else client.is_server_ready()
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        over_grpc = client.is_model_ready(model) if model else client.is_server_ready()
    return over_http, over_grpc


def body(server: RunningServer, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(server.http, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("model", ["says", "awaits"])
def test_a_model_is_ready_if_all_its_instances_say_so(server: RunningServer, work: Path, model: str) -> None:
    assert ready(server, model) == (True, True)
    assert set(asked(work, model)) == {f"{model}_0_0", f"{model}_0_1"}
    says(work, model, "no")
    assert ready(server, model) == (False, False)
    assert body(server, f"/v2/models/{model}/versions/1/ready") == (400, b'{"error":"Model version not ready"}')


def test_the_server_is_ready_if_all_its_models_are(server: RunningServer, work: Path) -> None:
    assert ready(server) == (True, True)
    says(work, "says", "no")
    assert ready(server) == (False, False)
    assert body(server, "/v2/health/ready") == (400, b"")
    assert ready(server, "awaits") == (True, True)


def test_a_model_without_an_opinion_is_ready_and_not_asked(server: RunningServer, work: Path) -> None:
    assert ready(server, "silent") == (True, True)
    assert asked(work, "silent") == []


@pytest.mark.parametrize("what", ["raise", "one"])
def test_what_is_no_answer_is_no(server: RunningServer, work: Path, what: str) -> None:
    says(work, "says", what)
    assert ready(server, "says") == (False, False)
    text = {"raise": "RuntimeError: not today", "one": "is_ready() must return a boolean value"}[what]
    assert text in (work / "server.log").read_text()


def test_a_model_can_ask_about_another_one_and_about_itself(server: RunningServer, work: Path) -> None:
    def ask(model: str, about: str) -> bool:
        tensor = tritonclient.http.InferInput("NAME", [1], "BYTES")
        tensor.set_data_from_numpy(np.array([about.encode()], object))
        with tritonclient.http.InferenceServerClient(server.http) as client:
            return bool(client.infer(model, [tensor]).as_numpy("READY")[0])

    for model in ("silent", "says"):
        assert ask(model, "says")
    says(work, "says", "no")
    for model in ("silent", "says"):
        assert not ask(model, "says")
    assert ask("silent", "silent")
    assert not ask("silent", "nobody")


def test_one_that_takes_too_long_is_not_ready_and_hinders_nobody(server: RunningServer, work: Path) -> None:
    before = len(asked(work, "says"))
    says(work, "says", "slow")
    with ThreadPoolExecutor(8) as threads:
        slow = [threads.submit(body, server, "/v2/models/says/ready") for _ in range(8)]
        assert ready(server, "awaits") == (True, True)
        assert [item.result()[0] for item in slow] == [400] * 8
    assert len(asked(work, "says")) <= before + 2, "those who asked meanwhile got the same answer"
    says(work, "says", "yes")
    wait_until(lambda: ready(server, "says") == (True, True), "it is asked again")
