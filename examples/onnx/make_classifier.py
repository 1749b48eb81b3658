"""Write a small ONNX network into a model repository; there is no config.pbtxt, as the file says all that is needed.

pip install onnx 'tensorhub[onnx]'
python make_classifier.py /tmp/models
tensorhub serve --model-repository=/tmp/models
tensorhub infer classifier --random
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def classifier(features: int = 8, classes: int = 3) -> onnx.ModelProto:
    """Return a network of two layers, with random weights: FEATURES [N, features] to PROBABILITIES [N, classes]."""
    random = np.random.default_rng(0)
    weights = {
        "w1": random.normal(size=(features, 16)).astype(np.float32),
        "b1": np.zeros(16, np.float32),
        "w2": random.normal(size=(16, classes)).astype(np.float32),
        "b2": np.zeros(classes, np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["FEATURES", "w1", "b1"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["active"]),
            helper.make_node("Gemm", ["active", "w2", "b2"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["PROBABILITIES"], axis=1),
        ],
        "classifier",
        [helper.make_tensor_value_info("FEATURES", TensorProto.FLOAT, ["N", features])],
        [helper.make_tensor_value_info("PROBABILITIES", TensorProto.FLOAT, ["N", classes])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model


def main() -> None:
    """Write the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=Path)
    folder = parser.parse_args().repository / "classifier" / "1"
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(classifier(), folder / "model.onnx")
    print(f"wrote {folder / 'model.onnx'}")


if __name__ == "__main__":
    main()
