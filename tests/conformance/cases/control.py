"""The repository: index, load and unload, in explicit mode (server `control`) and in mode none (server `core`)."""

from __future__ import annotations

import base64

from tritonclient.grpc import service_pb2 as pb

from ..messages import compact, infer, post, tensor
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


def _model(add: int) -> str:
    """The text of a model whose OUTPUT0 is INPUT0 + `add`."""
    return f"""import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("OUTPUT0", pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy() + {add})]
            )
            for request in requests
        ]
"""


_IN = [tensor("INPUT0", "INT32", [1], [100])]


def _load(model: str, **parameters: object) -> Http:
    path = f"/v2/repository/models/{model}/load"
    return post(path, {"parameters": parameters}) if parameters else Http("POST", path)


def _unload(model: str) -> Http:
    return Http("POST", f"/v2/repository/models/{model}/unload")


def _index(model: str, body: bytes = b"") -> Http:
    return Http("POST", "/v2/repository/index", body, only=(model,))


def _ready(model: str) -> Http:
    return Http("GET", f"/v2/models/{model}/ready")


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
            WriteFile(f"{name}/1/model.py", _model(add)),
            *steps,
            _unload(name),
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
    _control("resident", _index("resident"), _ready("resident"), infer("resident", _IN)),
    _control(
        "sleeper-is-listed",
        _index("sleeper"),
        _ready("sleeper"),
        infer("sleeper", _IN),
        Http("GET", "/v2/models/sleeper"),
    ),
    _control("server-is-ready", Http("GET", "/v2/health/ready")),
    _scratch(
        "life",
        _index("life"),
        _ready("life"),
        _load("life"),
        _index("life"),
        _ready("life"),
        infer("life", _IN),
        _unload("life"),
        AwaitState("life", "UNAVAILABLE"),
        _index("life"),
        _index("life", b'{"ready":true}'),
        _ready("life"),
        Http("GET", "/v2/models/life"),
        Http("GET", "/v2/models/life/config"),
        Http("GET", "/v2/models/life/versions/1/ready"),
        infer("life", _IN),
        infer("life", _IN, version="1"),
        _unload("life"),
        _load("life"),
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
    _scratch("load_twice", _load("load_twice"), _load("load_twice"), infer("load_twice", _IN)),
    _scratch(
        "reload_new_text",
        _load("reload_new_text"),
        infer("reload_new_text", _IN),
        WriteFile("reload_new_text/1/model.py", _model(25)),
        infer("reload_new_text", _IN),
        _load("reload_new_text"),
        infer("reload_new_text", _IN),
    ),
    _scratch(
        "reload_new_version",
        _load("reload_new_version"),
        WriteFile("reload_new_version/2/model.py", _model(2)),
        _load("reload_new_version"),
        AwaitState("reload_new_version", "READY"),
        infer("reload_new_version", _IN),
        _index("reload_new_version"),
        infer("reload_new_version", _IN, version="1"),
    ),
    _scratch(
        "reload_broken",
        _load("reload_broken"),
        WriteFile("reload_broken/1/model.py", _BROKEN),
        _load("reload_broken"),
        _ready("reload_broken"),
        infer("reload_broken", _IN),
        _index("reload_broken"),
        WriteFile("reload_broken/1/model.py", _model(3)),
        _load("reload_broken"),
        infer("reload_broken", _IN),
    ),
    _scratch(
        "load_broken",
        WriteFile("load_broken/1/model.py", _BROKEN),
        _load("load_broken"),
        _index("load_broken"),
        _ready("load_broken"),
        infer("load_broken", _IN),
        _grpc_load("load_broken"),
    ),
    _scratch(
        "load_syntax_error",
        WriteFile(
            "load_syntax_error/1/model.py",
            "class TritonPythonModel:\n    def execute(self requests):\n        return []\n",
        ),
        _load("load_syntax_error"),
        _index("load_syntax_error"),
    ),
    _scratch(
        "load_bad_config", _load("load_bad_config"), _index("load_bad_config"), config=_CONFIG + "no_such_field: 1\n"
    ),
    _scratch(
        "load_invalid_config",
        _load("load_invalid_config"),
        _index("load_invalid_config"),
        config=_CONFIG.replace("dims: [ 1 ]", "", 1),
    ),
    _scratch(
        "load_no_version",
        _load("load_no_version"),
        _index("load_no_version"),
        config=_CONFIG + "version_policy { specific { versions: 9 } }\n",
    ),
    _scratch(
        "override",
        _load("override", config=compact(_JSON_CONFIG).decode()),
        Http("GET", "/v2/models/override/config"),
        infer("override", [tensor("INPUT0", "INT32", [2, 1], [1, 2])]),
        _load("override"),
        infer("override", _IN),
    ),
    _scratch(
        "override_grpc",
        _grpc_load("override_grpc", config=_text(compact(_JSON_CONFIG).decode())),
        Http("GET", "/v2/models/override_grpc"),
        infer("override_grpc", [tensor("INPUT0", "INT32", [2, 1], [1, 2])]),
    ),
    _scratch("override_bad_json", _load("override_bad_json", config="{"), _index("override_bad_json")),
    _scratch(
        "override_unknown_field",
        _load("override_unknown_field", config='{"backend":"python","nothing":1}'),
        _index("override_unknown_field"),
    ),
    _scratch("override_empty", _load("override_empty", config=""), _index("override_empty")),
    _scratch(
        "override_other_name",
        _load("override_other_name", config=compact({**_JSON_CONFIG, "name": "x"}).decode()),
        _index("override_other_name"),
    ),
    _scratch(
        "override_bad_type", _load("override_bad_type", config=compact({**_JSON_CONFIG, "max_batch_size": -3}).decode())
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
                        "file:1/model.py": base64.b64encode(_model(7).encode()).decode(),
                    }
                }
            ),
        ),
        infer("override_files", [tensor("INPUT0", "INT32", [1, 1], [1])]),
        _index("override_files"),
    ),
    _scratch(
        "override_files_grpc",
        Grpc(
            "RepositoryModelLoad",
            pb.RepositoryModelLoadRequest(
                model_name="override_files_grpc",
                parameters={
                    "config": _text(compact(_JSON_CONFIG).decode()),
                    "file:5/model.py": pb.ModelRepositoryParameter(bytes_param=_model(8).encode()),
                },
            ),
        ),
        infer("override_files_grpc", [tensor("INPUT0", "INT32", [1, 1], [1])]),
    ),
    _scratch(
        "files_without_config",
        _load("files_without_config", **{"file:1/model.py": base64.b64encode(_model(7).encode()).decode()}),
    ),
    _control("load-unknown", _load("no_such_model"), _grpc_load("no_such_model"), _index("no_such_model")),
    _control("load-empty-name-grpc", _grpc_load("")),
    _control("load-dots", _load(".."), _grpc_load("../resident"), _grpc_load("a/b")),
    _control("unload-unknown", _unload("no_such_model"), _grpc_unload("no_such_model")),
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
    Case("no-control-load", (_load("echo"), _grpc_load("echo"))),
    Case("no-control-unload", (_unload("echo"), _grpc_unload("echo"))),
    Case("no-control-load-unknown", (_load("nothing"), _grpc_load("nothing"))),
    Case("no-control-load-malformed", (Http("POST", "/v2/repository/models/echo/load", b"{"),)),
    Case("no-control-unload-malformed", (Http("POST", "/v2/repository/models/echo/unload", b"{"),)),
    Case("no-control-load-named-repository", (Http("POST", "/v2/repository/main/models/echo/load"),)),
    Case("no-control-still-serves", (infer("echo", [tensor("INPUT0", "INT32", [1], [1])]),)),
)

CASES = (*_EXPLICIT, *_INDEX, *_NOT_EXPLICIT)
