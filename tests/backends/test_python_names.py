"""The names of `triton_python_backend_utils` and of its classes, as the real module of Triton 2.51 has them."""

import pytest

from tensorhub.backends.python import utils
from tensorhub.backends.python.inference import InferenceTrace
from tensorhub.backends.python.responses import InferenceResponseSender

NAMES = [
    "InferenceRequest",
    "InferenceResponse",
    "Logger",
    "MetricFamily",
    "ModelConfig",
    "PreferredMemory",
    "TRITONSERVER_MEMORY_CPU",
    "TRITONSERVER_MEMORY_GPU",
    "TRITONSERVER_REQUEST_FLAG_SEQUENCE_END",
    "TRITONSERVER_REQUEST_FLAG_SEQUENCE_START",
    "TRITONSERVER_REQUEST_RELEASE_ALL",
    "TRITONSERVER_REQUEST_RELEASE_RESCHEDULE",
    "TRITONSERVER_RESPONSE_COMPLETE_FINAL",
    "TRITON_STRING_TO_NUMPY",
    "Tensor",
    "TritonError",
    "TritonModelException",
    "deserialize_bytes_tensor",
    "get_input_config_by_name",
    "get_input_tensor_by_name",
    "get_model_dir",
    "get_output_config_by_name",
    "get_output_tensor_by_name",
    "is_model_ready",
    "load_model",
    "numpy_to_triton_type",
    "serialize_byte_tensor",
    "triton_string_to_numpy",
    "triton_to_numpy_type",
    "unload_model",
    "using_decoupled_model_transaction_policy",
]
MEMBERS = {
    utils.InferenceRequest: "async_exec correlation_id exec flags get_response_sender inputs is_cancelled parameters "
    "request_id requested_output_names set_flags set_release_flags timeout trace",
    utils.InferenceResponse: "error has_error output_tensors",
    utils.Logger: "ERROR INFO LogLevel VERBOSE WARNING log log_error log_info log_verbose log_warn",
    utils.MetricFamily: "COUNTER GAUGE HISTOGRAM",
    utils.ModelConfig: "add_input add_output as_dict set_dynamic_batching set_max_batch_size "
    "set_model_transaction_policy",
    utils.Tensor: "__dlpack__ __dlpack_device__ as_numpy from_dlpack is_cpu name shape to_dlpack triton_dtype",
    utils.TritonError: "ALREADY_EXISTS CANCELLED INTERNAL INVALID_ARG NOT_FOUND UNAVAILABLE UNKNOWN UNSUPPORTED code "
    "message",
    InferenceTrace: "get_context",
    InferenceResponseSender: "is_cancelled send",
}


@pytest.mark.parametrize("name", NAMES)
def test_the_module_has(name: str) -> None:
    assert name in utils.__all__
    assert hasattr(utils, name)


@pytest.mark.parametrize("owner", MEMBERS, ids=lambda owner: str(owner.__name__))
def test_a_class_has(owner: type[object]) -> None:
    assert [name for name in MEMBERS[owner].split() if not hasattr(owner, name)] == []
