"""D8: the name of a model is one component of a path, overrides stay in the model's folder, and no shell is near."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import tritonclient.grpc.service_pb2 as pb

from tests.safety.client import Grpc, Http
from tests.safety.conftest import MODELS

NAMES = [
    *("..", ".", "../identity", "/etc", "/abs/olute", "a/b", "a\\b", "identity/../identity", "./identity"),
    *("a;id", "$(id)", "`id`", "a|id", "a&id", "a\nid", "a\rb", "a\0b", "\0", "-rf", "a b", "*", "~", "%2e%2e"),
    *("\u2024\u2024/x", "\uff0e\uff0e", "\u2025", "\u202e", "x" * 300, "\U0001f600"),
]
PATHS = ["../x", "/abs", "1/../../x", "a;id", "1/$(id)", "1/a\0b", "1/\n", "..", "", "1/", "./../../x", "1//../../x"]
CONFIG = json.dumps({"backend": "identity", "input": [], "output": []})


@pytest.mark.parametrize("name", NAMES)
def test_names_of_models(http: Http, rpc: Grpc, name: str) -> None:
    before = sorted(path.as_posix() for path in MODELS.rglob("*") if "__pycache__" not in path.parts)
    status, body = http.ask("POST", f"/v2/repository/models/{quote(name, safe='')}/load")
    assert status in (400, 404, 414, 500), name  # 500: Triton's code for a model that no repository has
    assert str(MODELS).encode() not in body
    status, _ = http.ask("GET", f"/v2/models/{quote(name, safe='')}/ready")
    assert status in (400, 404), name
    assert rpc.ask("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name=name))[0] != "OK"
    assert rpc.ask("ModelConfig", pb.ModelConfigRequest(name=name))[0] != "OK"
    assert sorted(path.as_posix() for path in MODELS.rglob("*") if "__pycache__" not in path.parts) == before


@pytest.mark.parametrize("path", PATHS)
def test_paths_of_override_files(http: Http, rpc: Grpc, path: str) -> None:
    before = {item.name for item in Path("/tmp").iterdir()}
    content = base64.b64encode(b"owned").decode()
    document = {"parameters": {"config": CONFIG, f"file:{path}": content}}
    status, body = http.ask("POST", "/v2/repository/models/d08/load", document)
    assert status in (400, 500), (path, body)
    request = pb.RepositoryModelLoadRequest(model_name="d08")
    request.parameters["config"].string_param = CONFIG
    request.parameters[f"file:{path}"].bytes_param = b"owned"
    assert rpc.ask("RepositoryModelLoad", request)[0] != "OK"
    left = {item.name for item in Path("/tmp").iterdir()} - before
    assert "x" not in left
    assert not Path("/abs").exists()


def test_paths_that_only_look_harmless(http: Http) -> None:
    """A model's own files may be symbolic links of the operator; an override cannot make one, and cannot follow one."""
    document = {"parameters": {"config": CONFIG, "file:1/model.py": base64.b64encode(b"").decode()}}
    document["parameters"]["file:1/model.py/x"] = base64.b64encode(b"").decode()
    status, body = http.ask("POST", "/v2/repository/models/d08/load", document)
    assert status in (400, 500), body


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "1/../../x", "..", "a/..", "/", "1/\0"])
@pytest.mark.parametrize(
    "field",
    [
        lambda path: {"default_model_filename": path},
        lambda path: {"cc_model_filenames": {"7.5": path}},
        lambda path: {"model_operations": {"op_library_filename": [path]}},
        lambda path: {"output": [{"name": "O", "data_type": "TYPE_FP32", "dims": [1], "label_filename": path}]},
        lambda path: {
            "model_warmup": [{"name": "w", "batch_size": 1, "inputs": {"I": {"input_data_file": path}}}],
        },
        lambda path: {"sequence_batching": {"state": [{"initial_state": [{"name": "s", "data_file": path}]}]}},
    ],
)
def test_no_file_that_a_request_names_is_elsewhere(rpc: Grpc, field: Callable[[str], Any], path: str) -> None:
    """The operator may link and go up as he likes, and a request may not: not even to a file that is a model."""
    request = pb.RepositoryModelLoadRequest(model_name="identity")
    request.parameters["config"].string_param = json.dumps({"backend": "identity", **field(path)})
    code, text = rpc.ask("RepositoryModelLoad", request)
    assert code == "INVALID_ARGUMENT"
    assert "which leads out of the model's folder" in text


def test_config_paths_stay_in_the_model(http: Http) -> None:
    """label_filename and default_model_filename of an override lead nowhere else."""
    for field in (
        {"default_model_filename": "../../../../etc/passwd"},
        {"default_model_filename": "/etc/passwd"},
        {"output": [{"name": "O", "data_type": "TYPE_FP32", "dims": [1], "label_filename": "../../../etc/passwd"}]},
        {"output": [{"name": "O", "data_type": "TYPE_FP32", "dims": [1], "label_filename": "/etc/passwd"}]},
    ):
        config = {
            "backend": "identity" if "output" in field else "python",
            "input": [{"name": "I", "data_type": "TYPE_FP32", "dims": [1]}],
            "output": [{"name": "O", "data_type": "TYPE_FP32", "dims": [1]}],
            **field,
        }
        parameters = {"config": json.dumps(config), "file:1/model.py": base64.b64encode(b"").decode()}
        status, body = http.ask("POST", "/v2/repository/models/d08/load", {"parameters": parameters})
        assert status in (400, 500), (field, body)
        assert b"root:" not in body
