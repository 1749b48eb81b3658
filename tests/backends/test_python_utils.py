"""The parts of `triton_python_backend_utils` that need no model."""

import json
import logging
import re
from typing import Any

import numpy as np
import pytest

from tensorhub.backends.python import utils as pb_utils
from tensorhub.backends.python.autocomplete import ModelConfig, merge
from tensorhub.errors import InternalError
from tensorhub.protocol import config_json
from tests.backends.python_models import config


@pytest.mark.parametrize(
    ("number", "text", "numpy"),
    [
        (1, "TYPE_BOOL", np.bool_),
        (2, "TYPE_UINT8", np.uint8),
        (3, "TYPE_UINT16", np.uint16),
        (4, "TYPE_UINT32", np.uint32),
        (5, "TYPE_UINT64", np.uint64),
        (6, "TYPE_INT8", np.int8),
        (7, "TYPE_INT16", np.int16),
        (8, "TYPE_INT32", np.int32),
        (9, "TYPE_INT64", np.int64),
        (10, "TYPE_FP16", np.float16),
        (11, "TYPE_FP32", np.float32),
        (12, "TYPE_FP64", np.float64),
        (13, "TYPE_STRING", np.object_),
    ],
)
def test_types(number: int, text: str, numpy: type[Any]) -> None:
    assert pb_utils.triton_to_numpy_type(number) is numpy
    assert pb_utils.numpy_to_triton_type(numpy) == number
    assert np.dtype(pb_utils.triton_string_to_numpy(text)) == np.dtype(numpy)
    assert pb_utils.Tensor("x", np.zeros(1, numpy)).triton_dtype() == number


def test_types_without_a_counterpart() -> None:
    assert pb_utils.triton_to_numpy_type(14) is None
    assert pb_utils.numpy_to_triton_type(np.complex64) is None
    assert pb_utils.numpy_to_triton_type(np.bytes_) == 13
    with pytest.raises(KeyError):
        pb_utils.triton_string_to_numpy("TYPE_BF16")


def test_byte_tensors() -> None:
    array = np.array([b"a", "bc"], np.object_)
    data = pb_utils.serialize_byte_tensor(array)
    assert data == b"\1\0\0\0a\2\0\0\0bc"
    assert pb_utils.deserialize_bytes_tensor(data).tolist() == [b"a", b"bc"]
    assert pb_utils.serialize_byte_tensor(np.array([], np.object_)) == ()
    assert pb_utils.serialize_byte_tensor(np.zeros(1)) is None


def test_lookups() -> None:
    document = {"input": [{"name": "A"}], "output": [{"name": "B"}], "model_transaction_policy": {"decoupled": True}}
    assert pb_utils.get_input_config_by_name(document, "A") == {"name": "A"}
    assert pb_utils.get_input_config_by_name(document, "B") is None
    assert pb_utils.get_output_config_by_name(document, "B") == {"name": "B"}
    assert pb_utils.get_output_config_by_name({}, "B") is None
    assert pb_utils.using_decoupled_model_transaction_policy(document)
    assert not pb_utils.using_decoupled_model_transaction_policy({})
    tensor = pb_utils.Tensor("A", np.zeros(1))
    response = pb_utils.InferenceResponse([tensor])
    assert pb_utils.get_output_tensor_by_name(response, "A") is tensor
    assert pb_utils.get_output_tensor_by_name(response, "B") is None
    request = pb_utils.InferenceRequest(inputs=[tensor])
    assert pb_utils.get_input_tensor_by_name(request, "A") is tensor
    assert pb_utils.get_input_tensor_by_name(request, "B") is None


def test_tensors_keep_contiguous_arrays() -> None:
    array = np.zeros((2, 3), np.float32)
    tensor = pb_utils.Tensor("x", array)
    assert tensor.as_numpy() is array
    assert (tensor.name(), tensor.shape(), tensor.is_cpu()) == ("x", [2, 3], True)
    assert pb_utils.Tensor("x", array.T).as_numpy().flags.c_contiguous
    assert pb_utils.Tensor("x", np.array(["a"])).as_numpy().dtype == np.object_


@pytest.mark.parametrize("dtype", ["c8", "M8[s]", ">i4", "V3"])
def test_arrays_of_other_types(dtype: str) -> None:
    with pytest.raises(pb_utils.TritonModelException, match=r"^NumPy dtype is not supported\.$"):
        pb_utils.Tensor("x", np.zeros(1, dtype))


