"""Forms of repository requests: files and configurations in a load, bodies of the index and of unload."""

from __future__ import annotations

import base64

from tritonclient.grpc import service_pb2 as pb

from ..messages import compact, infer, tensor
from ..repository import adding_model, index
from ..steps import AwaitState, Case, Grpc, Http, RemoveTree, Step, WriteFile

_CONFIG = {
    "backend": "python",
    "max_batch_size": 0,
    "input": [{"name": "INPUT0", "data_type": "TYPE_INT32", "dims": [1]}],
    "output": [{"name": "OUTPUT0", "data_type": "TYPE_INT32", "dims": [1]}],
    "instance_group": [{"count": 1, "kind": "KIND_CPU"}],
}
_IN = [tensor("INPUT0", "INT32", [1], [100])]


def _config(**members: object) -> str:
    return compact({**_CONFIG, **members}).decode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _load(model: str, **parameters: object) -> Http:
    return Http("POST", f"/v2/repository/models/{model}/load", compact({"parameters": parameters}))


def _files(model: str, files: dict[str, str], config: object = None) -> Http:
    """A load whose files are base64 already."""
    named = {f"file:{path}": text for path, text in files.items()}
    return _load(model, config=_config() if config is None else config, **named)


def _unload(model: str, body: bytes = b"") -> Http:
    return Http("POST", f"/v2/repository/models/{model}/unload", body)


def _case(name: str, *steps: Step) -> Case:
    return Case(f"repository-{name}", steps, server="control")


def _made(name: str, *steps: Step) -> Case:
    """Steps on a model of files that come over the wire, `made_<name>`, which is unloaded after.

    The repository has a folder of that name, without which Triton 2.51 does not list the model.
    """
    model = f"made_{name}"
    return _case(
        name.replace("_", "-"),
        WriteFile(f"{model}/config.pbtxt", ""),
        *steps,
        _unload(model),
        AwaitState(model, "UNAVAILABLE"),
        RemoveTree(model),
    )


