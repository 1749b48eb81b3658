"""FORCE_CPU_ONLY_INPUT_TENSORS: both values, the way a model sees its inputs with them, and what is refused."""

from __future__ import annotations

from ..messages import compact, grpc_infer, grpc_tensor, infer, post, tensor
from ..steps import RUN_TOKEN, AwaitState, Case, Http, ReleaseRegion, RemoveTree, ShmCreate, Step, WriteTree

_NAME = "FORCE_CPU_ONLY_INPUT_TENSORS"
_IO = """backend: "python"
max_batch_size: 0
input [ { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] } ]
output [ { name: "OUT" data_type: TYPE_INT32 dims: [ -1 ] }, { name: "SEEN" data_type: TYPE_STRING dims: [ 1 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
"""
_JSON = {
    "backend": "python",
    "input": [{"name": "IN", "data_type": "TYPE_INT32", "dims": [-1]}],
    "output": [
        {"name": "OUT", "data_type": "TYPE_INT32", "dims": [-1]},
        {"name": "SEEN", "data_type": "TYPE_STRING", "dims": [1]},
    ],
    "instance_group": [{"count": 1, "kind": "KIND_CPU"}],
}
_MODEL = """import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            given = pb_utils.get_input_tensor_by_name(request, "IN")
            seen = np.array([f"{given.is_cpu()} {given.__dlpack_device__()}"], dtype=object)
            array = np.from_dlpack(given) if given.shape() != [0] else given.as_numpy()
            outputs = [pb_utils.Tensor("OUT", array + 1), pb_utils.Tensor("SEEN", seen)]
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses
"""


def _value(value: str) -> str:
    return f'parameters {{ key: "{_NAME}" value {{ string_value: "{value}" }} }}\n'


def _load(model: str, config: dict[str, object] | None = None) -> Http:
    path = f"/v2/repository/models/{model}/load"
    return Http("POST", path) if config is None else post(path, {"parameters": {"config": compact(config).decode()}})


def _override(value: str) -> dict[str, object]:
    return {**_JSON, "parameters": {_NAME: {"string_value": value}}}


def _case(name: str, more: str, *steps: Step) -> Case:
    model = f"place_{name.replace('-', '_')}"
    named = WriteTree(model, (("config.pbtxt", _IO + more), ("1/model.py", _MODEL)))
    end = (Http("POST", f"/v2/repository/models/{model}/unload"), AwaitState(model, "UNAVAILABLE"), RemoveTree(model))
    return Case(f"input-placement-{name}", (named, *steps, *end), server="control")


def _refused(name: str, more: str) -> Case:
    model = f"place_{name.replace('-', '_')}"
    steps = (_load(model), Http("POST", "/v2/repository/index", only=(model,)), _infer(model))
    named = WriteTree(model, (("config.pbtxt", _IO + more), ("1/model.py", _MODEL)))
    return Case(f"input-placement-{name}", (named, *steps, RemoveTree(model)), server="control")


def _infer(model: str) -> Http:
    return infer(model, [tensor("IN", "INT32", [2], [1, 2])])


def _works(name: str, more: str) -> Case:
    model = f"place_{name.replace('-', '_')}"
    region = f"{model}_region"
    key = f"/{RUN_TOKEN}-{region}"
    register = post(f"/v2/systemsharedmemory/region/{region}/register", {"key": key, "offset": 0, "byte_size": 8})
    placed = tensor("IN", "INT32", [2], shared_memory_region=region, shared_memory_byte_size=8)
    return _case(
        name,
        more,
        _load(model),
        _infer(model),
        infer(model, [tensor("IN", "INT32", [0], [])]),
        grpc_infer(model, [grpc_tensor("IN", "INT32", [2])], [b"\5\0\0\0\6\0\0\0"]),
        ShmCreate(key, b"\7\0\0\0\x08\0\0\0"),
        register,
        infer(model, [placed]),
        ReleaseRegion(region),
        Http("GET", f"/v2/models/{model}/config"),
    )


CASES = (
    _works("yes", _value("yes")),
    _works("no", _value("no")),
    _works("default", ""),
    _refused("empty", _value("")),
    _refused("no-value", f'parameters {{ key: "{_NAME}" }}\n'),
    _refused("upper-yes", _value("YES")),
    _refused("upper-no", _value("No")),
    _refused("true", _value("true")),
    _refused("number", _value("0")),
    _refused("space", _value("no ")),
    _case(
        "changes",
        _value("yes"),
        _load("place_changes"),
        _infer("place_changes"),
        _load("place_changes", _override("no")),
        _infer("place_changes"),
        _load("place_changes", _override("perhaps")),
        _infer("place_changes"),
        Http("POST", "/v2/repository/index", only=("place_changes",)),
        _load("place_changes"),
        _infer("place_changes"),
    ),
)
