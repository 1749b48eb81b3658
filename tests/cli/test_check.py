"""`tensorhub check`: everything that is wrong is named with its place, and nothing is left behind."""

import json
from pathlib import Path
from typing import Any

import pytest

from tensorhub.cli import check
from tensorhub.cli.program import BAD_USAGE
from tests.serving import EXAMPLE_MODELS, PROJECT

_IO = """input [ { name: "A" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "B" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""
_CONFIG = f'backend: "python"\nmax_batch_size: 0\n{_IO}'
_MODEL = """import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return []
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "models"
    path.mkdir()
    return path


def _write(repository: Path, name: str, config: str | None = _CONFIG, model: str = _MODEL, version: str = "1") -> Path:
    folder = repository / name
    (folder / version).mkdir(parents=True, exist_ok=True)
    (folder / version / "model.py").write_text(model)
    if config is not None:
        (folder / "config.pbtxt").write_text(config)
    return folder


def _check(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> tuple[int, dict[str, dict[str, Any]]]:
    status = check.run([*map(str, argv), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is (status == 0)
    return status, {model["name"]: model for model in document["models"]}


def test_the_examples_can_be_served(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run([str(EXAMPLE_MODELS)]) == 0
    text = capsys.readouterr().out
    assert "add_sub: ok (version 1)" in text
    assert 'instance_group { name: "add_sub" count: 1 kind: KIND_CPU }' in text
    assert text.endswith("models, all of which can be served.\n")


def test_everything_wrong_is_named_with_its_place(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(repository, "good")
    _write(repository, "field", _CONFIG + "no_such: 1\n")
    _write(repository, "no_dims", _CONFIG.replace(" dims: [ 1 ]", "", 1))
    _write(repository, "backend", _CONFIG.replace("python", "nothing"))
    _write(repository, "policy", _CONFIG + "version_policy { specific { versions: 9 } }\n")
    _write(repository, "file", _CONFIG + 'default_model_filename: "other.py"\n')
    _write(repository, "labels", _CONFIG.replace('name: "B"', 'name: "B" label_filename: "l.txt"'))
    _write(repository, "odd", version="01")
    _write(repository, "other", 'name: "x"\n' + _CONFIG)
    status, found = _check(capsys, repository)
    assert status == 1
    places = {
        name: [(item["severity"], item["file"], item["line"], item["field"]) for item in model["findings"]]
        for name, model in found.items()
    }
    assert places == {
        "good": [],
        "field": [("error", "field/config.pbtxt", 5, "no_such")],
        "no_dims": [("error", "no_dims/config.pbtxt", 3, "dims")],
        "backend": [("error", "backend/config.pbtxt", 1, "backend")],
        "policy": [("error", "policy/config.pbtxt", 5, "version_policy")],
        "file": [("error", "file/1/other.py", 0, "")],
        "labels": [("error", "labels/config.pbtxt", 4, "label_filename")],
        "odd": [("warning", "odd/01", 0, ""), ("error", "odd/config.pbtxt", 0, "")],
        "other": [("error", "other/config.pbtxt", 1, "name")],
    }
    assert [name for name, model in found.items() if model["ok"]] == ["good"]


def test_what_would_be_completed_is_shown(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    completes = (
        _MODEL
        + """
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "X", "data_type": "TYPE_INT8", "dims": [3]})
        config.add_output({"name": "Y", "data_type": "TYPE_INT8", "dims": [3]})
        return config
"""
    )
    _write(repository, "bare", None, completes)
    status, found = _check(capsys, repository)
    assert status == 0
    assert found["bare"]["completed"]["input"] == 'input { name: "X" data_type: TYPE_INT8 dims: 3 }'
    assert found["bare"]["completed"]["backend"] == 'backend: "python"'
    assert found["bare"]["config"]["input"][0]["dims"] == [3]
    status, found = _check(capsys, repository, "--no-ask")
    assert (status, "input" in found["bare"]["completed"]) == (0, False)
    status, found = _check(capsys, repository, "--disable-auto-complete-config")
    assert status == 1


def test_models_are_loaded_on_request_only(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails = _MODEL.replace("    def execute", "    def initialize(self, args):\n        1 / 0\n\n    def execute")
    _write(repository, "fails", model=fails)
    dies = _MODEL.replace("    def execute", "    def initialize(self, args):\n        exit(4)\n\n    def execute")
    _write(repository, "dies", model=dies)
    assert _check(capsys, repository)[0] == 0
    status, found = _check(capsys, repository, "--load")
    assert status == 1
    (finding,) = found["fails"]["findings"]
    assert (finding["file"], finding["line"]) == ("fails/1/model.py", 6)
    assert "ZeroDivisionError" in finding["message"]
    (finding,) = found["dies"]["findings"]
    assert "4" in finding["message"]


def test_an_ensemble_needs_the_models_of_its_steps(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = 'model_name: "nobody" model_version: -1 input_map { key: "A" value: "A" } output_map { key: "B" value: "B" }'
    config = f'platform: "ensemble"\nmax_batch_size: 0\n{_IO}ensemble_scheduling {{ step [ {{ {step} }} ] }}\n'
    _write(repository, "whole", config)
    status, found = _check(capsys, repository)
    assert status == 1
    assert "'nobody', which is in no repository" in found["whole"]["findings"][0]["message"]
    assert found["whole"]["findings"][0]["line"] == 5


def test_functions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run([str(PROJECT / "examples" / "functions" / "text.py")]) == 0
    assert "3 models, all of which can be served." in capsys.readouterr().out
    bad = tmp_path / "bad.py"
    bad.write_text("import tensorhub\n\n@tensorhub.model(inputs={}, outputs={})\ndef f(): ...\n")
    assert check.run([str(bad)]) == 1
    assert "bad.py:3: model 'f': inputs must be" in capsys.readouterr().err


def test_what_is_no_repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run([str(tmp_path / "nothing")]) == BAD_USAGE
    assert "no such directory" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        check.run([])
    assert check.run([str(tmp_path)]) == 0
    assert "No models." in capsys.readouterr().out
