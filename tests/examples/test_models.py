"""The example models, by the values that they return."""

import http.client
from collections.abc import Iterator

import numpy as np
import pytest

from tensorhub.client.http import Refused, Server
from tensorhub.client.tensors import Tensor
from tests.serving import EXAMPLE_MODELS, RunningServer


@pytest.fixture
def client(server: RunningServer) -> Iterator[Server]:
    with Server.connected(server.http) as connected:
        yield connected


def ask(client: Server, model: str, **arrays: np.ndarray) -> dict[str, np.ndarray]:
    names = {"<i4": "INT32", "<f4": "FP32", "|O": "BYTES"}
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


def test_every_example_model_is_ready(server: RunningServer) -> None:
    for folder in sorted(EXAMPLE_MODELS.iterdir()):
        if server.pid is None and folder.name == "identity":
            continue
        connection = http.client.HTTPConnection(server.http, timeout=30)
        try:
            connection.request("GET", f"/v2/models/{folder.name}/ready")
            assert connection.getresponse().status == 200, folder.name
        finally:
            connection.close()
