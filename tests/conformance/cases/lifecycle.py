"""The life of models: versions, reloads that work and that fail, the index, poll mode, several repositories.

`control` is in explicit mode, `poll` follows its repository; `duplicates` and `namespaces` serve two repositories that
hold models of the same name.
"""

from __future__ import annotations

from tritonclient.grpc import service_pb2 as pb

from ..messages import compact, grpc_infer, grpc_tensor, infer, tensor
from ..repository import index, load, ready, unload
from ..steps import AwaitAnswer, AwaitState, Case, Grpc, Http, RemoveTree, Step, WriteFile, WriteTree

_IO = """max_batch_size: 0
input [ { name: "INPUT0" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 1 ] } ]
"""
_CONFIG = f'backend: "python"\n{_IO}instance_group [ {{ count: 1 kind: KIND_CPU }} ]\n'
_JSON_IO = {
    "input": [{"name": "INPUT0", "data_type": "TYPE_INT32", "dims": [1]}],
    "output": [{"name": "OUTPUT0", "data_type": "TYPE_INT32", "dims": [1]}],
    "instance_group": [{"count": 1, "kind": "KIND_CPU"}],
}
_BROKEN = "class TritonPythonModel:\n    def initialize(self, args):\n        raise RuntimeError('not today')\n"
_IN = [tensor("INPUT0", "INT32", [1], [100])]


def _model(add: int, more: str = "") -> str:
    """The text of a model whose OUTPUT0 is INPUT0 + `add`; `more` are further methods."""
    return f"""import triton_python_backend_utils as pb_utils


class TritonPythonModel:
{more}
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("OUTPUT0", pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy() + {add})]
            )
            for request in requests
        ]
"""


_COMPLETES = """
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "INPUT0", "data_type": "TYPE_INT32", "dims": [1]})
        config.add_output({"name": "OUTPUT0", "data_type": "TYPE_INT32", "dims": [1]})
        config.set_max_batch_size(0)
        return config
"""


def _fails_first(times: int) -> str:
    """The text of a model whose first loads fail; attempts are counted outside its folder, which must not change."""
    return _model(
        0,
        f"""
    def initialize(self, args):
        from pathlib import Path
        attempts = Path(args["model_repository"]).parent.parent / f"attempts-{{args['model_name']}}"
        count = int(attempts.read_text()) + 1 if attempts.exists() else 1
        attempts.write_text(str(count))
        if count <= {times}:
            raise RuntimeError(f"attempt {{count}}")
""",
    )


def _policy(text: str) -> str:
    return f"{_CONFIG}version_policy {{ {text} }}\n"


def _grpc_index(*models: str, ready: bool = False) -> Grpc:
    return Grpc("RepositoryIndex", pb.RepositoryIndexRequest(ready=ready), only=models)


def _show(model: str) -> Http:
    return Http("GET", f"/v2/models/{model}")


def _config(model: str) -> Http:
    return Http("GET", f"/v2/models/{model}/config")


def _infer(model: str, version: str = "") -> Http:
    return infer(model, _IN, version=version)


def _answers(model: str, value: int) -> AwaitAnswer:
    """Wait until the model answers with this value."""
    return AwaitAnswer(_infer(model), f"[{value}]")


_SERVER_READY = Http("GET", "/v2/health/ready")
_SERVER_LIVE = Http("GET", "/v2/health/live")


def _tree(config: str | None = _CONFIG, **versions: int | str) -> tuple[tuple[str, str], ...]:
    """The files of a model: `v1=5` is a version 1 that adds 5, `v1="text"` one with that model.py."""
    files = [] if config is None else [("config.pbtxt", config)]
    for version, content in versions.items():
        files.append((f"{version[1:]}/model.py", content if isinstance(content, str) else _model(content)))
    return tuple(files)


