"""Tensors in the memory of a GPU on their way between models: what is kept, copied, and handed on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tensorhub.backends import device_access
from tensorhub.backends.privacy import copied, is_private, own
from tensorhub.backends.python.preferred_memory import MemoryType, PreferredMemory
from tensorhub.devices import DeviceError, DeviceMemory
from tensorhub.requests import InferRequest, InferResponse, Tensor, flat_view
from tensorhub.tensors import DataType
from tensorhub.workers.ordering import ResponseOrder
from tensorhub.workers.state_outputs import StateOutputs
from tests.shm.fake_device import ENVIRON, FakePort

ON_GPU = PreferredMemory(MemoryType.TRITONSERVER_MEMORY_GPU, 1)
ON_HOST = PreferredMemory(MemoryType.TRITONSERVER_MEMORY_CPU)


class FullPort(FakePort):
    """A GPU without room."""

    def allocate(self, ordinal: int, byte_size: int) -> DeviceMemory:
        raise DeviceError("cudaErrorMemoryAllocation: out of memory")


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePort]:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    port = FakePort()
    device_access.install(lambda: port)
    yield port
    device_access.install(lambda: None)


def _tensor(port: FakePort, content: bytes = b"right", *, allocated: bool = False) -> Tensor:
    made = port.allocate(0, len(content))
    made.fill(memoryview(content))
    # As a model's own memory comes, which nobody can know who else refers to.
    memory = made if allocated else DeviceMemory(port, 0, made.pointer, made.nbytes, made)
    return Tensor("x", DataType.UINT8, (len(content),), memory)


def _on(tensor: Tensor) -> int:
    """The GPU that a tensor is on, -1 for the host."""
    return tensor.data.ordinal if isinstance(tensor.data, DeviceMemory) else -1


def test_memory_of_a_model_is_copied_on_its_gpu(port: FakePort) -> None:
    tensor = _tensor(port)
    assert not is_private(tensor)
    copy, writable = own(tensor, [])
    assert writable
    assert _on(copy) == 0
    assert copy.data is not tensor.data
    assert bytes(flat_view(copy.data)) == b"right"
    assert is_private(copy)
    held = copy.data
    assert not is_private(copy), "somebody else has it"
    del held


def test_without_room_on_the_gpu_the_copy_is_on_the_host(port: FakePort) -> None:
    tensor = _tensor(port)
    assert isinstance(tensor.data, DeviceMemory)
    tensor.data.port = FullPort()
    copy = copied(tensor)
    assert _on(copy) == -1
    assert bytes(flat_view(copy.data)) == b"right"


def test_an_input_that_is_handed_on_is_not_copied(port: FakePort) -> None:
    tensor = _tensor(port)
    assert own(tensor, [tensor.renamed("in")]) == (tensor, False)


@pytest.mark.parametrize("source", [-1, 0])
def test_preferences(port: FakePort, source: int) -> None:
    tensor = _tensor(port) if source == 0 else Tensor("x", DataType.UINT8, (5,), bytearray(b"right"))
    for memory, place in ((ON_GPU, 1), (ON_HOST, -1)):
        placed = memory.placed(tensor)
        assert _on(placed) == place
        assert bytes(flat_view(placed.data)) == b"right"
        assert memory.placed(placed) is placed


def test_text_and_nothing_stay_where_they_are(port: FakePort) -> None:
    for tensor in (Tensor("x", DataType.BYTES, (1,), b"\1\0\0\0a"), Tensor("x", DataType.FP32, (0, 4), b"")):
        assert ON_GPU.placed(tensor) is tensor


def test_a_gpu_that_is_not_there() -> None:
    tensor = Tensor("x", DataType.UINT8, (5,), b"right")
    assert ON_GPU.placed(tensor) is tensor


def test_what_is_held_back_or_kept_is_a_copy_on_the_host(port: FakePort) -> None:
    got: list[bytes] = []
    order = ResponseOrder()
    requests = [InferRequest("m", 1, name, {}) for name in "ab"]
    for request in requests:
        request.responder = lambda _, response, final: got.extend(bytes(item.data) for item in response.outputs)
        order.join(request)
    tensor = _tensor(port)
    requests[1].respond(InferResponse([tensor]))
    assert isinstance(tensor.data, DeviceMemory)
    tensor.data.fill(memoryview(b"wrong"))
    requests[0].respond(InferResponse())
    assert got == [b"right"]

    stateful = InferRequest("m", 1, "c", {}, responder=lambda *_: None)
    StateOutputs({"x"}, ()).watch(stateful)
    stateful.respond(InferResponse([_tensor(port)]))
    assert {name: bytes(item.data) for name, item in stateful.next_states.items()} == {"x": b"right"}
