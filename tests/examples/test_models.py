"""The example models, by the values that they return."""

import http.client
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
from tritonclient.utils import np_to_triton_dtype

from tensorhub.client.http import Refused, Server
from tensorhub.client.tensors import Tensor
from tests.serving import EXAMPLE_MODELS, RunningServer


@pytest.fixture
def client(server: RunningServer) -> Iterator[Server]:
    with closing(Server(server.http)) as connected:
        yield connected


def ask(client: Server, model: str, **arrays: np.ndarray) -> dict[str, np.ndarray]:
    names = {"<i4": "INT32", "<f4": "FP32", "|u1": "UINT8", "|O": "BYTES"}
    inputs = [Tensor(name, names[array.dtype.str], array) for name, array in arrays.items()]
    return {tensor.name: tensor.array for tensor in client.infer(model, inputs)}


def test_add_sub(client: Server) -> None:
    first, second = np.arange(32, dtype=np.int32).reshape(2, 16), np.full((2, 16), 5, np.int32)
    outputs = ask(client, "add_sub", INPUT0=first, INPUT1=second)
    assert (outputs["OUTPUT0"] == first + second).all()
    assert (outputs["OUTPUT1"] == first - second).all()


def test_reverse_text(client: Server) -> None:
    outputs = ask(client, "reverse_text", TEXT=np.array([["straße".encode(), b""]], dtype=object))
    assert [item.decode() for item in outputs["UPPER"].ravel()] == ["STRASSE", ""]
    assert [item.decode() for item in outputs["REVERSED"].ravel()] == ["eßarts", ""]
    with pytest.raises(Refused, match="TEXT must be UTF-8"):
        ask(client, "reverse_text", TEXT=np.array([[b"\xff"]], dtype=object))


def test_image_statistics(client: Server) -> None:
    pixels = np.zeros((1, 3, 224, 224), np.float32)
    pixels[:, 2] = 2.0
    outputs = ask(client, "image_statistics", PIXELS=pixels)
    assert outputs["MEAN"].tolist() == [[0.0, 0.0, 2.0]]
    expected = np.exp([0.0, 0.0, 2.0]) / np.exp([0.0, 0.0, 2.0]).sum()
    assert np.allclose(outputs["PROBABILITIES"], [expected], rtol=1e-5)


def test_identity(client: Server, server: RunningServer) -> None:
    if server.pid is None and "identity" not in {row["name"] for row in client.index()}:
        pytest.skip("the server that was named does not have this model")
    values = np.linspace(0, 1, 1000, dtype=np.float32)
    assert (ask(client, "identity", INPUT0=values)["OUTPUT0"] == values).all()


def test_batch_report(client: Server) -> None:
    outputs = ask(client, "batch_report", VALUE=np.zeros((3, 1), np.int32))
    assert outputs["ROWS_TOGETHER"].tolist() == [[3], [3], [3]]
    assert outputs["INSTANCE"][0, 0].startswith(b"batch_report_0_")
    assert outputs["INSTANCE"][0, 0].endswith(b" (CPU)")


def test_every_example_model_is_ready(server: RunningServer) -> None:
    for folder in sorted(EXAMPLE_MODELS.iterdir()):
        if server.pid is None and folder.name == "identity":
            continue
        connection = http.client.HTTPConnection(server.http, timeout=60)
        try:
            connection.request("GET", f"/v2/models/{folder.name}/ready")
            assert connection.getresponse().status == 200, folder.name
        finally:
            connection.close()


def test_auto_complete(client: Server) -> None:
    values = np.array([[3, 1, 2], [9, 8, 7]], np.float32)
    assert ask(client, "auto_complete", VALUES=values)["SORTED"].tolist() == [[1, 2, 3], [7, 8, 9]]


def test_instance_kind(client: Server) -> None:
    outputs = ask(client, "instance_kind", QUESTION=np.zeros(1, np.int32))
    assert outputs["INSTANCE"].tolist()[0] in (b"instance_kind_0_0", b"instance_kind_0_1")
    assert outputs["KIND"].tolist() == [b"CPU"]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("UNKNOWN", 400),
        ("INTERNAL", 500),
        ("NOT_FOUND", 404),
        ("INVALID_ARG", 400),
        ("UNAVAILABLE", 503),
        ("UNSUPPORTED", 501),
        ("ALREADY_EXISTS", 400),
        ("CANCELLED", 400),
    ],
)
def test_error_codes(client: Server, code: str, status: int) -> None:
    with pytest.raises(Refused, match=f"an error of the kind {code}") as caught:
        ask(client, "error_codes", CODE=np.array([[code.encode()]], dtype=object))
    assert caught.value.status == status
    assert ask(client, "error_codes", CODE=np.array([[b"ok"]], dtype=object))["ECHO"].tolist() == [[b"ok"]]


