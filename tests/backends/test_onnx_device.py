"""ONNX networks on memory of their GPU: bound by address, in place, in and out.

The same tests on a GPU, and on a fake one, whose memory is the host's, by a session on the processor.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
onnx = pytest.importorskip("onnx", reason="the package onnx, which builds the networks, is not installed")

import onnxruntime  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from tensorhub.backends.batches import BatchPlan  # noqa: E402
from tensorhub.backends.destinations import PlacedOutput  # noqa: E402
from tensorhub.backends.onnxruntime.backend import OnnxBackend, OnnxInstance  # noqa: E402
from tensorhub.backends.onnxruntime.binding import SessionDevice  # noqa: E402
from tensorhub.backends.onnxruntime.options import SessionPlan  # noqa: E402
from tensorhub.backends.port import InstanceSpec, ModelSource  # noqa: E402
from tensorhub.devices import DeviceMemory, DevicePort  # noqa: E402
from tensorhub.requests import InferRequest, InferResponse, Tensor  # noqa: E402
from tensorhub.tensors import DataType  # noqa: E402
from tests.backends import onnx_networks as networks  # noqa: E402
from tests.backends.onnx_networks import request, source, tensor  # noqa: E402
from tests.backends.python_models import Answers  # noqa: E402
from tests.shm.fake_device import ENVIRON, FakePort  # noqa: E402
from tests.shm.gpu import needs_gpu  # noqa: E402
from tests.workers.fake_memory import FakeMemory  # noqa: E402

Array = npt.NDArray[Any]

ROWS = """
    max_batch_size: 8
    input { name: "X" data_type: TYPE_FP32 dims: 4 }
    output { name: "Y" data_type: TYPE_FP32 dims: 4 }
