"""The module that models import as `triton_python_backend_utils`."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tensorhub import bytes_codec
from tensorhub.backends import calling
from tensorhub.backends.python import model_calls
from tensorhub.backends.python.autocomplete import ModelConfig
from tensorhub.backends.python.callers import MODEL_FOLDER, maybe_calling
from tensorhub.backends.python.errors import TritonError, TritonModelException
from tensorhub.backends.python.inference import (
    RELEASE_ALL,
    RELEASE_RESCHEDULE,
    InferenceRequest,
    InferenceTrace,
)
from tensorhub.backends.python.logger import Level as LogLevel
from tensorhub.backends.python.logger import Logger
from tensorhub.backends.python.metrics import Metric, MetricFamily
from tensorhub.backends.python.preferred_memory import MemoryType, PreferredMemory
from tensorhub.backends.python.responses import RESPONSE_COMPLETE_FINAL, InferenceResponse, InferenceResponseSender
from tensorhub.backends.python.tensors import _FROM_NUMPY, NUMPY_TYPES, Tensor
from tensorhub.errors import InvalidArgument
from tensorhub.requests import FLAG_SEQUENCE_END, FLAG_SEQUENCE_START
from tensorhub.tensors import DataType

__all__ = [
    "TRITONSERVER_MEMORY_CPU",
    "TRITONSERVER_MEMORY_GPU",
    "TRITONSERVER_REQUEST_FLAG_SEQUENCE_END",
    "TRITONSERVER_REQUEST_FLAG_SEQUENCE_START",
    "TRITONSERVER_REQUEST_RELEASE_ALL",
    "TRITONSERVER_REQUEST_RELEASE_RESCHEDULE",
    "TRITONSERVER_RESPONSE_COMPLETE_FINAL",
    "TRITON_STRING_TO_NUMPY",
    "InferenceRequest",
    "InferenceResponse",
    "InferenceResponseSender",
    "InferenceTrace",
    "LogLevel",
    "Logger",
    "MemoryType",
    "Metric",
    "MetricFamily",
    "ModelConfig",
    "PreferredMemory",
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

MODULE_NAME = "triton_python_backend_utils"

TRITONSERVER_REQUEST_FLAG_SEQUENCE_START = FLAG_SEQUENCE_START
TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = FLAG_SEQUENCE_END
TRITONSERVER_RESPONSE_COMPLETE_FINAL = RESPONSE_COMPLETE_FINAL
TRITONSERVER_REQUEST_RELEASE_ALL = RELEASE_ALL
TRITONSERVER_REQUEST_RELEASE_RESCHEDULE = RELEASE_RESCHEDULE
TRITONSERVER_MEMORY_CPU = MemoryType.TRITONSERVER_MEMORY_CPU
TRITONSERVER_MEMORY_GPU = MemoryType.TRITONSERVER_MEMORY_GPU

TRITON_STRING_TO_NUMPY: dict[str, type[Any]] = {
    datatype.config_name: dtype.type if datatype is not DataType.BOOL else bool
    for datatype, dtype in NUMPY_TYPES.items()
}

_BY_NUMBER = {datatype.config_number: dtype.type for datatype, dtype in NUMPY_TYPES.items()}


def get_input_tensor_by_name(inference_request: InferenceRequest, name: str) -> Tensor | None:
    """Return an input of a request, or None if it has none of that name."""
    return inference_request._inputs().get(name)


def get_output_tensor_by_name(inference_response: InferenceResponse, name: str) -> Tensor | None:
    """Return an output of a response, or None if it has none of that name."""
    return next((tensor for tensor in inference_response.output_tensors() if tensor.name() == name), None)


def get_input_config_by_name(model_config: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Return an input of a config (the parsed JSON), or None if it has none of that name."""
    return next((tensor for tensor in model_config.get("input", ()) if tensor["name"] == name), None)


def get_output_config_by_name(model_config: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Return an output of a config (the parsed JSON), or None if it has none of that name."""
    return next((tensor for tensor in model_config.get("output", ()) if tensor["name"] == name), None)


def using_decoupled_model_transaction_policy(model_config: dict[str, Any]) -> bool:
    """Tell whether a config (the parsed JSON) is that of a decoupled model."""
    return bool(model_config.get("model_transaction_policy", {}).get("decoupled", False))


def triton_to_numpy_type(data_type: int) -> type[Any] | None:
    """Return the NumPy type of a TRITONSERVER_DataType number, or None if there is none."""
    return _BY_NUMBER.get(data_type)


def numpy_to_triton_type(data_type: Any) -> int | None:
    """Return the TRITONSERVER_DataType number of a NumPy type, or None if there is none."""
    dtype = np.dtype(data_type)
    datatype = DataType.BYTES if dtype.kind == "S" else _FROM_NUMPY.get(dtype)
    return None if datatype is None else datatype.config_number


def triton_string_to_numpy(triton_type_string: str) -> type[Any]:
    """Return the NumPy type of a config's data type, e.g. `TYPE_FP32`.

    Raises:
        KeyError: there is none.
    """
    return TRITON_STRING_TO_NUMPY[triton_type_string]


def serialize_byte_tensor(input_tensor: npt.NDArray[Any]) -> bytes | tuple[()] | None:
    """Write an array of bytes or text in the encoding of the wire: () if it is empty, None if it holds neither."""
    if input_tensor.size == 0:
        return ()
    if input_tensor.dtype != np.object_ and input_tensor.dtype.kind != "S":
        return None
    return bytes_codec.serialize(input_tensor)


def deserialize_bytes_tensor(encoded_tensor: Any) -> npt.NDArray[np.object_]:
    """Read the encoding of the wire into a flat array of bytes objects."""
    return bytes_codec.deserialize(encoded_tensor)


def get_model_dir() -> str:
    """Return the folder of the version of the model that calls.

    Raises:
        TritonModelException: nothing of a model is calling.
    """
    folder = maybe_calling(MODEL_FOLDER)
    if folder is not None:
        return folder
    raise TritonModelException("get_model_dir() must be called by a model")


def load_model(model_name: str, config: str = "", files: dict[str, bytes] | None = None) -> None:
    """Load a model, or load it anew, and wait until it is served. The server must be in explicit control mode.

    Args:
        config: JSON, in place of the model's config.pbtxt.
        files: `file:<path>` to content, in place of the model's folder; then `config` must be given.

    Raises:
        TritonModelException: it cannot be loaded; the message says why.
    """
    model_calls.control("load model", model_calls.load_operation(model_name, config, files))


def unload_model(model_name: str, unload_dependents: bool = False) -> None:
    """Unload a model; it need not have gone when this returns.

    Args:
        unload_dependents: unload also the models that it brought in as an ensemble.

    Raises:
        TritonModelException: the server does not allow it.
    """
    model_calls.control("unload model", model_calls.unload_operation(model_name, unload_dependents))


def is_model_ready(model_name: str, model_version: str = "") -> bool:
    """Tell whether a model can be called.

    Args:
        model_version: a number, or "" for any.

    Raises:
        TritonModelException: the version is no number.
    """
    try:
        return calling.caller().is_ready(model_name, model_version)
    except InvalidArgument as exc:
        raise model_calls.control_error("check model readiness", exc.message) from None
