"""`tensorhub check`: everything that is wrong is named with its place, and nothing is left behind."""

import json
import venv
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


def _ensemble(*steps: tuple[str, int], kind: str = "TYPE_FP32") -> str:
    io = _IO.replace("TYPE_FP32", kind)
    texts = [
        f'  {{ model_name: "{name}"\n    model_version: {version}\n    input_map {{ key: "A" value: "{source}" }}\n'
        f'    output_map {{ key: "B" value: "{target}" }} }}'
        for (name, version), source, target in zip(steps, ("A", *"xyz"), (*"xyz"[: len(steps) - 1], "B"), strict=False)
    ]
    listed = ",\n".join(texts)
    return f'platform: "ensemble"\nmax_batch_size: 0\n{io}ensemble_scheduling {{ step [\n{listed}\n] }}\n'


def test_an_ensemble_must_fit_the_models_of_its_steps(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(repository, "one")
    _write(repository, "bad", _CONFIG.replace(" dims: [ 1 ]", ""))
    for name, text in {
        "fits": _ensemble(("one", -1), ("one", 1)),
        "nested": _ensemble(("fits", -1)),
        "type": _ensemble(("one", -1), kind="TYPE_INT32"),
        "version": _ensemble(("one", 3)),
        "broken": _ensemble(("bad", -1)),
        "circle_1": _ensemble(("one", -1), ("circle_2", -1)),
        "circle_2": _ensemble(("circle_1", -1)),
        "itself": _ensemble(("itself", -1)),
    }.items():
        _write(repository, name, text)
    status, found = _check(capsys, repository)
    assert status == 1
    said = {
        name: [(item["line"], item["field"], item["message"]) for item in model["findings"]]
        for name, model in found.items()
        if name not in ("bad", "type")
    }
    assert said == {
        "one": [],
        "fits": [],
        "nested": [],
        "version": [
            (
                7,
                "model_version",
                "the ensemble has a step with version 3 of model 'one', of which these are served: 1",
            )
        ],
        "broken": [(6, "model_name", "the ensemble has a step with model 'bad', which cannot be served")],
        "circle_1": [(10, "model_name", "circular dependency between ensembles: circle_1 -> circle_2 -> circle_1")],
        "circle_2": [(6, "model_name", "circular dependency between ensembles: circle_2 -> circle_1 -> circle_2")],
        "itself": [(6, "model_name", "circular dependency between ensembles: itself -> itself")],
    }
    (finding,) = found["type"]["findings"]
    assert "inconsistent data type: TYPE_INT32 is inferred from model type" in finding["message"]
    assert (finding["line"], finding["field"]) == (3, "data_type")


def test_files_that_a_configuration_names(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    item = "data_type: TYPE_FP32\n  dims: 1\n  input_data_file: 'a.bin'"
    warm = _CONFIG + f"model_warmup {{ name: 'w' batch_size: 1 inputs {{ key: 'A' value {{ {item} }} }} }}\n"
    _write(repository, "missing", warm)
    short = _write(repository, "short", warm)
    (short / "warmup").mkdir()
    (short / "warmup" / "a.bin").write_bytes(b"123")
    _write(
        repository,
        "state",
        _CONFIG
        + "sequence_batching { state { input_name: 'S' output_name: 'T' data_type: TYPE_FP32 dims: 1\n"
        + "initial_state { name: 'i' data_type: TYPE_FP32 dims: 1\n data_file: 's.bin' } } }\n",
    )
    status, found = _check(capsys, repository)
    assert status == 1
    places = {name: [(item["line"], item["field"]) for item in model["findings"]] for name, model in found.items()}
    assert places == {
        "missing": [(7, "input_data_file")],
        "short": [(7, "input_data_file")],
        "state": [(7, "data_file")],
    }
    assert found["missing"]["findings"][0]["message"].startswith("failed to open text file for read missing/warmup/a.")
    assert "expects 4 bytes, but the data provided from a.binonly has 3 bytes" in str(found["short"]["findings"])


def test_a_backend_that_is_not_here_is_said_before_its_file(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(repository, "other", _CONFIG.replace("python", "tensorrt"))
    _, found = _check(capsys, repository)
    (finding,) = found["other"]["findings"]
    assert (finding["line"], finding["field"]) == (1, "backend")
    assert "(backends that are here: function, identity, onnxruntime, python, pytorch)" in finding["message"]


def test_a_model_is_asked_in_its_own_environment(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    venv.create(tmp_path / "environment", symlinks=True)
    (packages,) = (tmp_path / "environment").glob("lib/python3*/site-packages")
    (packages / "only_in_the_environment.py").write_text("DIMS = [5]\n")
    completes = (
        _MODEL
        + """
    @staticmethod
    def auto_complete_config(config):
        from only_in_the_environment import DIMS
        config.add_input({"name": "X", "data_type": "TYPE_INT8", "dims": DIMS})
        config.add_output({"name": "Y", "data_type": "TYPE_INT8", "dims": DIMS})
        return config
"""
    )
    text = "backend: 'python'\nparameters {{\n key: 'EXECUTION_ENV_PATH'\n value {{ string_value: '{}' }} }}\n"
    _write(repository, "there", text.format(tmp_path / "environment"), completes)
    _write(repository, "gone", text.format("$$TRITON_MODEL_DIRECTORY/none.tar.gz"), completes)
    status, found = _check(capsys, repository)
    assert status == 1
    assert found["there"]["findings"] == []
    assert found["there"]["config"]["input"][0]["dims"] == [5]
    (finding,) = found["gone"]["findings"]
    assert (finding["line"], finding["field"]) == (3, "EXECUTION_ENV_PATH")
    assert finding["message"].startswith("Failed to get the canonical path for ")


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
