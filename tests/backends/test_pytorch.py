"""PyTorch programs: what they compute for clients, by which names, and what is said when they do not fit."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")

from google.protobuf import text_format  # noqa: E402

from tensorhub import bytes_codec  # noqa: E402
from tensorhub.backends.port import InstanceSpec, ModelInstance, ModelSource  # noqa: E402
from tensorhub.backends.pytorch.backend import TorchBackend  # noqa: E402
from tensorhub.errors import InternalError, InvalidArgument, TensorhubError, Unavailable  # noqa: E402
from tensorhub.protocol import messages  # noqa: E402
from tensorhub.requests import InferRequest, InferResponse, RequestedOutput, Tensor  # noqa: E402
from tensorhub.tensors import DataType  # noqa: E402
from tests.backends.python_models import Answers  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


class Convolutional(torch.nn.Module):  # type: ignore[misc,name-defined]
    """A classifier of images of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 6, 3, padding=1)
        self.dense = torch.nn.Linear(6, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.convolution(image)).mean(dim=(2, 3))
        return torch.softmax(self.dense(features), dim=1)


class AddSub(torch.nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return left + right, left - right


class OfDict(torch.nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"sum": values["a"] + values["b"], "product": values["a"] * values["b"]}


class OfText(torch.nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, text: list[str]) -> list[str]:
        return [item.upper() for item in text]


class Fails(torch.nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape([7, 11])


def write(folder: Path, module: Any, text: str, example: Any = None, file_name: str = "model.pt") -> ModelSource:
    version = folder / "m" / "1"
    version.mkdir(parents=True, exist_ok=True)
    module.eval()
    if file_name.endswith(".pt2"):
        arguments, shapes = example
        torch.export.save(torch.export.export(module, arguments, dynamic_shapes=shapes), version / file_name)
    else:
        scripted = torch.jit.script(module) if example is None else torch.jit.trace(module, example)
        torch.jit.save(scripted, str(version / file_name))
    config = messages.ModelConfig(name="m", backend="pytorch", default_model_filename=file_name)
    text_format.Parse(text, config)
    return ModelSource("m", 1, str(folder / "m"), config)


def instance(source: ModelSource, kind: str = "CPU") -> ModelInstance:
    return TorchBackend().load(source).new_instance(InstanceSpec("m_0_0", kind))


def io(kind: str, name: str, dims: str = "-1", datatype: str = "FP32") -> str:
    return f'{kind} {{ name: "{name}" data_type: TYPE_{datatype} dims: [{dims}] }}\n'


IMAGE = "max_batch_size: 8\n" + io("input", "INPUT__0", "3, -1, -1") + io("output", "OUTPUT__0", "5")
PAIR = io("input", "left") + io("input", "right")
SUMS = io("output", "SUM__0") + io("output", "DIFFERENCE__1")


def request(rows: int = 1, requested: tuple[str, ...] = (), **arrays: npt.NDArray[Any]) -> InferRequest:
    kinds = {"float32": DataType.FP32, "int64": DataType.INT64, "uint16": DataType.BF16}
    inputs: dict[str, Tensor] = {}
    for name, array in arrays.items():
        data: Any = array
        inputs[name] = Tensor(name, kinds[array.dtype.name], array.shape, data)
    listed = tuple(RequestedOutput(name) for name in requested)
    return InferRequest("m", 1, "id", inputs, listed, batch_size=rows, responder=Answers())


def answer(item: InferRequest) -> InferResponse:
    assert isinstance(item.responder, Answers)
    (response,) = item.responder.responses
    assert response is not None
    return response


def values(item: InferRequest) -> dict[str, list[Any]]:
    found = {}
    for output in answer(item).outputs:
        data: Any = output.data
        found[output.name] = np.asarray(data).reshape(output.shape).tolist()
    return found


@pytest.mark.parametrize("form", ["scripted", "traced", "exported"])
def test_a_convolutional_network_on_a_batch_of_requests(tmp_path: Path, form: str) -> None:
    module = Convolutional()
    example: Any = None
    file_name = "model.pt"
    if form == "traced":
        example = torch.rand(2, 3, 8, 8)
    elif form == "exported":
        free = torch.export.Dim("batch"), torch.export.Dim("height"), torch.export.Dim("width")
        example = ((torch.rand(2, 3, 8, 9),), {"image": {0: free[0], 2: free[1], 3: free[2]}})
        file_name = "model.pt2"
    model = instance(write(tmp_path, module, IMAGE, example, file_name))
    random = np.random.default_rng(3)
    images = [random.normal(size=(rows, 3, 8, 9)).astype(np.float32) for rows in (2, 1, 3)]
    batch = [request(len(image), INPUT__0=image) for image in images]
    model.execute(batch)
    for item, image in zip(batch, images, strict=True):
        with torch.no_grad():
            expected = module(torch.from_numpy(image)).numpy()
        assert np.allclose(values(item)["OUTPUT__0"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("first", "second"), [("left", "right"), ("INPUT__0", "INPUT__1"), ("ANY", "THING"), ("x__1", "y__0")]
)
def test_names_say_which_argument_an_input_is(tmp_path: Path, first: str, second: str) -> None:
    text = io("input", first) + io("input", second) + SUMS
    model = instance(write(tmp_path, AddSub(), text))
    item = request(**{second: np.array([1], np.float32), first: np.array([5], np.float32)})
    model.execute([item])
    sign = -1 if first == "x__1" else 1
    assert values(item) == {"SUM__0": [6], "DIFFERENCE__1": [4 * sign]}


def test_arguments_in_another_order(tmp_path: Path) -> None:
    text = io("input", "right") + io("input", "left") + io("output", "DIFFERENCE__1") + io("output", "SUM__0")
    model = instance(write(tmp_path, AddSub(), text))
    item = request(left=np.array([5], np.float32), right=np.array([1], np.float32))
    model.execute([item])
    assert values(item) == {"SUM__0": [6], "DIFFERENCE__1": [4]}


def test_keyword_arguments_of_an_exported_program(tmp_path: Path) -> None:
    version = tmp_path / "m" / "1"
    version.mkdir(parents=True)
    exported = torch.export.export(AddSub(), (torch.rand(3),), {"right": torch.rand(3)})
    torch.export.save(exported, version / "model.pt2")
    config = messages.ModelConfig(name="m", backend="pytorch", default_model_filename="model.pt2")
    text_format.Parse((PAIR + SUMS).replace("[-1]", "[3]"), config)
    model = instance(ModelSource("m", 1, str(tmp_path / "m"), config))
    item = request(right=np.full(3, 1, np.float32), left=np.full(3, 5, np.float32))
    model.execute([item])
    assert values(item) == {"SUM__0": [6] * 3, "DIFFERENCE__1": [4] * 3}


def test_only_what_is_wanted_is_returned(tmp_path: Path) -> None:
    model = instance(write(tmp_path, AddSub(), PAIR + SUMS))
    item = request(requested=("DIFFERENCE__1",), left=np.array([5], np.float32), right=np.array([1], np.float32))
    model.execute([item])
    assert values(item) == {"DIFFERENCE__1": [4]}


def test_dicts(tmp_path: Path) -> None:
    text = io("input", "a") + io("input", "b") + io("output", "sum") + io("output", "product")
    model = instance(write(tmp_path, OfDict(), text))
    item = request(a=np.array([3], np.float32), b=np.array([4], np.float32))
    model.execute([item])
    assert values(item) == {"sum": [7], "product": [12]}


def test_text(tmp_path: Path) -> None:
    text = io("input", "text", datatype="STRING") + io("output", "UPPER__0", datatype="STRING")
    model = instance(write(tmp_path, OfText(), text))
    item = request()
    item.inputs["text"] = Tensor("text", DataType.BYTES, (2,), bytes_codec.serialize(["caf\u00e9", ""]))
    model.execute([item])
    assert bytes_codec.deserialize(answer(item).outputs[0].data).tolist() == [
        "CAF\u00e9".encode(),
        b"",
    ]  # TorchScript changes only ASCII
    item = request()
    item.inputs["text"] = Tensor("text", DataType.BYTES, (1,), bytes_codec.serialize([b"\xff"]))
    with pytest.raises(InvalidArgument, match="input 'text' has an element that is not UTF-8"):
        model.execute([item])


def test_bfloat16(tmp_path: Path) -> None:
    text = io("input", "left", datatype="BF16") + io("input", "right", datatype="BF16")
    text += io("output", "SUM__0", datatype="BF16") + io("output", "DIFFERENCE__1", datatype="BF16")
    model = instance(write(tmp_path, AddSub(), text))
    one, two = np.array([0x3F80], np.uint16), np.array([0x4000], np.uint16)
    item = request(left=two, right=one)
    model.execute([item])
    assert values(item) == {"SUM__0": [0x4040], "DIFFERENCE__1": [0x3F80]}


def test_memory_that_must_not_be_written_to_is_copied(tmp_path: Path) -> None:
    class Writes(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.add_(1)

    model = instance(write(tmp_path, Writes(), io("input", "x") + io("output", "Y__0")))
    given = np.array([1, 2], np.float32)
    given.setflags(write=False)
    item = request(x=given)
    model.execute([item])
    assert values(item) == {"Y__0": [2, 3]}
    assert given.tolist() == [1, 2]


def parameter(name: str, value: str) -> str:
    return f'parameters {{ key: "{name}" value {{ string_value: "{value}" }} }}\n'


def test_parameters(tmp_path: Path) -> None:
    switches = (
        "INFERENCE_MODE",
        "DISABLE_OPTIMIZED_EXECUTION",
        "ENABLE_CACHE_CLEANING",
        "ENABLE_JIT_PROFILING",
        "ENABLE_JIT_EXECUTOR",
        "ENABLE_TENSOR_FUSER",
    )
    text = PAIR + SUMS + "".join(parameter(name, "true") for name in switches)
    text += parameter("INTRA_OP_THREAD_COUNT", str(torch.get_num_threads()))
    model = instance(write(tmp_path, AddSub(), text))
    item = request(left=np.array([5], np.float32), right=np.array([1], np.float32))
    model.execute([item])
    assert values(item)["SUM__0"] == [6]


def test_weights_can_be_shared(tmp_path: Path) -> None:
    shared = []
    for value in ("false", "true"):
        source = write(tmp_path, Convolutional(), IMAGE + parameter("ENABLE_WEIGHT_SHARING", value))
        model = TorchBackend().load(source)
        first, second = (model.new_instance(InstanceSpec(name)) for name in ("m_0_0", "m_0_1"))
        shared.append(first._program is second._program)
        model.unload()
    assert shared == [False, True]


@pytest.mark.parametrize(
    ("module", "text", "error", "message"),
    [
        (
            AddSub(),
            io("input", "left") + SUMS,
            InvalidArgument,
            "unable to load model 'm', configuration expects 1 inputs, model provides 2",
        ),
        (
            AddSub(),
            io("input", "A__0") + io("input", "B__0") + SUMS,
            InvalidArgument,
            "inputs A__0, B__0 do not stand for each of the 2 arguments of forward once",
        ),
        (
            OfText(),
            io("input", "text", "-1, -1", "STRING") + io("output", "U__0", datatype="STRING"),
            InternalError,
            "Triton only supports 1 dimensional List of String as input or output for 'text' for model 'm'",
        ),
        (AddSub(), PAIR + SUMS + parameter("INFERENCE_MODE", "maybe"), InvalidArgument, "INFERENCE_MODE 'maybe'"),
        (AddSub(), PAIR + SUMS + parameter("INTRA_OP_THREAD_COUNT", "0"), InvalidArgument, "number of threads"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, module: Any, text: str, error: type[TensorhubError], message: str) -> None:
    with pytest.raises(error, match=message):
        instance(write(tmp_path, module, text))


@pytest.mark.parametrize(
    ("module", "text", "message"),
    [
        (Fails(), io("input", "x") + io("output", "Y__0"), "PyTorch execute failure: .*shape '.7, 11.' is invalid"),
        (
            AddSub(),
            PAIR + io("output", "SUM__0") + io("output", "MORE__2"),
            "The output MORE__2 in the model configuration refers to an output index which doesn't exist. This model",
        ),
        (
            AddSub(),
            PAIR + io("output", "SUM__0", datatype="INT64"),
            "configuration expects datatype TYPE_INT64 for output 'SUM__0', model provides TYPE_FP32",
        ),
        (
            OfDict(),
            io("input", "a") + io("input", "b") + io("output", "other"),
            "the model returns sum, product, and the",
        ),
    ],
)
def test_what_goes_wrong_when_it_runs(tmp_path: Path, module: Any, text: str, message: str) -> None:
    model = instance(write(tmp_path, module, text))
    names = ("x",) if isinstance(module, Fails) else ("a", "b") if isinstance(module, OfDict) else ("left", "right")
    with pytest.raises(InternalError, match=f"(?s){message}"):
        model.execute([request(**{name: np.array([1], np.float32) for name in names})])


def test_files_that_are_missing_or_broken(tmp_path: Path) -> None:
    source = write(tmp_path, AddSub(), PAIR + SUMS)
    file = tmp_path / "m" / "1" / "model.pt"
    file.write_bytes(b"no program")
    with pytest.raises(InternalError, match="failed to load model 'm'"):
        instance(source)
    file.unlink()
    with pytest.raises(Unavailable, match=r"unable to find '.*/m/1/model\.pt' for model instance 'm'"):
        instance(source)


def test_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InvalidArgument, match="instance 'm_0_0' of model 'm' is for a GPU, and this PyTorch has none"):
        instance(write(tmp_path, AddSub(), PAIR + SUMS), "GPU")