def _grpc_load(model: str, parameters: dict[str, pb.ModelRepositoryParameter]) -> Grpc:
    return Grpc("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name=model, parameters=parameters))


def _resident(name: str, body: bytes) -> Case:
    """A load of the resident model that should fail and leave it as it was."""
    load = Http("POST", "/v2/repository/models/resident/load", body)
    return _case(f"resident-{name}", load, infer("resident", _IN), index("resident"))


_ONE = {"1/model.py": _base64(adding_model(1).encode())}

CASES = (
    _case(
        "files-without-folder",
        _files("made_without_folder", _ONE),
        infer("made_without_folder", _IN),
        index("made_without_folder"),
        _unload("made_without_folder"),
    ),
    _made(
        "files_only",
        index("made_files_only"),
        _files("made_files_only", _ONE),
        index("made_files_only"),
        infer("made_files_only", _IN),
        Http("GET", "/v2/models/made_files_only"),
        Http("GET", "/v2/models/made_files_only/config"),
    ),
    _made(
        "files_again",
        _files("made_files_again", _ONE),
        _files("made_files_again", {"1/model.py": _base64(adding_model(2).encode())}),
        infer("made_files_again", _IN),
    ),
    _made(
        "files_then_plain",
        _files("made_files_then_plain", _ONE),
        Http("POST", "/v2/repository/models/made_files_then_plain/load"),
        infer("made_files_then_plain", _IN),
        index("made_files_then_plain"),
    ),
    _made(
        "files_two_versions",
        _files(
            "made_files_two_versions",
            {"1/model.py": _base64(adding_model(1).encode()), "2/model.py": _base64(adding_model(2).encode())},
            _config(version_policy={"all": {}}),
        ),
        infer("made_files_two_versions", _IN, version="1"),
        infer("made_files_two_versions", _IN, version="2"),
        infer("made_files_two_versions", _IN),
        index("made_files_two_versions"),
        index("made_files_two_versions", body=b'{"ready":true}'),
    ),
    _made(
        "files_other_version",
        _files("made_files_other_version", {"7/model.py": _base64(adding_model(7).encode())}),
        infer("made_files_other_version", _IN),
        _files("made_files_other_version", {"8/model.py": _base64(adding_model(8).encode())}),
        infer("made_files_other_version", _IN),
        AwaitState("made_files_other_version", "READY"),
        index("made_files_other_version"),
    ),
    _made(
        "files_beside",
        _files("made_files_beside", {**_ONE, "notes.txt": _base64(b"x"), "1/deep/er/data": _base64(b"y")}),
        infer("made_files_beside", _IN),
    ),
    _made(
        "base64_without_padding",
        _files("made_base64_without_padding", {"1/model.py": _ONE["1/model.py"].rstrip("=")}),
        infer("made_base64_without_padding", _IN),
    ),
    _made(
        "base64_with_lines",
        _files("made_base64_with_lines", {"1/model.py": base64.encodebytes(adding_model(3).encode()).decode()}),
        infer("made_base64_with_lines", _IN),
    ),
    _case("files-no-model", _files("made_nothing", {"notes.txt": _base64(b"x")}), index("made_nothing")),
    _case("files-empty-model", _files("made_empty", {"1/model.py": ""})),
    _case(
        "files-version-word",
        _files("made_word", {"one/model.py": _base64(adding_model(0).encode())}),
        index("made_word"),
    ),
    _case("files-no-version", _files("made_flat", {"model.py": _base64(adding_model(0).encode())}), index("made_flat")),
    _case("files-config-only", _load("made_config_only", config=_config()), index("made_config_only")),
    _case("files-bad-config", _files("made_bad", _ONE, "{"), index("made_bad")),
    _case("files-config-number", _files("made_number", _ONE, 1), index("made_number")),
    _case("files-config-object", _files("made_object", _ONE, _CONFIG), index("made_object")),
    _case("files-value-number", _load("made_value", config=_config(), **{"file:1/model.py": 1}), index("made_value")),
    _case("files-value-null", _load("made_null", config=_config(), **{"file:1/model.py": None})),
    _case(
        "files-string-grpc",
        _grpc_load(
            "made_string",
            {
                "config": pb.ModelRepositoryParameter(string_param=_config()),
                "file:1/model.py": pb.ModelRepositoryParameter(string_param=_ONE["1/model.py"]),
            },
        ),
        index("made_string"),
    ),
    _case(
        "config-bytes-grpc",
        _grpc_load("resident", {"config": pb.ModelRepositoryParameter(bytes_param=_config().encode())}),
        infer("resident", _IN),
    ),
    _case("unset-parameter-grpc", _grpc_load("resident", {"config": pb.ModelRepositoryParameter()})),
    _resident("config-null", b'{"parameters":{"config":null}}'),
    _resident("config-list", b'{"parameters":{"config":[]}}'),
    _resident("config-bool", b'{"parameters":{"config":true}}'),
    _resident("parameters-null", b'{"parameters":null}'),
    _resident("parameters-string", b'{"parameters":"x"}'),
    _resident("body-null", b"null"),
    _resident("body-string", b'"x"'),
    _resident("body-empty-string", b'""'),
    _resident("member-unknown", b'{"other":1}'),
    _resident("config-twice", b'{"parameters":{"config":"{","config":"}"}}'),
    _case("index-not-json", Http("POST", "/v2/repository/index", b"{")),
    _case("index-null", index("resident", body=b"null")),
    _case("index-ready-null", index("resident", body=b'{"ready":null}')),
    _case("index-ready-list", index("resident", body=b'{"ready":[]}')),
    _case("index-string", index("resident", body=b'"x"')),
    _case("unload-null", _unload("no_such_model", b"null")),
    _case("unload-list", _unload("no_such_model", b"[]")),
    _case("unload-dependents-null", _unload("no_such_model", b'{"parameters":{"unload_dependents":null}}')),
    _case("unload-dependents-false", _unload("no_such_model", b'{"parameters":{"unload_dependents":false}}')),
    _case("unload-twice", _files("made_twice", _ONE), _unload("made_twice"), _unload("made_twice")),
)