@pytest.mark.parametrize(("name", "array"), [(5, np.zeros(1)), ("x", [1]), ("x", np.float32(3)), ("x", None)])
def test_tensors_of_something_else(name: Any, array: Any) -> None:
    with pytest.raises(TypeError) as caught:
        pb_utils.Tensor(name, array)
    assert str(caught.value).endswith(f"Invoked with: {name!r}, {array!r}")


def test_dlpack_both_ways() -> None:
    array = np.arange(6, dtype=np.int64).reshape(2, 3)
    tensor = pb_utils.Tensor.from_dlpack("x", array)
    assert np.shares_memory(tensor.as_numpy(), array)
    assert tensor.__dlpack_device__() == (1, 0)
    assert np.from_dlpack(tensor).tolist() == array.tolist()
    assert pb_utils.Tensor.from_dlpack("y", tensor.to_dlpack()).as_numpy().tolist() == array.tolist()


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ([1], "Provided tensor is not supported. Tensor must be a DLPack capsule or have `__dlpack__`"),
        (np.arange(6).reshape(2, 3).T, "DLPack tensor is not contiguous. Only contiguous DLPack tensors"),
    ],
)
def test_dlpack_of_something_else(source: Any, text: str) -> None:
    with pytest.raises(pb_utils.TritonModelException) as caught:
        pb_utils.Tensor.from_dlpack("x", source)
    assert str(caught.value).startswith(text)


def test_strings_have_no_dlpack() -> None:
    with pytest.raises(pb_utils.TritonModelException, match=r"^DLPack does not have support for string tensors\.$"):
        pb_utils.Tensor("x", np.array([b"a"], np.object_)).to_dlpack()


def test_responses() -> None:
    tensor = pb_utils.Tensor("x", np.zeros(1))
    response = pb_utils.InferenceResponse((tensor,), parameters={"a": 1})
    assert response.output_tensors() == [tensor]
    assert (response.has_error(), response.error(), response.parameters()) == (False, None, '{"a": 1}')
    error = pb_utils.TritonError("no")
    assert pb_utils.InferenceResponse(error=error).error() is error
    assert pb_utils.InferenceResponse([], error).has_error()
    assert (error.code(), error.message()) == (pb_utils.TritonError.INTERNAL, "no")


@pytest.mark.parametrize(
    ("arguments", "shown"), [([None], "None"), ([[5]], "[5]"), (["text"], "'text'"), ([[], 5], "[], kwargs: error=5")]
)
def test_responses_of_something_else(arguments: list[Any], shown: str) -> None:
    with pytest.raises(TypeError) as caught:
        pb_utils.InferenceResponse(*arguments)
    assert str(caught.value).endswith(f"Invoked with: {shown}")


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({1: 2}, "Expect parameters keys to have type str, found type <class 'int'>"),
        ({"a": [2]}, "Expect parameters values to have type bool/int/str, found type <class 'list'>"),
        ({"a": 1.5}, "Expect parameters values to have type bool/int/str, found type <class 'float'>"),
        ([1], "Expect parameters to have type dict, found type <class 'list'>"),
    ],
)
def test_parameters_of_wrong_types(parameters: Any, text: str) -> None:
    for make in (pb_utils.InferenceRequest, pb_utils.InferenceResponse):
        with pytest.raises(pb_utils.TritonModelException) as caught:
            make(parameters=parameters)
        assert str(caught.value) == text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"correlation_id": 1.5}, "Correlation ID must be integer or string"),
        ({"inputs": [None]}, "Input tensor for request with id '' and model name 'm' should not be empty."),
        (
            {"requested_output_names": [""]},
            "Requested output name for request with id '' and model name 'm' should not be empty.",
        ),
    ],
)
def test_requests_of_a_models_own_that_are_wrong(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(pb_utils.TritonModelException) as caught:
        pb_utils.InferenceRequest(model_name="m", **arguments)
    assert str(caught.value) == text


def test_requests_of_a_models_own() -> None:
    memory = pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU)
    request = pb_utils.InferenceRequest("id", "c", [], ["a"], "m", 2, 1, 9, memory, pb_utils.InferenceTrace(), {"p": 1})
    assert (request.request_id(), request.correlation_id(), request.inputs()) == ("id", "c", [])
    assert (request.requested_output_names(), request.flags(), request.timeout()) == ({"a"}, 1, 9)
    assert (request.model_name(), request.model_version(), request.parameters()) == ("m", 2, '{"p": 1}')
    assert request.preferred_memory() is memory
    request.set_flags(pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END)
    assert request.flags() == 2
    assert not request.is_cancelled()
    assert request.output_view("a") is None
    with pytest.raises(pb_utils.TritonModelException):
        request.get_response_sender()
    request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_ALL)