def test_preprocessing(client: Server) -> None:
    picture = np.random.default_rng(1).integers(0, 255, (2, 48, 100, 3), dtype=np.uint8)
    outputs = client.infer("preprocessing", [Tensor("PICTURE", "UINT8", picture)])
    pixels = outputs[0].array
    assert pixels.shape == (2, 3, 64, 64)
    assert np.allclose(pixels.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    assert np.allclose(pixels.std(axis=(1, 2, 3)), 1, atol=1e-4)


def test_own_metrics(client: Server, server: RunningServer) -> None:
    if not server.metrics:
        pytest.skip("nobody has said where this server's metrics are")
    texts = np.array([b"a", b"four", b"x" * 50], dtype=object)
    assert ask(client, "own_metrics", TEXT=texts)["LENGTH"].tolist() == [1, 4, 50]
    labels = '{model="own_metrics",version="1"'
    wanted = {
        f"example_texts{labels}}} 3",
        f"example_longest{labels}}} 50",
        f'example_lengths_bucket{labels},le="10"}} 2',
        f"example_lengths_sum{labels}}} 55",
    }
    deadline = time.monotonic() + 60
    while not wanted <= set(metrics_page(server)):
        assert time.monotonic() < deadline, [line for line in metrics_page(server) if "example_" in line]


def metrics_page(server: RunningServer) -> list[str]:
    connection = http.client.HTTPConnection(server.metrics, timeout=60)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode().splitlines()
    finally:
        connection.close()


def test_async_requests(server: RunningServer) -> None:
    def call(_: int) -> int:
        with closing(Server(server.http)) as connected:
            return int(ask(connected, "async_requests", SECONDS=np.array([0.2], np.float32))["TOGETHER"][0])

    # More at a time than the server has workers, each for longer than it takes to send the others.
    with ThreadPoolExecutor(8) as threads:
        deadline = time.monotonic() + 60
        while max(threads.map(call, range(8))) < 2:
            assert time.monotonic() < deadline


def stream(server: RunningServer, model: str, inputs: dict[str, np.ndarray], output: str) -> list[list[int]]:
    """Return the output of every response of a decoupled model."""
    answers: SimpleQueue[Any] = SimpleQueue()
    found = []
    with grpc_client.InferenceServerClient(server.grpc) as connected:
        connected.start_stream(lambda result, error: answers.put(error or result))
        tensors = []
        for name, array in inputs.items():
            tensor = grpc_client.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            tensors.append(tensor)
        connected.async_stream_infer(model, tensors, enable_empty_final_response=True)
        while True:
            result = answers.get(timeout=60)
            assert isinstance(result, grpc_client.InferResult), result
            value = result.as_numpy(output)
            if value is not None:
                found.append(value.tolist())
            if result.get_response().parameters["triton_final_response"].bool_param:
                return found


def test_decoupled_repeat(server: RunningServer) -> None:
    values = np.array([4, 2, 8], np.int32)
    assert stream(server, "decoupled_repeat", {"VALUES": values}, "VALUE") == [[4], [2], [8]]
    delays = np.array([1, 0, 2], np.uint32)
    assert stream(server, "decoupled_repeat", {"VALUES": values, "DELAYS_MS": delays}, "INDEX") == [[0], [1], [2]]


@pytest.mark.parametrize("number", [3, 1, 0])
def test_decoupled_square(server: RunningServer, number: int) -> None:
    assert stream(server, "decoupled_square", {"IN": np.array([number], np.int32)}, "OUT") == [[number]] * number


def test_picture_pipeline(client: Server) -> None:
    pictures = np.full((2, 90, 50, 3), 10, np.uint8)
    pictures[0, :, :, 2] = 200
    pictures[1, :, :, 1] = 200
    outputs = ask(client, "picture_pipeline", PICTURE=pictures)
    assert outputs["CHANNEL"].tolist() == [[2], [1]]
    assert outputs["PIXELS"].shape == (2, 3, 64, 64)


@pytest.mark.parametrize("times", [0, 1, 5])
def test_calls_in_turn(client: Server, times: int) -> None:
    start = np.arange(16, dtype=np.int32)
    outputs = ask(client, "calls_in_turn", START=start, TIMES=np.array([times], np.int32))
    assert (outputs["RESULT"] == start * (times + 1)).all()


def test_calls_at_once(client: Server) -> None:
    left, right = np.arange(16, dtype=np.int32), np.full(16, 3, np.int32)
    outputs = ask(client, "calls_at_once", LEFT=left, RIGHT=right)
    assert (outputs["SUM"] == left + right).all()
    assert (outputs["DIFFERENCE"] == left - right).all()


def test_calls_a_stream(client: Server) -> None:
    assert ask(client, "calls_a_stream", VALUES=np.array([4, 2, 8], np.int32))["TOTAL"] == [14]
