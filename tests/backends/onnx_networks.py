"""Small real networks in ONNX form, built here; and the same computed with NumPy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf import text_format
from onnx import TensorProto, helper, numpy_helper

from tensorhub.backends.port import ModelSource
from tensorhub.protocol import messages
from tensorhub.requests import InferRequest, RequestedOutput, Tensor
from tensorhub.tensors import DataType
from tests.backends.python_models import Answers

Shape = Sequence[int | str | None]
Value = tuple[str, int, Shape]

ONNX_TYPES = {
    DataType.BOOL: TensorProto.BOOL,
    DataType.UINT8: TensorProto.UINT8,
    DataType.UINT16: TensorProto.UINT16,
    DataType.UINT32: TensorProto.UINT32,
    DataType.UINT64: TensorProto.UINT64,
    DataType.INT8: TensorProto.INT8,
    DataType.INT16: TensorProto.INT16,
    DataType.INT32: TensorProto.INT32,
    DataType.INT64: TensorProto.INT64,
    DataType.FP16: TensorProto.FLOAT16,
    DataType.FP32: TensorProto.FLOAT,
    DataType.FP64: TensorProto.DOUBLE,
    DataType.BYTES: TensorProto.STRING,
    DataType.BF16: TensorProto.BFLOAT16,
}


def network(
    nodes: Sequence[Any], inputs: Sequence[Value], outputs: Sequence[Value], initializers: Sequence[Any] = ()
) -> bytes:
    """Serialise a graph. An initializer that is an input too is one that a request may replace."""
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        list(initializers),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model.SerializeToString()


def identity(datatype: DataType = DataType.FP32, dims: Shape = ("N", "M")) -> bytes:
    kind = ONNX_TYPES[datatype]
    return network([helper.make_node("Identity", ["X"], ["Y"])], [("X", kind, dims)], [("Y", kind, dims)])


def double(dims: Shape = ("N", 4), out: Shape | None = None) -> bytes:
    """Y = X + X, in float32."""
    return network(
        [helper.make_node("Add", ["X", "X"], ["Y"])],
        [("X", TensorProto.FLOAT, dims)],
        [("Y", TensorProto.FLOAT, dims if out is None else out)],
    )


CLASSES = 5
CHANNELS = 6


def _weights() -> dict[str, npt.NDArray[np.float32]]:
    random = np.random.default_rng(7)
    return {
        "kernel": random.normal(size=(CHANNELS, 3, 3, 3)).astype(np.float32),
        "bias": random.normal(size=CHANNELS).astype(np.float32),
        "dense": random.normal(size=(CHANNELS, CLASSES)).astype(np.float32),
        "offset": random.normal(size=CLASSES).astype(np.float32),
    }


def convolutional() -> bytes:
    """A classifier of images of any size: convolution, ReLU, global average, dense layer, softmax."""
    return network(
        [
            helper.make_node("Conv", ["IMAGE", "kernel", "bias"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("GlobalAveragePool", ["r"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("Gemm", ["f", "dense", "offset"], ["d"]),
            helper.make_node("Softmax", ["d"], ["PROBABILITIES"], axis=1),
        ],
        [("IMAGE", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [("PROBABILITIES", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in _weights().items()],
    )


def convolutional_by_numpy(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What `convolutional` computes."""
    weights = _weights()
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    convolved = np.einsum("nchwij,kcij->nkhw", windows, weights["kernel"]) + weights["bias"][:, None, None]
    pooled = np.maximum(convolved, 0).mean(axis=(2, 3))
    scores = pooled @ weights["dense"] + weights["offset"]
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: npt.NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return result


def source(folder: Path, data: bytes | None, text: str = "", **fields: Any) -> ModelSource:
    """Write a model to folder/m."""
    version = folder / "m" / "1"
    version.mkdir(parents=True, exist_ok=True)
    if data is not None:
        (version / "model.onnx").write_bytes(data)
    config = messages.ModelConfig(name="m", backend="onnxruntime")
    text_format.Parse(text, config)
    return ModelSource("m", 1, str(folder / "m"), config, **fields)


def request(*tensors: Tensor, requested: Sequence[RequestedOutput] = (), rows: int = 1) -> InferRequest:
    inputs = {tensor.name: tensor for tensor in tensors}
    return InferRequest("m", 1, "id", inputs, tuple(requested), batch_size=rows, responder=Answers())


def tensor(name: str, array: npt.NDArray[Any], datatype: DataType = DataType.FP32) -> Tensor:
    data: Any = array
    return Tensor(name, datatype, array.shape, data)
