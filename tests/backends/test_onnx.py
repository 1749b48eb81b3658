"""ONNX networks: what they compute for clients, in batches, in place, and when something is wrong."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
onnx = pytest.importorskip("onnx", reason="the package onnx, which builds the networks, is not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from tensorhub import bytes_codec  # noqa: E402
from tensorhub.backends.destinations import PlacedOutput  # noqa: E402
from tensorhub.backends.onnxruntime.backend import OnnxBackend  # noqa: E402
from tensorhub.backends.port import InstanceSpec, ModelInstance, ModelSource  # noqa: E402
from tensorhub.errors import InternalError, InvalidArgument, TensorhubError, Unavailable  # noqa: E402
from tensorhub.requests import InferRequest, InferResponse, RequestedOutput, Tensor  # noqa: E402
from tensorhub.tensors import DataType  # noqa: E402
from tests.backends import onnx_networks as networks  # noqa: E402
from tests.backends.onnx_networks import request, source, tensor  # noqa: E402
from tests.backends.python_models import Answers  # noqa: E402
from tests.serving import PROJECT  # noqa: E402
from tests.workers.fake_memory import FakeMemory  # noqa: E402

ROWS = """
    max_batch_size: 8
    input { name: "X" data_type: TYPE_FP32 dims: 4 }
    output { name: "Y" data_type: TYPE_FP32 dims: 4 }