def test_the_logger(caplog: pytest.LogCaptureFixture) -> None:
    logger = pb_utils.Logger
    with caplog.at_level(logging.DEBUG, "tensorhub.model"):
        logger.log("plain 100 %s")
        logger.log("chosen", logger.ERROR)
        logger.log_info("i")
        logger.log_warn("w")
        logger.log_error("e")
        logger.log_verbose("v")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "plain 100 %s"),
        ("ERROR", "chosen"),
        ("INFO", "i"),
        ("WARNING", "w"),
        ("ERROR", "e"),
        ("DEBUG", "v"),
    ]
    with pytest.raises(TypeError):
        logger.log_info(5)  # type: ignore[arg-type]


def model_config(text: str = "") -> ModelConfig:
    return ModelConfig(json.dumps(config_json.to_json(config(text))))


X = {"name": "X", "data_type": "TYPE_FP32", "dims": [2]}
IN_CONFIG = "in auto-complete-config function for model 'm'"


@pytest.mark.parametrize(
    ("text", "call", "argument", "message"),
    [
        (
            "max_batch_size: 8",
            "set_max_batch_size",
            2,
            "configuration specified max_batch_size 8, but in auto-complete-config function for model 'm' specified "
            "max_batch_size 2",
        ),
        (
            "sequence_batching {}",
            "set_dynamic_batching",
            None,
            "Configuration specified scheduling_choice as 'sequence_batching', but auto-complete-config function for "
            "model 'm' tries to set scheduling_choice as 'dynamic_batching'",
        ),
        ("", "add_input", {"dims": []}, f"input {IN_CONFIG} is missing 'name' property."),
        ("", "add_input", {"name": "X", "dims": []}, f"input 'X' {IN_CONFIG} is missing 'data_type' property."),
        ("", "add_output", {"name": "X", "data_type": ""}, f"output 'X' {IN_CONFIG} is missing 'dims' property."),
        (
            "",
            "add_input",
            X | {"size": 1},
            f"input 'X' {IN_CONFIG} contains property other than 'name', 'data_type', 'dims' and 'optional'.",
        ),
        (
            "",
            "add_output",
            X | {"optional": True},
            f"output 'X' {IN_CONFIG} contains property other than 'name', 'data_type' and 'dims'.",
        ),
        (
            'input { name: "X" data_type: TYPE_INT8 dims: 2 }',
            "add_input",
            X,
            "unable to load model 'm', configuration expects datatype TYPE_INT8 for input 'X', model provides "
            "TYPE_FP32",
        ),
        (
            'output { name: "X" data_type: TYPE_FP32 dims: [ 3, 1 ] }',
            "add_output",
            X,
            "model 'm', tensor 'X': the model expects dims [2] but the model configuration specifies dims [3, 1]",
        ),
        (
            'input { name: "X" data_type: TYPE_FP32 dims: 2 }',
            "add_input",
            X | {"optional": True},
            "model 'm', tensor 'X': the model expects optional True but the model configuration specifies optional "
            "False",
        ),
        (
            "",
            "set_model_transaction_policy",
            {"other": 1},
            "model transaction property in auto-complete-config function for model 'm' contains property other than "
            "'decoupled'.",
        ),
        (
            "model_transaction_policy { decoupled: true }",
            "set_model_transaction_policy",
            {"decoupled": False},
            "trying to change decoupled property in auto-complete-config for model 'm', which is already set to "
            "'True'.",
        ),
    ],
)
def test_configs_that_contradict(text: str, call: str, argument: Any, message: str) -> None:
    function = getattr(model_config(text), call)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        function() if argument is None else function(argument)


def test_configs_are_completed() -> None:
    completed = model_config('input { name: "X" } max_batch_size: 2')
    completed.add_input(X)
    completed.add_input(X)
    completed.set_max_batch_size(4)
    completed.set_model_transaction_policy({})
    assert completed.as_dict()["input"][0]["dims"] == [2]
    got = merge(config('input { name: "X" } max_batch_size: 2 response_cache { enable: true }'), completed)
    expected = 'input { name: "X" data_type: TYPE_FP32 dims: 2 } max_batch_size: 4 response_cache { enable: true }'
    assert got == config(expected + " model_transaction_policy {}")


def test_configs_with_values_that_are_none() -> None:
    completed = model_config()
    completed.add_input({"name": "X", "data_type": "FP32", "dims": [1]})
    with pytest.raises(InternalError, match="the auto_complete_config function in model 'm' gave an invalid value"):
        merge(config(""), completed)
