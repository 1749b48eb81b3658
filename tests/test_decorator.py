"""`@tensorhub.model`: what it takes, what it refuses and says, and that the function stays a function."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tensorhub
from tensorhub.decorator import ATTRIBUTE, FunctionModel
from tensorhub.protocol.config_function import function_config
from tensorhub.protocol.model_config import to_text
from tensorhub.tensors import BY_NAME

_A = {"a": ("FP32", [4])}
_OUT = {"OUT": ("FP32", [4])}


def _model(function: Callable[..., Any], **options: Any) -> FunctionModel:
    found = getattr(tensorhub.model(**{"inputs": _A, "outputs": _OUT, **options})(function), ATTRIBUTE)
    assert isinstance(found, FunctionModel)
    return found


def _one(a: Any) -> Any:
    return a


def test_the_function_stays_a_function() -> None:
    @tensorhub.model(inputs=_A, outputs=_OUT)
    def double(a: Any) -> Any:
        return 2 * a

    assert double(3) == 6


@pytest.mark.parametrize(
    ("given", "datatype"),
    [
        *((name, name) for name in BY_NAME),
        ("TYPE_STRING", "BYTES"),
        (np.float32, "FP32"),
        (np.dtype("int8"), "INT8"),
        ("uint16", "UINT16"),
        (bool, "BOOL"),
        (np.bool_, "BOOL"),
        (str, "BYTES"),
        (object, "BYTES"),
    ],
)
def test_datatypes_by_any_name(given: Any, datatype: str) -> None:
    assert _model(_one, inputs={"a": (given, [1])}).inputs["a"].datatype == datatype


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"inputs": {}}, "inputs must be a dict with at least one entry"),
        ({"inputs": {"a": "FP32"}}, "input 'a' must be (datatype, shape)"),
        ({"inputs": {"a": ("FLOAT", [1])}}, "'FLOAT' is no datatype; there are BOOL,"),
        ({"inputs": {"a": ("FP32", 4)}}, "the shape must be a list of numbers"),
        ({"inputs": {"a": ("FP32", [0])}}, "dimensions are numbers of at least 1, or -1"),
        ({"inputs": {"a": ("FP32", [])}}, "there is at least one"),
        ({"outputs": {"OUT": tensorhub.TensorSpec("FP32", (1,), optional=True)}}, "only inputs can be"),
        ({"max_batch_size": -1}, "max_batch_size must be a whole number of at least 0; got -1"),
        ({"instances": 0}, "instances must be a whole number of at least 1; got 0"),
        ({"dynamic_batching": True}, "dynamic_batching needs a max_batch_size"),
        ({"dynamic_batching": 7, "max_batch_size": 1}, "must be True, False or a dict"),
        ({"inputs": {"B": ("FP32", [4])}}, "function _one has no parameter for input 'B'; its parameters are (a)"),
        ({"inputs": {"a": tensorhub.TensorSpec("FP32", (4,), optional=True)}}, "its parameter needs a default"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(tensorhub.ModelDefinitionError) as caught:
        _model(_one, **options)
    assert text in str(caught.value)
    assert "model '_one'" in str(caught.value)


def test_a_parameter_that_is_no_input_needs_a_default() -> None:
    def two(a: Any, scale: float) -> Any:
        return a

    with pytest.raises(tensorhub.ModelDefinitionError, match="needs a parameter 'scale' that is no input"):
        _model(two)
    assert _model(lambda a, scale=1.0: a).inputs
    assert _model(lambda **inputs: inputs).inputs


def test_kinds_of_functions() -> None:
    def stream(a: Any) -> Iterator[Any]:
        yield a

    async def wait(a: Any) -> Any:
        return a

    async def both(a: Any) -> AsyncIterator[Any]:
        yield a

    kinds = [(item.decoupled, item.asynchronous) for item in map(_model, (_one, stream, wait, both))]
    assert kinds == [(False, False), (True, False), (False, True), (True, True)]


def test_the_config_says_what_the_decorator_does() -> None:
    def stream(a: Any) -> Iterator[Any]:
        yield a

    model = _model(
        stream,
        name="s",
        max_batch_size=4,
        instances=2,
        parameters={"k": "v"},
        dynamic_batching={"max_queue_delay_microseconds": 5},
    )
    text = to_text(function_config(model), one_line=True)
    assert text == (
        'name: "s" max_batch_size: 4 input { name: "a" data_type: TYPE_FP32 dims: 4 } '
        'output { name: "OUT" data_type: TYPE_FP32 dims: 4 } instance_group { count: 2 } '
        'dynamic_batching { max_queue_delay_microseconds: 5 } parameters { key: "k" value { string_value: "v" } } '
        'backend: "function" model_transaction_policy { decoupled: true }'
    )
    wrong = _model(_one, max_batch_size=4, dynamic_batching={"delay": 5})
    with pytest.raises(tensorhub.ModelDefinitionError, match="delay"):
        function_config(wrong)
