"""Models with a worker process of their own, in a real server."""

import http.client
import json
import tarfile
import venv
from pathlib import Path
from typing import Any

import pytest

from tests.serving import processes_of, serving
from tests.waiting import wait_until

MODEL = """
import os
import sys
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        if requests[0].inputs()[0].as_numpy()[0] == 99:
            os._exit(3)
        values = np.array([os.getpid()], dtype=np.int32), np.array([sys.prefix], dtype=object)
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("PID", values[0]), pb_utils.Tensor("PREFIX", values[1])])
            for _ in requests
        ]
"""
CONFIG = """
backend: "python"
input { name: "IN" data_type: TYPE_INT32 dims: 1 }
output { name: "PID" data_type: TYPE_INT32 dims: 1 }
output { name: "PREFIX" data_type: TYPE_STRING dims: 1 }
"""


def write(repository: Path, name: str, **parameters: str) -> None:
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "1" / "model.py").write_text(MODEL)
    lines = [f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}' for key, value in parameters.items()]
    (repository / name / "config.pbtxt").write_text(CONFIG + "\n".join(lines))


def ask(address: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request("POST", path, json.dumps(body or {}))
        response = connection.getresponse()
        data = response.read()
        return response.status, json.loads(data) if data else None
    finally:
        connection.close()


def infer(address: str, model: str, value: int = 1) -> tuple[int, Any]:
    tensor = {"name": "IN", "datatype": "INT32", "shape": [1], "data": [value]}
    status, answer = ask(address, f"/v2/models/{model}/infer", {"inputs": [tensor]})
    if status != 200:
        return status, answer
    return status, {output["name"]: output["data"][0] for output in answer["outputs"]}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    write(folder, "shared")
    write(folder, "isolated", ISOLATE="yes")
    write(folder, "packed", EXECUTION_ENV_PATH="$$TRITON_MODEL_DIRECTORY/env.tar.gz")
    write(folder, "broken", EXECUTION_ENV_PATH="$$TRITON_MODEL_DIRECTORY/1")
    venv.create(tmp_path / "env", with_pip=False)
    with tarfile.open(folder / "packed" / "env.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "env", ".")
    return folder


def test_models_of_their_own(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    options = ["--model-control-mode=explicit", "--load-model=*", "--exit-on-error=false", "--strict-readiness=false"]
    with serving(tmp_path, options, repository) as server:
        assert server.run_dir is not None
        for name in ("shared", "isolated", "packed"):
            wait_until(lambda name=name: infer(server.http, name)[0] == 200, f"{name} serves")  # type: ignore[misc]
        pids = {name: infer(server.http, name)[1]["PID"] for name in ("shared", "isolated", "packed")}
        assert len(set(pids.values())) == 3
        assert infer(server.http, "packed")[1]["PREFIX"].startswith(str(tmp_path / "cache"))

        # A broken environment is one model's matter, and its reason is told.
        def reason() -> str:
            rows = {row["name"]: row for row in ask(server.http, "/v2/repository/index")[1]}
            return str(rows["broken"].get("reason", ""))

        wait_until(reason, "it is known to be broken")
        assert reason().startswith("Internal: Path ")
        assert "bin/activate does not exist" in reason()
        # A crash takes nothing else along, and is made good.
        assert infer(server.http, "isolated", 99)[0] == 503
        assert infer(server.http, "shared")[1]["PID"] == pids["shared"]
        wait_until(lambda: infer(server.http, "isolated")[0] == 200)
        assert infer(server.http, "isolated")[1]["PID"] != pids["isolated"]
        # What is unloaded leaves no process; what is loaded again gets one.
        assert ask(server.http, "/v2/repository/models/isolated/unload")[0] == 200
        own = "--name\0own-isolated\0".replace("\0", " ")
        run_dir = server.run_dir
        wait_until(lambda: not any(own in command for command in processes_of(run_dir).values()))
        assert ask(server.http, "/v2/repository/models/isolated/load")[0] == 200
        assert infer(server.http, "isolated")[0] == 200
