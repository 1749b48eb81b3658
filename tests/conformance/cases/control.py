"""The repository: index, load and unload, in explicit mode (server `control`) and in mode none (server `core`)."""

from __future__ import annotations

import base64

from tritonclient.grpc import service_pb2 as pb

from ..messages import compact, infer, post, tensor
from ..repository import adding_model, index, load, ready, unload
from ..steps import AwaitState, Case, Grpc, Http, RemoveTree, Step, WriteFile

_CONFIG = """backend: "python"
max_batch_size: 0
input [ { name: "INPUT0" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 1 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
"""
_JSON_CONFIG = {
    "backend": "python",
    "max_batch_size": 4,
    "input": [{"name": "INPUT0", "data_type": "TYPE_INT32", "dims": [1]}],
    "output": [{"name": "OUTPUT0", "data_type": "TYPE_INT32", "dims": [1]}],
    "instance_group": [{"count": 1, "kind": "KIND_CPU"}],
}
_BROKEN = "class TritonPythonModel:\n    def initialize(self, args):\n        raise RuntimeError('not today')\n"


_IN = [tensor("INPUT0", "INT32", [1], [100])]


def _grpc_load(model: str, repository: str = "", **parameters: pb.ModelRepositoryParameter) -> Grpc:
    return Grpc(
        "RepositoryModelLoad",
        pb.RepositoryModelLoadRequest(model_name=model, repository_name=repository, parameters=parameters),
    )


def _grpc_unload(model: str, repository: str = "", **parameters: pb.ModelRepositoryParameter) -> Grpc:
    return Grpc(
        "RepositoryModelUnload",
        pb.RepositoryModelUnloadRequest(model_name=model, repository_name=repository, parameters=parameters),
    )


def _grpc_index(model: str = "", ready: bool = False, repository_name: str = "") -> Grpc:
    request = pb.RepositoryIndexRequest(ready=ready, repository_name=repository_name)
    return Grpc("RepositoryIndex", request, only=(model,) if model else ())


def _text(value: str) -> pb.ModelRepositoryParameter:
    return pb.ModelRepositoryParameter(string_param=value)


def _scratch(name: str, *steps: Step, config: str = _CONFIG, add: int = 1) -> Case:
    """Steps on a model of the case's own, `name`, which is written before and unloaded and removed after."""
    return Case(
        f"control-{name}",
        (
            WriteFile(f"{name}/config.pbtxt", config),
            WriteFile(f"{name}/1/model.py", adding_model(add)),
            *steps,
            unload(name),
            RemoveTree(name),
        ),
        server="control",
    )


def _control(name: str, *steps: Step) -> Case:
    return Case(f"control-{name}", steps, server="control")


def _bad_load(name: str, body: bytes) -> Case:
    """A load request of the resident model that should fail, and that the model is as it was."""
    return _control(f"load-{name}", Http("POST", "/v2/repository/models/resident/load", body), infer("resident", _IN))


