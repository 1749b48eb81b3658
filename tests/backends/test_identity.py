"""The identity backend, and how backends are found."""

from typing import Any

import pytest

from tensorhub.backends.identity import IdentityBackend
from tensorhub.backends.port import InstanceSpec, ModelInstance, ModelSource
from tensorhub.backends.python.backend import PythonBackend
from tensorhub.backends.registry import find_backend
from tensorhub.errors import InvalidArgument
from tensorhub.requests import RequestedOutput, Tensor
from tensorhub.tensors import DataType
from tests.backends.python_models import config, infer_request, run


def model(text: str) -> ModelInstance:
    source = ModelSource("m", 1, "/nowhere", config(text))
    assert IdentityBackend().auto_complete(source) is source.config
    return IdentityBackend().load(source).new_instance(InstanceSpec("m_0_0"))


def text(inputs: list[str], outputs: list[str]) -> str:
    return "".join(f'input {{ name: "{name}" data_type: TYPE_INT8 dims: -1 }}' for name in inputs) + "".join(
        f'output {{ name: "{name}" data_type: TYPE_INT8 dims: -1 }}' for name in outputs
    )


def answer(instance: ModelInstance, names: list[str], requested: list[str] | None = None) -> dict[str, Any]:
    inputs = {name: Tensor(name, DataType.INT8, (1,), bytearray(name.encode()[-1:])) for name in names}
    request = infer_request(inputs=inputs, requested=[RequestedOutput(name) for name in requested or []])
    (response,) = run(instance, request)
    assert response is not None
    assert response.error is None
    assert all(any(tensor.data is item.data for item in inputs.values()) for tensor in response.outputs)
    return {tensor.name: bytes(memoryview(tensor.data)).decode() for tensor in response.outputs}


@pytest.mark.parametrize(
    ("inputs", "outputs", "expected"),
    [
        (["INPUT0", "INPUT1"], ["OUTPUT0", "OUTPUT1"], {"OUTPUT0": "0", "OUTPUT1": "1"}),
        (["INPUT0", "INPUT1"], ["OUTPUT1", "OUTPUT0"], {"OUTPUT0": "0", "OUTPUT1": "1"}),
        (["a", "b"], ["x", "y"], {"x": "a", "y": "b"}),
        (["a1", "b1"], ["x1", "y1"], {"x1": "1", "y1": "1"}),
        (["a"], ["OUTPUT3"], {"OUTPUT3": "a"}),
    ],
)
def test_outputs_are_inputs(inputs: list[str], outputs: list[str], expected: dict[str, str]) -> None:
    assert answer(model(text(inputs, outputs)), inputs) == expected


def test_wanted_and_missing() -> None:
    instance = model(text(["INPUT0", "INPUT1"], ["OUTPUT0", "OUTPUT1"]))
    assert answer(instance, ["INPUT0", "INPUT1"], ["OUTPUT1"]) == {"OUTPUT1": "1"}
    assert answer(instance, ["INPUT1"]) == {"OUTPUT1": "1"}


@pytest.mark.parametrize(
    ("config_text", "message"),
    [
        ("", "needs as many outputs as inputs, and at least one; the config has 0 inputs and 0 outputs"),
        (text(["a", "b"], ["x"]), "the config has 2 inputs and 1 outputs"),
        (
            text(["a"], []) + 'output { name: "x" data_type: TYPE_FP32 dims: -1 }',
            "returns input 'a' as output 'x', but the config has TYPE_INT8 [-1] for the input and TYPE_FP32 [-1] for",
        ),
        (text(["a"], []) + 'output { name: "x" data_type: TYPE_INT8 dims: 2 }', "TYPE_INT8 [2] for the output"),
    ],
)
def test_configs_that_are_no_identity(config_text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        model(config_text)
    assert message in caught.value.message


def test_backends_are_found_by_name() -> None:
    assert isinstance(find_backend("python"), PythonBackend)
    assert isinstance(find_backend("identity"), IdentityBackend)
    assert find_backend("python") is find_backend("python")


@pytest.mark.parametrize("name", ["no_such_backend", "", "os", "../python"])
def test_a_backend_that_is_not_there(name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        find_backend(name)
    assert caught.value.message == (
        f"unable to find backend library for backend '{name}', try specifying runtime on the model configuration."
    )
