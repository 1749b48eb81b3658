"""Metadata answers; the expected ones are Triton 2.51's."""

from typing import Any

import pytest

from tensorhub.protocol import messages, metadata, model_config


def config_of(text: str) -> Any:
    return model_config.complete(model_config.parse_text(text, "config.pbtxt"), name="m", files=["model.py"])


BATCHING = config_of(
    """max_batch_size: 8
    input { name: "A" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 2, 2 ] } optional: true }
    input { name: "S" data_type: TYPE_STRING dims: [ -1 ] }
    output { name: "B" data_type: TYPE_BF16 dims: [ 1 ] reshape { shape: [ ] } }"""
)


def test_a_batching_model() -> None:
    assert metadata.model_metadata(BATCHING, [1, 3]) == {
        "name": "m",
        "versions": ["1", "3"],
        "platform": "python",
        "inputs": [
            {"name": "A", "datatype": "FP32", "shape": [-1, 4]},
            {"name": "S", "datatype": "BYTES", "shape": [-1, -1]},
        ],
        "outputs": [{"name": "B", "datatype": "BF16", "shape": [-1, 1]}],
    }


@pytest.mark.parametrize(
    ("text", "platform", "shape"),
    [
        ('platform: "onnxruntime_onnx" max_batch_size: 0', "onnxruntime_onnx", [4]),
        ('platform: "onnxruntime_onnx" max_batch_size: 1', "onnxruntime_onnx", [-1, 4]),
        ('platform: "ensemble"', "ensemble", [4]),
        ('backend: "identity"', "identity", [4]),
    ],
)
def test_platform_and_batch_dimension(text: str, platform: str, shape: list[int]) -> None:
    answer = metadata.model_metadata(config_of(text + ' input { name: "A" data_type: TYPE_INT8 dims: 4 }'), [])
    assert (answer["platform"], answer["versions"]) == (platform, [])
    assert answer["inputs"] == [{"name": "A", "datatype": "INT8", "shape": shape}]


def test_the_message_says_the_same() -> None:
    message = metadata.model_metadata_message(BATCHING, [1, 3])
    assert type(message) is messages.message_class("inference.ModelMetadataResponse")
    assert (message.name, list(message.versions), message.platform) == ("m", ["1", "3"], "python")
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in (*message.inputs, *message.outputs)] == [
        ("A", "FP32", [-1, 4]),
        ("S", "BYTES", [-1, -1]),
        ("B", "BF16", [-1, 1]),
    ]


def test_the_server() -> None:
    answer = metadata.server_metadata("triton", "2.73.0", metadata.EXTENSIONS)
    assert answer["name"] == "triton"
    assert answer["extensions"][:3] == ["classification", "sequence", "model_repository"]
    message = metadata.server_metadata_message("triton", "2.73.0", ["statistics"])
    assert (message.name, message.version, list(message.extensions)) == ("triton", "2.73.0", ["statistics"])


def test_datatype_names() -> None:
    assert metadata.datatype_name(13) == "BYTES"
    assert metadata.datatype_name(0) == metadata.datatype_name(99) == "<invalid>"