_EXPLICIT = (
    _control("resident", index("resident"), ready("resident"), infer("resident", _IN)),
    _control(
        "sleeper-is-listed",
        index("sleeper"),
        ready("sleeper"),
        infer("sleeper", _IN),
        Http("GET", "/v2/models/sleeper"),
    ),
    _control("server-is-ready", Http("GET", "/v2/health/ready")),
    _scratch(
        "life",
        index("life"),
        ready("life"),
        load("life"),
        index("life"),
        ready("life"),
        infer("life", _IN),
        unload("life"),
        AwaitState("life", "UNAVAILABLE"),
        index("life"),
        index("life", body=b'{"ready":true}'),
        ready("life"),
        Http("GET", "/v2/models/life"),
        Http("GET", "/v2/models/life/config"),
        Http("GET", "/v2/models/life/versions/1/ready"),
        infer("life", _IN),
        infer("life", _IN, version="1"),
        unload("life"),
        load("life"),
        infer("life", _IN),
    ),
    _scratch(
        "life_grpc",
        _grpc_index("life_grpc"),
        _grpc_load("life_grpc"),
        _grpc_index("life_grpc"),
        _grpc_index("life_grpc", ready=True),
        Grpc("ModelReady", pb.ModelReadyRequest(name="life_grpc")),
        _grpc_unload("life_grpc"),
        AwaitState("life_grpc", "UNAVAILABLE"),
        _grpc_index("life_grpc"),
        _grpc_index("life_grpc", ready=True),
        Grpc("ModelReady", pb.ModelReadyRequest(name="life_grpc")),
        Grpc("ModelReady", pb.ModelReadyRequest(name="life_grpc", version="1")),
        Grpc("ModelMetadata", pb.ModelMetadataRequest(name="life_grpc")),
    ),
    _scratch("load_twice", load("load_twice"), load("load_twice"), infer("load_twice", _IN)),
    _scratch(
        "reload_new_text",
        load("reload_new_text"),
        infer("reload_new_text", _IN),
        WriteFile("reload_new_text/1/model.py", adding_model(25)),
        infer("reload_new_text", _IN),
        load("reload_new_text"),
        infer("reload_new_text", _IN),
    ),
    _scratch(
        "reload_new_version",
        load("reload_new_version"),
        WriteFile("reload_new_version/2/model.py", adding_model(2)),
        load("reload_new_version"),
        AwaitState("reload_new_version", "READY"),
        infer("reload_new_version", _IN),
        index("reload_new_version"),
        infer("reload_new_version", _IN, version="1"),
    ),
    _scratch(
        "reload_broken",
        load("reload_broken"),
        WriteFile("reload_broken/1/model.py", _BROKEN),
        load("reload_broken"),
        ready("reload_broken"),
        infer("reload_broken", _IN),
        index("reload_broken"),
        WriteFile("reload_broken/1/model.py", adding_model(3)),
        load("reload_broken"),
        infer("reload_broken", _IN),
    ),
    _scratch(
        "load_broken",
        WriteFile("load_broken/1/model.py", _BROKEN),
        load("load_broken"),
        index("load_broken"),
        ready("load_broken"),
        infer("load_broken", _IN),
        _grpc_load("load_broken"),
    ),
    _scratch(
        "load_syntax_error",
        WriteFile(
            "load_syntax_error/1/model.py",
            "class TritonPythonModel:\n    def execute(self requests):\n        return []\n",
        ),
        load("load_syntax_error"),
        index("load_syntax_error"),
    ),
    _scratch(
        "load_bad_config", load("load_bad_config"), index("load_bad_config"), config=_CONFIG + "no_such_field: 1\n"
    ),
    _scratch(
        "load_invalid_config",
        load("load_invalid_config"),
        index("load_invalid_config"),
        config=_CONFIG.replace("dims: [ 1 ]", "", 1),
    ),
    _scratch(
        "load_no_version",
        load("load_no_version"),
        index("load_no_version"),
        config=_CONFIG + "version_policy { specific { versions: 9 } }\n",
    ),
    _scratch(
        "override",
        load("override", config=compact(_JSON_CONFIG).decode()),
        Http("GET", "/v2/models/override/config"),
        infer("override", [tensor("INPUT0", "INT32", [2, 1], [1, 2])]),
        load("override"),
        infer("override", _IN),
    ),
    _scratch(
        "override_grpc",
        _grpc_load("override_grpc", config=_text(compact(_JSON_CONFIG).decode())),
        Http("GET", "/v2/models/override_grpc"),
        infer("override_grpc", [tensor("INPUT0", "INT32", [2, 1], [1, 2])]),
    ),
    _scratch("override_bad_json", load("override_bad_json", config="{"), index("override_bad_json")),
    _scratch(
        "override_unknown_field",
        load("override_unknown_field", config='{"backend":"python","nothing":1}'),
        index("override_unknown_field"),
    ),
    _scratch("override_empty", load("override_empty", config=""), index("override_empty")),
    _scratch(
        "override_other_name",
        load("override_other_name", config=compact({**_JSON_CONFIG, "name": "x"}).decode()),
        index("override_other_name"),
    ),
    _scratch(
        "override_bad_type", load("override_bad_type", config=compact({**_JSON_CONFIG, "max_batch_size": -3}).decode())
    ),
    _scratch(
        "override_files",
        Http(
            "POST",
            "/v2/repository/models/override_files/load",
            compact(
                {
                    "parameters": {
                        "config": compact(_JSON_CONFIG).decode(),
                        "file:1/model.py": base64.b64encode(adding_model(7).encode()).decode(),
                    }
                }
            ),
        ),
        infer("override_files", [tensor("INPUT0", "INT32", [1, 1], [1])]),
        index("override_files"),
    ),
    _scratch(
        "override_files_grpc",
        Grpc(
            "RepositoryModelLoad",
            pb.RepositoryModelLoadRequest(
                model_name="override_files_grpc",
                parameters={
                    "config": _text(compact(_JSON_CONFIG).decode()),
                    "file:5/model.py": pb.ModelRepositoryParameter(bytes_param=adding_model(8).encode()),
                },
            ),
        ),
        infer("override_files_grpc", [tensor("INPUT0", "INT32", [1, 1], [1])]),
    ),
    _scratch(
        "files_without_config",
        load("files_without_config", **{"file:1/model.py": base64.b64encode(adding_model(7).encode()).decode()}),
    ),
    _control("load-unknown", load("no_such_model"), _grpc_load("no_such_model"), index("no_such_model")),
    _control("load-empty-name-grpc", _grpc_load("")),
    _control("load-dots", load(".."), _grpc_load("../resident"), _grpc_load("a/b")),
    _control("unload-unknown", unload("no_such_model"), _grpc_unload("no_such_model")),
    _control("unload-empty-name-grpc", _grpc_unload("")),
    _control(
        "load-named-repository",
        Http("POST", "/v2/repository/main/models/resident/load"),
        _grpc_load("resident", "main"),
    ),
    _control(
        "unload-named-repository",
        Http("POST", "/v2/repository/main/models/resident/unload"),
        _grpc_unload("resident", "main"),
        infer("resident", _IN),
    ),
    _bad_load("malformed", b"{"),
    _bad_load("not-object", b"[]"),
    _bad_load("parameters-number", b'{"parameters":1}'),
    _bad_load("parameter-number", b'{"parameters":{"config":1}}'),
    _bad_load("parameter-unknown", b'{"parameters":{"other":"x"}}'),
    _bad_load("empty-object", b"{}"),
    _bad_load("no-parameters", b'{"parameters":{}}'),
    _control(
        "load-parameter-types-grpc",
        _grpc_load("resident", config=pb.ModelRepositoryParameter(int64_param=1)),
        _grpc_load("resident", other=_text("x")),
        Grpc(
            "RepositoryModelLoad",
            pb.RepositoryModelLoadRequest(model_name="resident", parameters={"file:1/model.py": _text("x")}),
        ),
        infer("resident", _IN),
    ),
    _control("unload-malformed", Http("POST", "/v2/repository/models/no_such_model/unload", b"{")),
    _control(
        "unload-parameters",
        post("/v2/repository/models/no_such_model/unload", {"parameters": {"unload_dependents": True}}),
    ),
    _control(
        "unload-parameter-number",
        post("/v2/repository/models/no_such_model/unload", {"parameters": {"unload_dependents": 1}}),
    ),
    _control(
        "unload-parameter-unknown", post("/v2/repository/models/no_such_model/unload", {"parameters": {"other": 1}})
    ),
    _control(
        "unload-parameter-types-grpc",
        _grpc_unload("no_such_model", unload_dependents=_text("x")),
        _grpc_unload("no_such_model", unload_dependents=pb.ModelRepositoryParameter(bool_param=True)),
        _grpc_unload("no_such_model", other=_text("x")),
    ),
)

