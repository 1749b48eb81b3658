"""An ONNX file without a configuration, served by a real server to stock clients."""

from pathlib import Path
from queue import SimpleQueue
from typing import Any

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
from tests.waiting import wait_until


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


_KINDS = {
    "COUNT": ("BATCH_ELEMENT_COUNT", "TYPE_FP32"),
    "SUM": ("BATCH_ACCUMULATED_ELEMENT_COUNT", "TYPE_INT32"),
    "ENDS": ("BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", "TYPE_INT32"),
    "WIDEST": ("BATCH_MAX_ELEMENT_COUNT_AS_SHAPE", "TYPE_FP32"),
    "ITEM": ("BATCH_ITEM_SHAPE", "TYPE_INT32"),
    "FLAT": ("BATCH_ITEM_SHAPE_FLATTEN", "TYPE_FP32"),
}


def _ragged(repository: Path) -> None:
    """A network that tells each request what it heard by batch inputs of every kind, and returns its input."""
    node, floats, ints = networks.helper.make_node, networks.TensorProto.FLOAT, networks.TensorProto.INT32
    types = {name: floats if kind == "TYPE_FP32" else ints for name, (_, kind) in _KINDS.items()}
    shapes = {name: ["K", 1] if name == "ITEM" else [name] for name in _KINDS}
    outputs = {**types, "WIDEST": networks.TensorProto.INT64}
    data = networks.network(
        [
            *(node("Identity", [name], [f"{name}_OUT"]) for name in ("COUNT", "SUM", "ITEM", "FLAT")),
            node("Identity", ["X"], ["Y"]),
            node("Slice", ["ENDS", "null", "minus"], ["ENDS_OUT"]),
            node("Shape", ["WIDEST"], ["width"]),
            node("Shape", ["COUNT"], ["requests"]),
            node("Expand", ["width", "requests"], ["WIDEST_OUT"]),
        ],
        [("X", floats, ["N"]), *((name, types[name], shapes[name]) for name in _KINDS)],
        [
            ("Y", floats, ["N"]),
            *((f"{name}_OUT", outputs[name], ["K", 1] if name == "ITEM" else ["K"]) for name in _KINDS),
        ],
        [
            networks.numpy_helper.from_array(np.array([value], np.int64), name)
            for name, value in (("null", 0), ("minus", -1))
        ],
    )
    declared = {name: "TYPE_INT64" if name == "WIDEST" else kind for name, (_, kind) in _KINDS.items()}
    config = [
        "max_batch_size: 4 dynamic_batching { preferred_batch_size: [ 3 ] max_queue_delay_microseconds: 20000000 }",
        'input { name: "X" data_type: TYPE_FP32 dims: -1 allow_ragged_batch: true }',
        'output { name: "Y" data_type: TYPE_FP32 dims: -1 }',
        'batch_output { kind: BATCH_SCATTER_WITH_INPUT_SHAPE target_name: "Y" source_input: "X" }',
        *(
            f'batch_input {{ kind: {kind} target_name: "{name}" data_type: {datatype} source_input: "X" }}'
            for name, (kind, datatype) in _KINDS.items()
        ),
        *(
            f'output {{ name: "{name}_OUT" data_type: {datatype} dims: 1 {"" if name == "ITEM" else "reshape { }"} }}'
            for name, datatype in declared.items()
        ),
    ]
    (repository / "ragged" / "1").mkdir(parents=True)
    (repository / "ragged" / "1" / "model.onnx").write_bytes(data)
    (repository / "ragged" / "config.pbtxt").write_text("\n".join(config))


def test_a_ragged_batch_in_shared_memory_with_batch_inputs_of_every_kind(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    _ragged(repository)
    lengths = (3, 1, 5)
    values = [np.arange(length, dtype=np.float32)[None] + 10 * length for length in lengths]
    with serving(tmp_path, [], repository) as server, grpc_client.InferenceServerClient(server.grpc) as client:
        key = f"/tensorhub-ragged-{server.pid}"
        region = shm.create_shared_memory_region("r", key, 1024)
        try:
            client.register_system_shared_memory("r", key, 1024)
            answers: SimpleQueue[Any] = SimpleQueue()
            for number, value in enumerate(values):
                shm.set_shared_memory_region(region, [value], offset=64 * number)
                given = grpc_client.InferInput("X", value.shape, "FP32")
                given.set_shared_memory("r", value.nbytes, 64 * number)
                wanted = [grpc_client.InferRequestedOutput(f"{name}_OUT") for name in _KINDS]
                place = grpc_client.InferRequestedOutput("Y")
                place.set_shared_memory("r", value.nbytes, 512 + 64 * number)
                client.async_infer(
                    "ragged",
                    [given],
                    lambda result, error: answers.put(error or result),
                    outputs=[*wanted, place],
                    request_id=str(number),
                )
            results = {item.get_response().id: item for item in (answers.get(timeout=30) for _ in lengths)}
            order = sorted(results, key=lambda name: int(results[name].as_numpy("ENDS_OUT").item()))
            counts = [lengths[int(name)] for name in order]
            for place_in_batch, name in enumerate(order):
                number = int(name)
                found = {kind: results[name].as_numpy(f"{kind}_OUT").item() for kind in _KINDS}
                assert found == {
                    "COUNT": lengths[number],
                    "SUM": sum(counts[: place_in_batch + 1]),
                    "ENDS": sum(counts[:place_in_batch]),
                    "WIDEST": 5,
                    "ITEM": lengths[number],
                    "FLAT": lengths[number],
                }
                echoed = shm.get_contents_as_numpy(region, np.float32, list(values[number].shape), 512 + 64 * number)
                assert echoed.tolist() == values[number].tolist()

            def batches() -> list[int]:
                statistics = client.get_inference_statistics("ragged").model_stats[0]
                return [item.batch_size for item in statistics.batch_stats]

            wait_until(lambda: batches() == [3], "one batch is counted", account=batches)
        finally:
            client.unregister_system_shared_memory("r")
            shm.destroy_shared_memory_region(region)
