"""What is too large for a message is refused where it would be made: nobody takes it, and its client would wait."""

from collections.abc import Iterator

import pytest

from tensorhub.errors import InvalidArgument, TensorhubError
from tensorhub.frontend.port import PlacedInput
from tensorhub.ipc import wire
from tensorhub.protocol import messages

from .small_server import SmallServer

_CONFIG = """
name: "m" backend: "python"
input [ { name: "x" data_type: TYPE_UINT8 dims: [ -1 ] } ] output [ { name: "y" data_type: TYPE_UINT8 dims: [ 1 ] } ]
"""
LIMIT = 2_000


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallServer]:
    made = SmallServer(_CONFIG)
    monkeypatch.setattr(wire, "MAX_BODY_SIZE", LIMIT)
    yield made
    made.close()


def test_a_request(server: SmallServer) -> None:
    gateway = server.gateway
    placed = [PlacedInput(0, gateway.reserve(64), 0, 64)]
    with pytest.raises(InvalidArgument, match=f"has {LIMIT + 1} bytes beside its large tensors; allowed are {LIMIT}$"):
        gateway.infer(gateway.catalog.find("m", -1), bytes(LIMIT + 1), lambda reply: None, placed=placed)
    assert gateway.idle


def test_a_control_call(server: SmallServer) -> None:
    operation = messages.Control()
    operation.load_model.name = "m" * LIMIT
    heard: list[TensorhubError | None] = []
    server.gateway.control(operation, lambda result, error: heard.append(error))
    [error] = heard
    assert isinstance(error, InvalidArgument)
    assert error.message.startswith(f"the call has {operation.ByteSize()} bytes; allowed are {LIMIT}.")
    assert server.gateway.idle