_INDEX = (
    Case("index", (Http("POST", "/v2/repository/index"),)),
    Case("index-grpc", (_grpc_index(),)),
    Case("index-empty-object", (Http("POST", "/v2/repository/index", b"{}", only=("echo",)),)),
    Case(
        "index-ready",
        (
            Http("POST", "/v2/repository/index", b'{"ready":true}', only=("echo",)),
            Http("POST", "/v2/repository/index", b'{"ready":false}', only=("echo",)),
        ),
    ),
    Case("index-ready-number", (Http("POST", "/v2/repository/index", b'{"ready":1}'),)),
    Case("index-ready-string", (Http("POST", "/v2/repository/index", b'{"ready":"true"}'),)),
    Case("index-array", (Http("POST", "/v2/repository/index", b"[]", only=("echo",)),)),
    Case("index-unknown-member", (Http("POST", "/v2/repository/index", b'{"other":1}', only=("echo",)),)),
    Case(
        "index-named-repository",
        (Http("POST", "/v2/repository/main/index", only=("echo",)), _grpc_index(repository_name="main")),
    ),
)
_NOT_EXPLICIT = (
    Case("no-control-load", (load("echo"), _grpc_load("echo"))),
    Case("no-control-unload", (unload("echo"), _grpc_unload("echo"))),
    Case("no-control-load-unknown", (load("nothing"), _grpc_load("nothing"))),
    Case("no-control-load-malformed", (Http("POST", "/v2/repository/models/echo/load", b"{"),)),
    Case("no-control-unload-malformed", (Http("POST", "/v2/repository/models/echo/unload", b"{"),)),
    Case("no-control-load-named-repository", (Http("POST", "/v2/repository/main/models/echo/load"),)),
    Case("no-control-still-serves", (infer("echo", [tensor("INPUT0", "INT32", [1], [1])]),)),
)

CASES = (*_EXPLICIT, *_INDEX, *_NOT_EXPLICIT)
