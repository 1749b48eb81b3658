"""A model in an archive of conda-pack, in a real server."""

import json
import sys
from pathlib import Path
from typing import Any

from tests.conda_environment import pack
from tests.end_to_end.test_own_workers import ask
from tests.serving import serving

MODEL = """
import json
import os
import subprocess
import sys

import numpy as np
import only_there
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        names = ("CONDA_PREFIX", "PATH", "THINGS_DATA", "LD_LIBRARY_PATH", "PYTHONHOME")
        report = {name: os.environ.get(name) for name in names}
        report["prefix"] = sys.prefix
        report["answer"] = only_there.ANSWER
        report["program"] = subprocess.run(["things"], capture_output=True, text=True).stdout.strip()
        with open(os.path.join(os.environ["THINGS_DATA"], "where.txt")) as text:
            report["text"] = text.read()
        with open(os.path.join(os.environ["THINGS_DATA"], "where.bin"), "rb") as binary:
            report["binary"] = binary.read().strip(b"\\x7f\\0").decode()
        values = np.array([json.dumps(report)], dtype=object)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("REPORT", values)]) for _ in requests]
"""
CONFIG = """
backend: "python"
input { name: "IN" data_type: TYPE_INT32 dims: 1 }
output { name: "REPORT" data_type: TYPE_STRING dims: 1 }
parameters { key: "EXECUTION_ENV_PATH" value { string_value: "$$TRITON_MODEL_DIRECTORY/env.tar.gz" } }
"""


def report(address: str, model: str) -> dict[str, Any]:
    tensor = {"name": "IN", "datatype": "INT32", "shape": [1], "data": [1]}
    status, answer = ask(address, f"/v2/models/{model}/infer", {"inputs": [tensor]})
    assert status == 200, answer
    found = json.loads(answer["outputs"][0]["data"][0])
    assert isinstance(found, dict)
    return found


def test_the_model_is_at_home_in_its_environment(tmp_path: Path) -> None:
    model = tmp_path / "models" / "packed"
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.py").write_text(MODEL)
    (model / "config.pbtxt").write_text(CONFIG)
    pack(tmp_path / "made", with_python=True).rename(model / "env.tar.gz")
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "LD_LIBRARY_PATH": "/none/lib", "CONDA_PREFIX": "/none"}
    with serving(tmp_path, (), tmp_path / "models", environ=environ) as server:
        found = report(server.http, "packed")
    (prefix,) = (tmp_path / "cache" / "tensorhub" / "environments").glob("*/env")
    assert prefix.is_dir()
    assert found["prefix"] == found["CONDA_PREFIX"] == str(prefix)
    assert found["prefix"] != sys.prefix
    assert found["answer"] == 42
    assert found["PATH"].split(":")[0] == f"{prefix}/bin"
    # The script of a package was run, and conda-unpack too, which Triton does not.
    assert found["THINGS_DATA"] == f"{prefix}/share/things"
    assert (found["text"], found["binary"]) == (f"{prefix}/share/things\n", f"{prefix}/share/things")
    # Programs that the model starts are those of the environment, but do not get its libraries unasked.
    assert found["program"] == str(prefix)
    assert found["LD_LIBRARY_PATH"] == "/none/lib"
    assert found["PYTHONHOME"] is None