"""


def _completed(where: ModelSource) -> ModelSource:
    return replace(where, config=OnnxBackend().auto_complete(where))


class Board(Protocol):
    """A GPU."""

    port: DevicePort

    def memory(self, array: Array) -> DeviceMemory:
        """Return memory of it with this content."""

    def instance(self, where: ModelSource) -> OnnxInstance:
        """Return a model on it."""

    def copies(self) -> int:
        """Return how many copies have been made, as far as that is known."""


class FakeBoard:
    """See Board."""

    def __init__(self) -> None:
        self.port = FakePort()

    def memory(self, array: Array) -> DeviceMemory:
        copy = np.array(array)
        return DeviceMemory(self.port, 0, copy.ctypes.data, copy.nbytes, copy)

    def instance(self, where: ModelSource) -> OnnxInstance:
        where = _completed(where)
        made = OnnxBackend().load(where).new_instance(InstanceSpec("m_0_0"))
        return OnnxInstance(
            where.config,
            made._session,
            made._signature,
            BatchPlan.from_config(where.config),
            SessionPlan(),
            SessionDevice("cpu", 0),
        )

    def copies(self) -> int:
        return self.port.copies


class CudaBoard:
    """See Board."""

    def __init__(self) -> None:
        from tensorhub.ipc.cuda_shm import open_port

        self.port = open_port()

    def memory(self, array: Array) -> DeviceMemory:
        import cupy

        memory = cupy.cuda.Memory(array.nbytes)
        found = DeviceMemory(self.port, 0, memory.ptr, array.nbytes, memory)
        found.fill(memoryview(np.ascontiguousarray(array)).cast("B"))
        return found

    def instance(self, where: ModelSource) -> OnnxInstance:
        return OnnxBackend().load(_completed(where)).new_instance(InstanceSpec("m_0_0", "GPU", 0))

    def copies(self) -> int:
        return 0


def _needs_cuda_provider() -> Any:
    missing = "CUDAExecutionProvider" not in onnxruntime.get_available_providers()
    return pytest.mark.skipif(missing, reason="ONNX Runtime has no CUDA provider: pip install onnxruntime-gpu")


@pytest.fixture(
    params=["fake", pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu, _needs_cuda_provider()])],
)
def board(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    if request.param == "cuda":
        yield CudaBoard()
        return
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    yield FakeBoard()


def on_board(board: Board, name: str, array: Array, datatype: DataType = DataType.FP32) -> Tensor:
    return Tensor(name, datatype, array.shape, board.memory(array))


class DeviceLease:
    """A lease of memory of a GPU."""

    view = memoryview(b"")

    def __init__(self, device: DeviceMemory) -> None:
        self.device = device


def placed(memory: DeviceMemory) -> PlacedOutput:
    lease: Any = DeviceLease(memory)
    return PlacedOutput(name="Y", region="r", byte_size=memory.nbytes, lease=lease)


def answer(item: InferRequest) -> InferResponse:
    assert isinstance(item.responder, Answers)
    (response,) = item.responder.responses
    assert response is not None
    return response


def values(found: Tensor, dtype: Any = np.float32) -> Array:
    data: Any = found.data.to_host() if isinstance(found.data, DeviceMemory) else found.data
    return np.frombuffer(data, dtype).reshape(found.shape)


def test_inputs_and_outputs_in_place(board: Board, tmp_path: Path) -> None:
    model = board.instance(source(tmp_path, networks.double(), ROWS))
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)
    given, target = board.memory(rows), board.memory(np.full(10, 77, np.float32))
    before = board.copies()
    item = request(Tensor("X", DataType.FP32, (2, 4), given), requested=[placed(target)], rows=2)
    model.execute([item])
    (output,) = answer(item).outputs
    assert isinstance(output.data, DeviceMemory)
    assert (output.data.pointer, output.data.nbytes) == (target.pointer, 32)
    assert board.copies() == before, "nothing is copied"
    assert values(output).tolist() == (rows * 2).tolist()
    assert np.frombuffer(target.to_host(), np.float32).tolist() == [*(rows * 2).ravel().tolist(), 77, 77]
    assert np.frombuffer(given.to_host(), np.float32).tolist() == rows.ravel().tolist()


def test_mixed_memory(board: Board, tmp_path: Path) -> None:
    """In from the GPU and out in the response; in from the host and out to the GPU."""
    model = board.instance(source(tmp_path, networks.double(), ROWS))
    rows = np.arange(4, dtype=np.float32).reshape(1, 4)
    item = request(on_board(board, "X", rows))
    model.execute([item])
    assert not isinstance(answer(item).outputs[0].data, DeviceMemory)
    assert values(answer(item).outputs[0]).tolist() == [[0, 2, 4, 6]]
    target = board.memory(np.zeros(4, np.float32))
    item = request(tensor("X", rows), requested=[placed(target)])
    model.execute([item])
    assert np.frombuffer(target.to_host(), np.float32).tolist() == [0, 2, 4, 6]
    memory = FakeMemory()
    memory.regions["r"] = bytearray(16)
    place = PlacedOutput(name="Y", region="r", byte_size=16, lease=memory.region("r", 0, 16, writable=True))
    item = request(on_board(board, "X", rows), requested=[place])
    model.execute([item])
    assert np.frombuffer(memory.regions["r"], np.float32).tolist() == [0, 2, 4, 6]


def test_a_batch_is_put_together_on_the_gpu(board: Board, tmp_path: Path) -> None:
    model = board.instance(source(tmp_path, networks.double(), ROWS))
    parts = [np.full((rows, 4), value, np.float32) for value, rows in ((1, 2), (2, 1), (3, 3))]
    for kinds in ((1, 1, 1), (1, 0, 1), (0, 1, 0)):
        batch = [
            request(on_board(board, "X", part) if kind else tensor("X", part), rows=len(part))
            for part, kind in zip(parts, kinds, strict=True)
        ]
        model.execute(batch)
        for item, part in zip(batch, parts, strict=True):
            assert values(answer(item).outputs[0]).tolist() == (part * 2).tolist()


def test_a_ragged_batch(board: Board, tmp_path: Path) -> None:
    sizes = networks.network(
        [helper.make_node("Identity", ["X"], ["Y"]), helper.make_node("Identity", ["COUNTS"], ["Z"])],
        [("X", TensorProto.FLOAT, ["N"]), ("COUNTS", TensorProto.FLOAT, ["M"])],
        [("Y", TensorProto.FLOAT, ["N"]), ("Z", TensorProto.FLOAT, ["M"])],
    )
    text = """
        max_batch_size: 4
        input { name: "X" data_type: TYPE_FP32 dims: -1 allow_ragged_batch: true }
        output { name: "Z" data_type: TYPE_FP32 dims: 1 reshape { shape: [] } }
        output { name: "Y" data_type: TYPE_FP32 dims: -1 }
        batch_input { kind: BATCH_ELEMENT_COUNT target_name: "COUNTS" data_type: TYPE_FP32 source_input: "X" }
        batch_output { kind: BATCH_SCATTER_WITH_INPUT_SHAPE target_name: "Y" source_input: "X" }
    """
    model = board.instance(source(tmp_path, sizes, text))
    rows = [np.arange(count, dtype=np.float32)[None] for count in (3, 1, 5)]
    for together in (rows, rows[:1]):
        batch = [request(on_board(board, "X", row)) for row in together]
        model.execute(batch)
        for item, row in zip(batch, together, strict=True):
            found = {output.name: values(output).ravel().tolist() for output in answer(item).outputs}
            assert found == {"Y": row.ravel().tolist(), "Z": [row.size]}


@pytest.mark.parametrize("datatype", [item for item in DataType if item is not DataType.BYTES])
def test_every_datatype(board: Board, tmp_path: Path, datatype: DataType) -> None:
    model = board.instance(source(tmp_path, networks.identity(datatype)))
    array = np.arange(6).reshape(2, 3).astype("uint16" if datatype is DataType.BF16 else datatype.numpy_name)
    if datatype is DataType.BOOL:
        array = array % 2 == 1
    target = board.memory(np.zeros_like(array))
    item = request(on_board(board, "X", array, datatype), requested=[placed(target)], rows=2)
    model.execute([item])
    assert target.to_host() == array.tobytes()


def positions(dimension: str) -> bytes:
    """Return a network that tells where its input of N numbers is not zero; how many there are it calls `dimension`."""
    return networks.network(
        [helper.make_node("NonZero", ["X"], ["n"]), helper.make_node("Squeeze", ["n", "a"], ["Y"])],
        [("X", TensorProto.FLOAT, ["N"])],
        [("Y", TensorProto.INT64, [dimension])],
        [numpy_helper.from_array(np.array([0], np.int64), "a")],
    )


def test_a_shape_that_is_not_known_before(board: Board, tmp_path: Path) -> None:
    """ONNX Runtime takes memory of the GPU for it; an output that is smaller or larger than its place tells."""
    text = 'input { name: "X" data_type: TYPE_FP32 dims: -1 } output { name: "Y" data_type: TYPE_INT64 dims: -1 }'
    model = board.instance(source(tmp_path, positions("K"), text))
    for numbers in ([0, 5, 0, 7], [0, 0], [1] * 5):
        target = board.memory(np.zeros(4, np.int64))
        item = request(on_board(board, "X", np.array(numbers, np.float32)), requested=[placed(target)])
        model.execute([item])
        (output,) = answer(item).outputs
        assert isinstance(output.data, DeviceMemory)
        expected = np.flatnonzero(numbers).tolist()
        assert output.shape == (len(expected),)
        assert values(output, np.int64).tolist() == expected
    # A network that declares another shape than it has, from the start and after it is known.
    model = board.instance(source(tmp_path / "lying", positions("N"), text))
    for _ in range(2):
        target = board.memory(np.zeros(4, np.int64))
        item = request(on_board(board, "X", np.array([0, 5, 0, 7], np.float32)), requested=[placed(target)])
        model.execute([item])
        assert values(answer(item).outputs[0], np.int64).tolist() == [1, 3]


def test_a_session_on_the_processor_gets_copies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    fake = FakeBoard()
    model = OnnxBackend().load(source(tmp_path, networks.double(), ROWS)).new_instance(InstanceSpec("m_0_0"))
    rows = np.ones((1, 4), np.float32)
    target = fake.memory(np.zeros(4, np.float32))
    item = request(on_board(fake, "X", rows), requested=[placed(target)])
    model.execute([item])
    assert values(answer(item).outputs[0]).tolist() == [[2] * 4]
    assert fake.copies() == 1