def _explicit(name: str, *steps: Step, files: tuple[tuple[str, str], ...] = _tree(v1=1), remove: bool = True) -> Case:
    """Steps on a model of the case's own, which is unloaded and removed after them."""
    model = f"life_{name}"
    end: tuple[Step, ...] = (unload(model), *((RemoveTree(model),) if remove else ()))
    return Case(f"lifecycle-{name}", (WriteTree(model, files), *steps, *end), server="control")


def _polls(name: str) -> tuple[Step, ...]:
    """Let what was written before be seen and dealt with: a model appears, after it a second one, and a third one.

    The poll that finds the first may have begun before the rest was written; what the next one finds is loaded when the
    one after it has been dealt with.
    """
    return tuple(
        step
        for number in (1, 2, 3)
        for step in (WriteTree(f"{name}_{number}", _tree(v1=0)), AwaitAnswer(_infer(f"{name}_{number}"), "[100]"))
    )


def _remove(*models: str) -> tuple[Step, ...]:
    return tuple(map(RemoveTree, models))


_EXPLICIT = (
    _explicit(
        "latest_two",
        load("life_latest_two"),
        index("life_latest_two"),
        _show("life_latest_two"),
        _infer("life_latest_two"),
        _infer("life_latest_two", "1"),
        _infer("life_latest_two", "2"),
        WriteFile("life_latest_two/4/model.py", _model(4)),
        load("life_latest_two"),
        AwaitState("life_latest_two", "READY"),
        index("life_latest_two"),
        _show("life_latest_two"),
        _infer("life_latest_two"),
        _infer("life_latest_two", "2"),
        _infer("life_latest_two", "3"),
        files=_tree(_policy("latest { num_versions: 2 }"), v1=1, v2=2, v3=3),
    ),
    _explicit(
        "specific_changes",
        load("life_specific_changes"),
        index("life_specific_changes"),
        WriteFile("life_specific_changes/config.pbtxt", _policy("specific { versions: 2 }")),
        load("life_specific_changes"),
        AwaitState("life_specific_changes", "READY"),
        index("life_specific_changes"),
        index("life_specific_changes", body=b'{"ready":true}'),
        _infer("life_specific_changes"),
        _infer("life_specific_changes", "1"),
        _infer("life_specific_changes", "3"),
        WriteFile("life_specific_changes/config.pbtxt", _policy("specific { versions: [ 1, 2, 3 ] }")),
        load("life_specific_changes"),
        index("life_specific_changes"),
        _show("life_specific_changes"),
        files=_tree(_policy("specific { versions: [ 1, 3 ] }"), v1=1, v2=2, v3=3),
    ),
    _explicit(
        "specific_missing",
        load("life_specific_missing"),
        index("life_specific_missing"),
        _show("life_specific_missing"),
        files=_tree(_policy("specific { versions: [ 1, 9 ] }"), v1=1, v2=2),
    ),
    _explicit(
        "version_removed",
        load("life_version_removed"),
        RemoveTree("life_version_removed/2"),
        _infer("life_version_removed"),
        load("life_version_removed"),
        AwaitState("life_version_removed", "READY"),
        index("life_version_removed"),
        _infer("life_version_removed"),
        _infer("life_version_removed", "2"),
        ready("life_version_removed", "2"),
        files=_tree(_policy("all { }"), v1=1, v2=2),
    ),
    _explicit(
        "all_versions_removed",
        load("life_all_versions_removed"),
        RemoveTree("life_all_versions_removed/1"),
        load("life_all_versions_removed"),
        index("life_all_versions_removed"),
        _infer("life_all_versions_removed"),
    ),
    _explicit(
        "instance_group_changes",
        load("life_instance_group_changes"),
        WriteFile("life_instance_group_changes/config.pbtxt", _CONFIG.replace("count: 1", "count: 3")),
        load("life_instance_group_changes"),
        _config("life_instance_group_changes"),
        _infer("life_instance_group_changes"),
        index("life_instance_group_changes"),
    ),
    _explicit(
        "batch_size_changes",
        load("life_batch_size_changes"),
        WriteFile("life_batch_size_changes/config.pbtxt", _CONFIG.replace("size: 0", "size: 2")),
        load("life_batch_size_changes"),
        _show("life_batch_size_changes"),
        _infer("life_batch_size_changes"),
        infer("life_batch_size_changes", [tensor("INPUT0", "INT32", [2, 1], [1, 2])]),
    ),
    _explicit(
        "reload_one_version_fails",
        load("life_reload_one_version_fails"),
        WriteFile("life_reload_one_version_fails/2/model.py", _BROKEN),
        load("life_reload_one_version_fails"),
        _infer("life_reload_one_version_fails", "1"),
        _infer("life_reload_one_version_fails", "2"),
        _infer("life_reload_one_version_fails"),
        ready("life_reload_one_version_fails"),
        files=_tree(_policy("all { }"), v1=1, v2=2),
    ),
    _explicit(
        "reload_new_version_fails",
        load("life_reload_new_version_fails"),
        WriteFile("life_reload_new_version_fails/2/model.py", _BROKEN),
        load("life_reload_new_version_fails"),
        _infer("life_reload_new_version_fails"),
        _infer("life_reload_new_version_fails", "2"),
        index("life_reload_new_version_fails", body=b'{"ready":true}'),
    ),
    _explicit(
        "reload_fails_twice",
        load("life_reload_fails_twice"),
        WriteFile("life_reload_fails_twice/1/model.py", _BROKEN),
        load("life_reload_fails_twice"),
        load("life_reload_fails_twice"),
        _infer("life_reload_fails_twice"),
        index("life_reload_fails_twice"),
    ),
    _explicit(
        "fails_then_works",
        load("life_fails_then_works"),
        index("life_fails_then_works"),
        _infer("life_fails_then_works"),
        _infer("life_fails_then_works", "1"),
        ready("life_fails_then_works"),
        _show("life_fails_then_works"),
        _config("life_fails_then_works"),
        WriteFile("life_fails_then_works/1/model.py", _model(6)),
        load("life_fails_then_works"),
        index("life_fails_then_works"),
        _infer("life_fails_then_works"),
        files=_tree(v1=_BROKEN),
    ),
    _explicit(
        "fails_twice",
        load("life_fails_twice"),
        load("life_fails_twice"),
        index("life_fails_twice"),
        _grpc_index("life_fails_twice"),
        _grpc_index("life_fails_twice", ready=True),
        files=_tree(v1=_BROKEN),
    ),
    _explicit(
        "failed_is_unloaded",
        load("life_failed_is_unloaded"),
        unload("life_failed_is_unloaded"),
        index("life_failed_is_unloaded"),
        _infer("life_failed_is_unloaded"),
        files=_tree(v1=_BROKEN),
    ),
    _explicit(
        "readiness_of_an_unloaded_model",
        load("life_readiness_of_an_unloaded_model"),
        unload("life_readiness_of_an_unloaded_model"),
        AwaitState("life_readiness_of_an_unloaded_model", "UNAVAILABLE"),
        Grpc("ModelReady", pb.ModelReadyRequest(name="life_readiness_of_an_unloaded_model")),
    ),
    _explicit(
        "unload_twice",
        load("life_unload_twice"),
        unload("life_unload_twice"),
        AwaitState("life_unload_twice", "UNAVAILABLE"),
        unload("life_unload_twice"),
        index("life_unload_twice"),
        load("life_unload_twice"),
        index("life_unload_twice"),
        _infer("life_unload_twice"),
    ),
    _explicit(
        "never_loaded",
        index("life_never_loaded"),
        index("life_never_loaded", body=b'{"ready":true}'),
        _grpc_index("life_never_loaded"),
        _grpc_index("life_never_loaded", ready=True),
        _infer("life_never_loaded"),
        _infer("life_never_loaded", "1"),
        ready("life_never_loaded"),
        _show("life_never_loaded"),
        _config("life_never_loaded"),
        unload("life_never_loaded"),
        index("life_never_loaded"),
    ),
    _explicit(
        "folder_removed",
        load("life_folder_removed"),
        RemoveTree("life_folder_removed"),
        _infer("life_folder_removed"),
        index("life_folder_removed"),
        unload("life_folder_removed"),
        AwaitAnswer(_infer("life_folder_removed"), '"error"'),
        index("life_folder_removed"),
        _infer("life_folder_removed"),
        load("life_folder_removed"),
        remove=False,
    ),
    _explicit(
        "load_of_a_removed_folder",
        load("life_load_of_a_removed_folder"),
        RemoveTree("life_load_of_a_removed_folder"),
        load("life_load_of_a_removed_folder"),
        _infer("life_load_of_a_removed_folder"),
        index("life_load_of_a_removed_folder"),
        remove=False,
    ),
    _explicit(
        "config_breaks",
        load("life_config_breaks"),
        WriteFile("life_config_breaks/config.pbtxt", "no_such_field: 1\n"),
        load("life_config_breaks"),
        _infer("life_config_breaks"),
        index("life_config_breaks"),
        ready("life_config_breaks"),
        WriteFile("life_config_breaks/config.pbtxt", _CONFIG),
        load("life_config_breaks"),
        _infer("life_config_breaks"),
    ),
    _explicit(
        "config_names_another_model",
        load("life_config_names_another_model"),
        WriteFile("life_config_names_another_model/config.pbtxt", 'name: "other"\n' + _CONFIG),
        load("life_config_names_another_model"),
        _infer("life_config_names_another_model"),
        index("life_config_names_another_model"),
    ),
    _explicit(
        "override_versions",
        load(
            "life_override_versions",
            config=compact({"backend": "python", "version_policy": {"all": {}}, **_JSON_IO}).decode(),
        ),
        index("life_override_versions"),
        _show("life_override_versions"),
        load("life_override_versions"),
        AwaitState("life_override_versions", "READY"),
        index("life_override_versions"),
        files=_tree(v1=1, v2=2),
    ),
    _explicit(
        "override_fails",
        load("life_override_fails"),
        load("life_override_fails", config="{"),
        _infer("life_override_fails"),
        load("life_override_fails", config='{"backend":"python","max_batch_size":-1}'),
        _infer("life_override_fails"),
        index("life_override_fails"),
    ),
    _explicit(
        "override_no_version",
        load("life_override_no_version"),
        load(
            "life_override_no_version",
            config=compact(
                {"backend": "python", "version_policy": {"specific": {"versions": [7]}}, **_JSON_IO}
            ).decode(),
        ),
        _infer("life_override_no_version"),
        index("life_override_no_version"),
    ),
    _explicit(
        "override_then_unload_then_load",
        load(
            "life_override_then_unload_then_load",
            config=compact({"backend": "python", "max_batch_size": 4, **_JSON_IO}).decode(),
        ),
        unload("life_override_then_unload_then_load"),
        AwaitState("life_override_then_unload_then_load", "UNAVAILABLE"),
        load("life_override_then_unload_then_load"),
        _show("life_override_then_unload_then_load"),
    ),
    _explicit(
        "no_config_completes",
        load("life_no_config_completes"),
        _show("life_no_config_completes"),
        _config("life_no_config_completes"),
        _infer("life_no_config_completes"),
        files=_tree(None, v1=_model(2, _COMPLETES)),
    ),
    _explicit(
        "no_config_no_tensors",
        load("life_no_config_no_tensors"),
        index("life_no_config_no_tensors"),
        _show("life_no_config_no_tensors"),
        _infer("life_no_config_no_tensors"),
        files=_tree(None, v1=2),
    ),
    _explicit(
        "config_without_backend",
        load("life_config_without_backend"),
        _config("life_config_without_backend"),
        _infer("life_config_without_backend"),
        files=_tree(_IO, v1=2),
    ),
    _explicit(
        "config_empty",
        load("life_config_empty"),
        _config("life_config_empty"),
        files=_tree("", v1=_model(2, _COMPLETES)),
    ),
    _explicit(
        "nothing_in_the_folder",
        load("life_nothing_in_the_folder"),
        index("life_nothing_in_the_folder"),
        files=(("notes.txt", "nothing here"),),
    ),
    _explicit(
        "config_without_versions",
        load("life_config_without_versions"),
        index("life_config_without_versions"),
        _infer("life_config_without_versions"),
        files=_tree(),
    ),
    _explicit(
        "other_file_name",
        load("life_other_file_name"),
        _config("life_other_file_name"),
        _infer("life_other_file_name"),
        files=(
            ("config.pbtxt", _CONFIG + 'default_model_filename: "other.py"\n'),
            ("1/other.py", _model(9)),
        ),
    ),
    _explicit(
        "backend_unknown",
        load("life_backend_unknown"),
        _infer("life_backend_unknown"),
        files=_tree(_CONFIG.replace('"python"', '"no_such_backend"'), v1=1),
    ),
    _explicit(
        "pair_wrong",
        load("life_pair_wrong"),
        index("life_pair_wrong"),
        files=_tree('platform: "onnxruntime_onnx"\n' + _CONFIG, v1=1),
    ),
    _explicit(
        "platform_wrong",
        load("life_platform_wrong"),
        index("life_platform_wrong"),
        files=_tree(_CONFIG.replace("backend", "platform").replace("python", "no_such_platform"), v1=1),
    ),
    _explicit(
        "labels_missing",
        load("life_labels_missing"),
        _infer("life_labels_missing"),
        files=_tree(_CONFIG.replace("dims: [ 1 ] } ]\nins", 'dims: [ 1 ] label_filename: "l.txt" } ]\nins'), v1=1),
    ),
    _explicit(
        "fails_once",
        load("life_fails_once"),
        load("life_fails_once"),
        _infer("life_fails_once"),
        files=_tree(v1=_fails_first(1)),
    ),
    _explicit(
        "load_grpc_then_unload_http",
        Grpc("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="life_load_grpc_then_unload_http")),
        _infer("life_load_grpc_then_unload_http"),
        grpc_infer("life_load_grpc_then_unload_http", [grpc_tensor("INPUT0", "INT32", [1])], [bytes(4)]),
        unload("life_load_grpc_then_unload_http"),
        AwaitState("life_load_grpc_then_unload_http", "UNAVAILABLE"),
        grpc_infer("life_load_grpc_then_unload_http", [grpc_tensor("INPUT0", "INT32", [1])], [bytes(4)]),
        grpc_infer(
            "life_load_grpc_then_unload_http",
            [grpc_tensor("INPUT0", "INT32", [1])],
            [bytes(4)],
            model_version="1",
        ),
        Grpc("ModelConfig", pb.ModelConfigRequest(name="life_load_grpc_then_unload_http")),
        Grpc("ModelMetadata", pb.ModelMetadataRequest(name="life_load_grpc_then_unload_http", version="1")),
    ),
    _explicit(
        "load_broken_grpc",
        Grpc("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="life_load_broken_grpc")),
        _grpc_index("life_load_broken_grpc"),
        Grpc("ModelReady", pb.ModelReadyRequest(name="life_load_broken_grpc", version="1")),
        files=_tree(v1=_BROKEN),
    ),
    _explicit(
        "unload_dependents",
        load("life_unload_dependents"),
        unload("life_unload_dependents", dependents=True),
        AwaitState("life_unload_dependents", "UNAVAILABLE"),
        index("life_unload_dependents"),
    ),
    _explicit(
        "unload_dependents_false",
        load("life_unload_dependents_false"),
        unload("life_unload_dependents_false", dependents=False),
        AwaitState("life_unload_dependents_false", "UNAVAILABLE"),
        index("life_unload_dependents_false"),
    ),
    _explicit(
        "hidden_folder",
        WriteTree(".life_hidden", _tree(v1=1)),
        index(".life_hidden"),
        RemoveTree(".life_hidden"),
    ),
    _explicit(
        "finalize_raises",
        load("life_finalize_raises"),
        unload("life_finalize_raises"),
        AwaitState("life_finalize_raises", "UNAVAILABLE"),
        index("life_finalize_raises"),
        files=_tree(v1=_model(1, "    def finalize(self):\n        raise RuntimeError('at the end')\n")),
    ),
    _explicit(
        "touched",
        load("life_touched"),
        WriteFile("life_touched/notes.txt", "a note"),
        load("life_touched"),
        _infer("life_touched"),
        index("life_touched"),
    ),
)

_POLL = (
    Case(
        "lifecycle-poll-control-is-refused",
        (
            load("resident"),
            unload("resident"),
            Grpc("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="resident")),
            Grpc("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="resident")),
            index("resident"),
            _infer("resident"),
        ),
        server="poll",
    ),
    Case(
        "lifecycle-poll-follows",
        (
            WriteTree("poll_new", _tree(v1=1)),
            WriteTree("poll_text", _tree(v1=1)),
            WriteTree("poll_config", _tree(v1=1)),
            WriteTree("poll_versions", _tree(_policy("all { }"), v1=1)),
            WriteTree("poll_special", (*_tree(v1=1), ("configs/special.pbtxt", _CONFIG.replace("size: 0", "size: 8")))),
            WriteTree("poll_other", (*_tree(v1=1), ("configs/other.pbtxt", _CONFIG.replace("size: 0", "size: 8")))),
            WriteTree("poll_retried", _tree(v1=_fails_first(1))),
            *_polls("poll_follows"),
            index("poll_new", "poll_text", "poll_config", "poll_versions", "poll_special", "poll_other"),
            _infer("poll_new"),
            _show("poll_new"),
            _config("poll_special"),
            _config("poll_other"),
            _infer("poll_retried"),
            index("poll_retried"),
            _SERVER_READY,
            WriteFile("poll_text/1/model.py", _model(7)),
            WriteFile("poll_config/config.pbtxt", _CONFIG.replace("count: 1", "count: 2")),
            WriteTree("poll_versions/2", (("model.py", _model(2)),)),
            RemoveTree("poll_special/configs"),
            RemoveTree("poll_new"),
            *_polls("poll_follows_on"),
            _infer("poll_text"),
            index("poll_text"),
            _config("poll_config"),
            _infer("poll_config"),
            index("poll_versions"),
            _infer("poll_versions"),
            _infer("poll_versions", "1"),
            _config("poll_special"),
            _infer("poll_new"),
            _infer("poll_new", "1"),
            ready("poll_new"),
            _show("poll_new"),
            index("poll_new"),
            _SERVER_READY,
            *_remove("poll_text", "poll_config", "poll_versions", "poll_special", "poll_other", "poll_retried"),
            *_remove(
                "poll_follows_1",
                "poll_follows_2",
                "poll_follows_3",
                "poll_follows_on_1",
                "poll_follows_on_2",
                "poll_follows_on_3",
            ),
        ),
        server="poll",
    ),
    Case(
        "lifecycle-poll-fails",
        (
            WriteTree("poll_breaks", _tree(v1=1)),
            WriteTree("poll_bad_config", _tree(v1=1)),
            WriteTree("poll_bad_special", (*_tree(v1=1), ("configs/special.pbtxt", "no_such_field: 1\n"))),
            WriteTree("poll_broken", _tree(v1=_BROKEN)),
            WriteTree("poll_never", _tree("no_such_field: 1\n", v1=1)),
            WriteTree("poll_no_version", _tree()),
            *_polls("poll_fails"),
            index("poll_breaks", "poll_bad_config", "poll_bad_special"),
            _infer("poll_broken"),
            ready("poll_broken"),
            index("poll_never"),
            _infer("poll_never"),
            index("poll_no_version"),
            _infer("poll_no_version"),
            _infer("poll_bad_special"),
            _SERVER_READY,
            _SERVER_LIVE,
            WriteFile("poll_breaks/1/model.py", _BROKEN),
            WriteFile("poll_bad_config/config.pbtxt", "no_such_field: 1\n"),
            WriteFile("poll_broken/1/model.py", _model(5)),
            WriteFile("poll_never/config.pbtxt", _CONFIG),
            WriteTree("poll_no_version/3", (("model.py", _model(3)),)),
            *_polls("poll_fails_on"),
            _infer("poll_breaks"),
            index("poll_breaks"),
            ready("poll_breaks"),
            _infer("poll_bad_config"),
            index("poll_bad_config"),
            ready("poll_bad_config"),
            _infer("poll_broken"),
            index("poll_broken"),
            _infer("poll_never"),
            _infer("poll_no_version"),
            index("poll_no_version"),
            _SERVER_READY,
            RemoveTree("poll_bad_special"),
            WriteFile("poll_breaks/1/model.py", _model(6)),
            WriteFile("poll_bad_config/config.pbtxt", _CONFIG.replace("size: 0", "size: 2")),
            *_polls("poll_fails_off"),
            _infer("poll_breaks"),
            _show("poll_bad_config"),
            _SERVER_READY,
            *_remove("poll_breaks", "poll_bad_config", "poll_broken", "poll_never", "poll_no_version"),
            *_remove(
                "poll_fails_1", "poll_fails_2", "poll_fails_3", "poll_fails_on_1", "poll_fails_on_2", "poll_fails_on_3"
            ),
            *_remove("poll_fails_off_1", "poll_fails_off_2", "poll_fails_off_3"),
        ),
        server="poll",
    ),
)


def _two(name: str, server: str, *steps: Step) -> Case:
    return Case(f"lifecycle-{name}", steps, server=server)


_REPOSITORIES = (
    _two("duplicates-index", "duplicates", index("both", "first", "second"), _grpc_index("both", "first", "second")),
    _two("duplicates-index-ready", "duplicates", index("both", "first", "second", body=b'{"ready":true}')),
    _two("duplicates-infer", "duplicates", _infer("both"), _infer("both", "1"), ready("both"), _show("both")),
    _two("duplicates-others", "duplicates", _infer("first"), _infer("second")),
    _two("duplicates-readiness", "duplicates", _SERVER_READY, _SERVER_LIVE),
    _two("duplicates-load", "duplicates", load("both"), unload("both"), index("both")),
    _two("namespaces-index", "namespaces", index("both", "first", "second"), _grpc_index("both", "first", "second")),
    _two("namespaces-infer", "namespaces", _infer("first"), _infer("second")),
    _two(
        "namespaces-ambiguous",
        "namespaces",
        _infer("both"),
        _infer("both", "1"),
        grpc_infer("both", [grpc_tensor("INPUT0", "INT32", [1])], [bytes(4)]),
        ready("both"),
        _show("both"),
        _config("both"),
        Grpc("ModelReady", pb.ModelReadyRequest(name="both")),
        Grpc("ModelMetadata", pb.ModelMetadataRequest(name="both")),
    ),
    *(
        _two(f"namespaces-ensemble-{name}", "namespaces", _infer(name), index(name))
        for name in (
            "own_of_a",
            "own_of_b",
            "across",
            "twin_chain",
            "of_twin_a",
            "of_twin_b",
            "says_otherwise",
            "across_and_otherwise",
        )
    ),
    *(
        _two(f"duplicates-ensemble-{name}", "duplicates", _infer(name), index(name))
        for name in ("own_of_a", "across", "twin_chain", "across_and_otherwise")
    ),
    _two("namespaces-readiness", "namespaces", _SERVER_READY),
    _two("namespaces-unknown", "namespaces", _infer("neither"), load("neither"), unload("neither")),
    _two(
        "namespaces-unload",
        "namespaces",
        unload("both"),
        AwaitState("both", "UNAVAILABLE"),
        index("both"),
        _infer("both"),
        load("both"),
        index("both"),
    ),
)

CASES = (*_EXPLICIT, *_POLL, *_REPOSITORIES)