"""


def instance(where: ModelSource, kind: str = "CPU") -> ModelInstance:
    completed = OnnxBackend().auto_complete(where)
    complete = ModelSource(where.name, where.version, where.folder, completed, where.backend_config)
    return OnnxBackend().load(complete).new_instance(InstanceSpec("m_0_0", kind))


def answer(item: InferRequest) -> InferResponse:
    assert isinstance(item.responder, Answers)
    (response,) = item.responder.responses
    assert response is not None
    return response


def array(item: Tensor, dtype: Any = np.float32) -> npt.NDArray[Any]:
    data: Any = item.data
    return np.frombuffer(data, dtype).reshape(item.shape)


def test_a_convolutional_network_on_a_batch_of_requests(tmp_path: Path) -> None:
    model = instance(source(tmp_path, networks.convolutional()))
    random = np.random.default_rng(1)
    images = [random.normal(size=(rows, 3, 8, 9)).astype(np.float32) for rows in (2, 1, 3)]
    batch = [request(tensor("IMAGE", item), rows=len(item)) for item in images]
    times = model.execute(batch)
    assert times is not None
    assert times.input_end_ns <= times.output_start_ns
    for item, image in zip(batch, images, strict=True):
        (output,) = answer(item).outputs
        assert (output.name, output.datatype, output.shape) == ("PROBABILITIES", DataType.FP32, (len(image), 5))
        assert np.allclose(array(output), networks.convolutional_by_numpy(image), rtol=1e-4)


def test_shapes_may_change_from_request_to_request(tmp_path: Path) -> None:
    model = instance(source(tmp_path, networks.convolutional()))
    for height, width in ((4, 4), (16, 3), (5, 20)):
        image = np.random.default_rng(height).normal(size=(1, 3, height, width)).astype(np.float32)
        item = request(tensor("IMAGE", image))
        model.execute([item])
        assert np.allclose(array(answer(item).outputs[0]), networks.convolutional_by_numpy(image), rtol=1e-4)


@pytest.mark.parametrize("datatype", [item for item in DataType if item is not DataType.BYTES])
def test_every_datatype(tmp_path: Path, datatype: DataType) -> None:
    model = instance(source(tmp_path, networks.identity(datatype)))
    values = np.array([[0, 1, 2], [3, 4, 5]]).astype(datatype.numpy_name)
    item = request(tensor("X", values, datatype), rows=2)
    model.execute([item])
    (output,) = answer(item).outputs
    assert (output.datatype, output.shape) == (datatype, (2, 3))
    assert memoryview(output.data).tobytes() == values.tobytes()


def test_strings(tmp_path: Path) -> None:
    model = instance(source(tmp_path, networks.identity(DataType.BYTES)))
    items = [
        request(Tensor("X", DataType.BYTES, (1, len(texts)), bytes_codec.serialize(texts)))
        for texts in (["caf\u00e9", ""], ["a\0b", "x" * 300])
    ]
    model.execute(items)
    found = [bytes_codec.deserialize(answer(item).outputs[0].data).tolist() for item in items]
    assert found == [["caf\u00e9".encode(), b""], [b"a\0b", b"x" * 300]]


def test_what_one_client_sends_wrong_is_not_the_error_of_others_in_its_batch(tmp_path: Path) -> None:
    model = instance(source(tmp_path, networks.identity(DataType.BYTES)))
    wrong = bytes_codec.serialize([b"\xff"])
    items = [
        request(Tensor("X", DataType.BYTES, shape, data))
        for shape, data in (((1, 1), bytes(4)), ((1, 1), wrong), ((1,), bytes(4)), ((1, 1), bytes(4)))
    ]
    model.execute(items)
    first, text, row, last = [answer(item) for item in items]
    assert first.error is last.error is None
    assert "not UTF-8" in str(text.error)
    assert "Invalid rank" in str(row.error)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    model = instance(source(tmp_path, networks.identity(DataType.BYTES)))
    item = request(Tensor("X", DataType.BYTES, (1, 1), bytes_codec.serialize([b"\xff"])))
    with pytest.raises(InvalidArgument, match="input 'X' has an element that is not UTF-8"):
        model.execute([item])


def test_only_what_is_wanted_is_returned(tmp_path: Path) -> None:
    two = networks.network(
        [helper.make_node("Add", ["X", "X"], ["Y"]), helper.make_node("Neg", ["X"], ["Z"])],
        [("X", TensorProto.FLOAT, ["N", 2])],
        [("Y", TensorProto.FLOAT, ["N", 2]), ("Z", TensorProto.FLOAT, ["N", 2])],
    )
    model = instance(source(tmp_path, two))
    values = np.ones((1, 2), np.float32)
    batch = [
        request(tensor("X", values), requested=[RequestedOutput("Z")]),
        request(tensor("X", values), requested=[RequestedOutput("Y"), RequestedOutput("Z")]),
        request(tensor("X", values)),
    ]
    model.execute(batch[:1])
    model.execute(batch[1:])
    assert [[output.name for output in answer(item).outputs] for item in batch] == [["Z"], ["Y", "Z"], ["Y", "Z"]]
    assert array(answer(batch[0]).outputs[0]).tolist() == [[-1, -1]]


def test_a_network_without_batches_runs_requests_one_by_one(tmp_path: Path) -> None:
    model = instance(source(tmp_path, networks.double([2])))
    batch = [request(tensor("X", np.full(2, number, np.float32))) for number in range(3)]
    model.execute(batch)
    assert [array(answer(item).outputs[0]).tolist() for item in batch] == [[0, 0], [2, 2], [4, 4]]


def test_scalars_have_the_shape_that_the_config_says(tmp_path: Path) -> None:
    model = instance(source(tmp_path, networks.double([])))
    item = request(tensor("X", np.array([4], np.float32)))
    model.execute([item])
    (output,) = answer(item).outputs
    assert (output.shape, array(output).tolist()) == ((1,), [8])


def test_an_initializer_may_be_replaced(tmp_path: Path) -> None:
    scaled = networks.network(
        [helper.make_node("Mul", ["X", "FACTOR"], ["Y"])],
        [("X", TensorProto.FLOAT, [2]), ("FACTOR", TensorProto.FLOAT, [1])],
        [("Y", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.array([3], np.float32), "FACTOR")],
    )
    text = (
        'input { name: "X" data_type: TYPE_FP32 dims: 2 } output { name: "Y" data_type: TYPE_FP32 dims: 2 }'
        'input { name: "FACTOR" data_type: TYPE_FP32 dims: 1 optional: true }'
    )
    model = instance(source(tmp_path, scaled, text))
    values = tensor("X", np.ones(2, np.float32))
    batch = [request(values), request(values, tensor("FACTOR", np.array([5], np.float32)))]
    model.execute(batch)
    assert [array(answer(item).outputs[0]).tolist() for item in batch] == [[3, 3], [5, 5]]


def test_ragged_inputs_and_batch_inputs(tmp_path: Path) -> None:
    # Sums of the elements of each request: the running sum at its end less that at its beginning.
    sums = networks.network(
        [
            helper.make_node("Constant", [], ["zero"], value=numpy_helper.from_array(np.array([0.0], np.float32))),
            helper.make_node("Constant", [], ["axis"], value=numpy_helper.from_array(np.array(0, np.int64))),
            helper.make_node("CumSum", ["X", "axis"], ["c"]),
            helper.make_node("Concat", ["zero", "c"], ["running"], axis=0),
            helper.make_node("Gather", ["running", "ENDS"], ["at"]),
            helper.make_node("Slice", ["at", "one", "max"], ["to"]),
            helper.make_node("Slice", ["at", "null", "minus"], ["from"]),
            helper.make_node("Sub", ["to", "from"], ["SUM"]),
        ],
        [("X", TensorProto.FLOAT, ["N"]), ("ENDS", TensorProto.INT32, ["M"])],
        [("SUM", TensorProto.FLOAT, ["K"])],
        [
            numpy_helper.from_array(np.array([value], np.int64), name)
            for name, value in (("one", 1), ("max", 2**31), ("null", 0), ("minus", -1))
        ],
    )
    text = """
        max_batch_size: 4
        input { name: "X" data_type: TYPE_FP32 dims: -1 allow_ragged_batch: true }
        output { name: "SUM" data_type: TYPE_FP32 dims: 1 }
        batch_input { kind: BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO target_name: "ENDS" data_type: TYPE_INT32
            source_input: "X" }
        batch_output { kind: BATCH_SCATTER_WITH_INPUT_SHAPE target_name: "OTHER" source_input: "X" }
    """.replace('batch_output { kind: BATCH_SCATTER_WITH_INPUT_SHAPE target_name: "OTHER" source_input: "X" }', "")
    where = source(tmp_path, sums, text)
    where.config.output[0].reshape.SetInParent()
    model = OnnxBackend().load(where).new_instance(InstanceSpec("m_0_0"))
    batch = [request(tensor("X", np.arange(count, dtype=np.float32)[None])) for count in (3, 1, 5)]
    model.execute(batch)
    assert [array(answer(item).outputs[0]).tolist() for item in batch] == [[3], [0], [10]]


def placed(memory: FakeMemory, byte_size: int) -> PlacedOutput:
    memory.regions["r"] = bytearray(byte_size)
    return PlacedOutput(
        name="Y", region="r", byte_size=byte_size, lease=memory.region("r", 0, byte_size, writable=True)
    )


def test_an_output_is_written_where_the_client_wants_it(tmp_path: Path) -> None:
    model = instance(source(tmp_path, networks.double(), ROWS))
    memory = FakeMemory()
    item = request(tensor("X", np.ones((2, 4), np.float32)), requested=[placed(memory, 32)], rows=2)
    model.execute([item])
    data: Any = answer(item).outputs[0].data
    assert np.frombuffer(memory.regions["r"], np.float32).tolist() == [2] * 8
    assert np.shares_memory(data, np.frombuffer(memory.regions["r"], np.float32))


def test_a_place_that_is_too_small_or_wrongly_declared_is_not_used(tmp_path: Path) -> None:
    model = instance(source(tmp_path, networks.double(), ROWS))
    memory = FakeMemory()
    item = request(tensor("X", np.ones((2, 4), np.float32)), requested=[placed(memory, 31)], rows=2)
    model.execute([item])
    assert array(answer(item).outputs[0]).tolist() == [[2] * 4] * 2
    assert memory.regions["r"] == bytes(31)
    # A network that says that it returns as many numbers as it is given, and does not.
    found = networks.network(
        [helper.make_node("NonZero", ["X"], ["n"]), helper.make_node("Squeeze", ["n", "a"], ["Y"])],
        [("X", TensorProto.FLOAT, ["N"])],
        [("Y", TensorProto.INT64, ["N"])],
        [numpy_helper.from_array(np.array([0], np.int64), "a")],
    )
    lying = instance(
        source(
            tmp_path / "lying",
            found,
            'input { name: "X" data_type: TYPE_FP32 dims: -1 } output { name: "Y" data_type: TYPE_INT64 dims: -1 }',
        )
    )
    for _ in range(2):
        item = request(tensor("X", np.array([0, 5, 0, 7], np.float32)), requested=[placed(memory, 64)])
        lying.execute([item])
        assert array(answer(item).outputs[0], np.int64).tolist() == [1, 3]


def test_the_model_may_be_a_folder(tmp_path: Path) -> None:
    where = source(tmp_path, networks.double())
    file = tmp_path / "m" / "1" / "model.onnx"
    data = file.read_bytes()
    file.unlink()
    file.mkdir()
    (file / "model.onnx").write_bytes(data)
    item = request(tensor("X", np.ones((1, 4), np.float32)))
    instance(where).execute([item])
    assert array(answer(item).outputs[0]).tolist() == [[2] * 4]


def test_instances_of_a_group_can_share_a_session(tmp_path: Path) -> None:
    parameter = 'parameters { key: "share_session_between_instances" value { string_value: "true" } }'
    sessions = {}
    for text in (ROWS, ROWS + parameter):
        model = OnnxBackend().load(source(tmp_path, networks.double(), text))
        names = ("m_0_0", "m_0_1", "m_1_0")
        first, second, other = (model.new_instance(InstanceSpec(name))._session for name in names)
        sessions[text] = (first is second, first is other)
    assert list(sessions.values()) == [(False, False), (True, False)]


def test_a_file_that_is_missing_or_broken(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"unable to find '.*/m/1/model.onnx' for model instance 'm'"):
        instance(source(tmp_path, None, ROWS))
    with pytest.raises(InternalError, match=r"onnx runtime error 7: Load model from .* failed"):
        instance(source(tmp_path, b"no network", ROWS))


def test_an_error_of_a_run(tmp_path: Path) -> None:
    reshape = networks.network(
        [helper.make_node("Reshape", ["X", "shape"], ["Y"])],
        [("X", TensorProto.FLOAT, ["N", "M"])],
        [("Y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.array([-1, 3], np.int64), "shape")],
    )
    model = instance(source(tmp_path, reshape))
    with pytest.raises(InternalError, match=r"^onnx runtime error \d+: Non-zero status code returned while running"):
        model.execute([request(tensor("X", np.ones((1, 4), np.float32)))])


def test_rows_that_cannot_be_shared_out(tmp_path: Path) -> None:
    lost = networks.network(
        [helper.make_node("Compress", ["X", "first"], ["Y"], axis=0)],
        [("X", TensorProto.FLOAT, ["N", 4])],
        [("Y", TensorProto.FLOAT, ["K", 4])],
        [numpy_helper.from_array(np.array([True]), "first")],
    )
    model = instance(source(tmp_path, lost, ROWS))
    values = np.ones((1, 4), np.float32)
    with pytest.raises(InternalError, match="failed to split the output tensor 'Y' in responses: expected batch size"):
        model.execute([request(tensor("X", values)), request(tensor("X", values))])


def test_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has the CUDA provider")
    with pytest.raises(TensorhubError, match="model 'm' needs the CUDAExecutionProvider of ONNX Runtime"):
        instance(source(tmp_path, networks.double(), ROWS), "GPU")


SHARED_THREADS = """
import sys
from pathlib import Path
import numpy as np
from tests.backends import onnx_networks as networks
from tests.backends.test_onnx import ROWS, answer, array, instance
shared = {"enable-global-threadpool": "1", "intra_op_thread_count": "1", "inter_op_thread_count": "1"}
model = instance(networks.source(Path(sys.argv[1]), networks.double(), ROWS, backend_config=shared))
item = networks.request(networks.tensor("X", np.ones((1, 4), np.float32)))
model.execute([item])
print(array(answer(item).outputs[0]).tolist())
"""


def test_the_threads_of_all_sessions_can_be_shared(tmp_path: Path) -> None:
    # In a process of its own, which has such threads for the rest of its life.
    command = [sys.executable, "-c", SHARED_THREADS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, timeout=60, check=False)
    assert done.stdout == "[[2.0, 2.0, 2.0, 2.0]]\n", done.stderr


@pytest.mark.parametrize(("option", "expected"), [({}, 4), ({"default-max-batch-size": "16"}, 16)])
def test_the_largest_batch_of_a_bare_network(tmp_path: Path, option: dict[str, str], expected: int) -> None:
    completed = OnnxBackend().auto_complete(source(tmp_path, networks.double(), backend_config=option))
    assert completed.max_batch_size == expected
    assert completed.HasField("dynamic_batching")


def test_a_wrong_largest_batch(tmp_path: Path) -> None:
    where = source(tmp_path, networks.double(), backend_config={"default-max-batch-size": "many"})
    with pytest.raises(InvalidArgument, match="default-max-batch-size=many: not a whole number"):
        OnnxBackend().auto_complete(where)
