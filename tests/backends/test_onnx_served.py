"""An ONNX file without a configuration, served by a real server to stock clients."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
pytest.importorskip("onnx", reason="the package onnx, which builds the networks, is not installed")

import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from tritonclient.utils import shared_memory as shm

from tensorhub.tensors import DataType
from tests.backends import onnx_networks as networks
from tests.serving import serving


def test_served_over_both_protocols(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    for name, data in (("convolutional", networks.convolutional()), ("text", networks.identity(DataType.BYTES))):
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "1" / "model.onnx").write_bytes(data)
    images = np.random.default_rng(5).normal(size=(2, 3, 12, 10)).astype(np.float32)
    expected = networks.convolutional_by_numpy(images)
    option = "--backend-config=onnxruntime,default-max-batch-size=16"
    with serving(tmp_path, [option], repository) as server:
        over_http, over_grpc = (
            http_client.InferenceServerClient(server.http),
            grpc_client.InferenceServerClient(server.grpc),
        )
        config = over_http.get_model_config("convolutional")
        assert (config["max_batch_size"], config["platform"]) == (16, "onnxruntime_onnx")
        assert config["dynamic_batching"]["preferred_batch_size"] == [16]
        for client, module in ((over_http, http_client), (over_grpc, grpc_client)):
            image = module.InferInput("IMAGE", images.shape, "FP32")
            image.set_data_from_numpy(images)
            result = client.infer("convolutional", [image])
            assert np.allclose(result.as_numpy("PROBABILITIES"), expected, rtol=1e-4)
            text = module.InferInput("X", [1, 2], "BYTES")
            text.set_data_from_numpy(np.array([["caf\u00e9".encode(), b""]], dtype=object))
            assert client.infer("text", [text]).as_numpy("Y").tolist() == [["caf\u00e9".encode(), b""]]
        region = shm.create_shared_memory_region("p", f"/tensorhub-onnx-{server.pid}", expected.nbytes)
        try:
            over_http.register_system_shared_memory("p", f"/tensorhub-onnx-{server.pid}", expected.nbytes)
            image = http_client.InferInput("IMAGE", images.shape, "FP32")
            image.set_data_from_numpy(images)
            output = http_client.InferRequestedOutput("PROBABILITIES")
            output.set_shared_memory("p", expected.nbytes)
            over_http.infer("convolutional", [image], outputs=[output])
            found = shm.get_contents_as_numpy(region, np.float32, expected.shape)
            assert np.allclose(found, expected, rtol=1e-4)
            over_http.unregister_system_shared_memory("p")
        finally:
            shm.destroy_shared_memory_region(region)
        over_http.close()
        over_grpc.close()
