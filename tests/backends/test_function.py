"""The `function` backend: files, calls with arrays, and errors that say what the function did."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tensorhub.backends.arrays import array_of, tensor_of
from tensorhub.backends.function.backend import FunctionBackend, FunctionInstance
from tensorhub.backends.function.describe import describe
from tensorhub.backends.function.files import SourceFile
from tensorhub.backends.port import InstanceSpec, ModelSource
from tensorhub.errors import InternalError, InvalidArgument, NotFound, TensorhubError
from tensorhub.protocol import messages
from tensorhub.requests import InferRequest, InferResponse, RequestedOutput
from tensorhub.tensors import DataType

_HEAD = """import asyncio
import numpy as np
import tensorhub
"""


def _file(folder: Path, text: str) -> Path:
    path = folder / "f" / "1" / "model.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_HEAD + text)
    return path


def _source(folder: Path, text: str, **config: Any) -> ModelSource:
    _file(folder, text)
    return ModelSource("f", 1, str(folder / "f"), messages.ModelConfig(name="f", backend="function", **config))


def _instance(folder: Path, text: str) -> FunctionInstance:
    backend = FunctionBackend()
    source = _source(folder, text)
    source = ModelSource("f", 1, source.folder, backend.auto_complete(source))
    return backend.load(source).new_instance(InstanceSpec("f_0"))


class Asked:
    """A request, and what comes of it."""

    def __init__(self, *requested: str, **inputs: np.ndarray) -> None:
        self.outputs: list[dict[str, np.ndarray]] = []
        self.error: TensorhubError | None = None
        self.done = threading.Event()
        rows = len(next(iter(inputs.values())))
        self.request = InferRequest(
            "f",
            1,
            "",
            {name: tensor_of(name, _datatype(array), array) for name, array in inputs.items()},
            requested=tuple(RequestedOutput(name) for name in requested),
            batch_size=rows,
            responder=self._respond,
        )

    def _respond(self, request: InferRequest, response: InferResponse | None, final: bool) -> None:
        if response is not None and response.error is not None:
            self.error = response.error
        elif response is not None:
            self.outputs.append({tensor.name: array_of(tensor) for tensor in response.outputs})
        if final:
            self.done.set()


def _datatype(array: np.ndarray) -> DataType:
    return next(item for item in DataType if np.dtype(item.numpy_name) == array.dtype)


def _run(instance: FunctionInstance, *asked: Asked) -> None:
    instance.execute([item.request for item in asked])
    assert all(item.done.wait(60) for item in asked)
    instance.finalize()


def _rows(*values: float) -> np.ndarray:
    return np.array([[value, value] for value in values], np.float32)


_BATCHED = """
calls = []

@tensorhub.model(inputs={"A": ("FP32", [-1])}, outputs={"B": ("FP32", [-1]), "C": ("INT64", [1])}, max_batch_size=8)
def f(A):
    calls.append(A.shape)
    return {"B": A * 2, "C": np.full((len(A), 1), len(calls))}
"""


def test_requests_of_a_run_are_one_call(tmp_path: Path) -> None:
    first, second = Asked(A=_rows(1, 2)), Asked(A=_rows(3))
    _run(_instance(tmp_path, _BATCHED), first, second)
    assert first.outputs[0]["B"].tolist() == [[2, 2], [4, 4]]
    assert second.outputs[0]["B"].tolist() == [[6, 6]]
    assert second.outputs[0]["C"].tolist() == [[1]]


def test_requests_of_other_shapes_are_calls_of_their_own(tmp_path: Path) -> None:
    first, second = Asked(A=_rows(1)), Asked(A=np.ones((1, 5), np.float32))
    _run(_instance(tmp_path, _BATCHED), first, second)
    assert first.outputs[0]["B"].shape == (1, 2)
    assert second.outputs[0]["B"].shape == (1, 5)


def test_only_what_was_requested_is_returned(tmp_path: Path) -> None:
    asked = Asked("C", A=_rows(1))
    _run(_instance(tmp_path, _BATCHED), asked)
    assert list(asked.outputs[0]) == ["C"]


def test_without_batches_each_request_is_a_call(tmp_path: Path) -> None:
    text = """
@tensorhub.model(inputs={"A": ("FP32", [2])}, outputs={"B": ("FP32", [1]), "C": ("FP32", [2])})
def f(A):
    return [A.sum()], A
"""
    first, second = Asked(A=np.array([1, 2], np.float32)), Asked(A=np.array([3, 4], np.float32))
    _run(_instance(tmp_path, text), first, second)
    assert [item.outputs[0]["B"].tolist() for item in (first, second)] == [[3], [7]]


def test_text_goes_in_as_bytes_and_out_as_anything_like_it(tmp_path: Path) -> None:
    text = """
@tensorhub.model(inputs={"A": (str, [2])}, outputs={"B": (str, [2])})
def f(A):
    return np.array([item.decode().upper() for item in A])
"""
    asked = Asked(A=np.array([b"a", b"bc"], object))
    _run(_instance(tmp_path, text), asked)
    assert asked.outputs[0]["B"].tolist() == [b"A", b"BC"]


def test_coroutines_overlap(tmp_path: Path) -> None:
    text = """
arrived = []
together = asyncio.Event()

@tensorhub.model(inputs={"A": ("FP32", [1])}, outputs={"B": ("FP32", [1])})
async def f(A):
    arrived.append(A)
    if len(arrived) == 3:
        together.set()
    await asyncio.wait_for(together.wait(), 60)
    return A + 1
"""
    asked = [Asked(A=np.array([value], np.float32)) for value in (1, 2, 3)]
    instance = _instance(tmp_path, text)
    for item in asked:
        instance.execute([item.request])
        assert item.request.deferred
    assert all(item.done.wait(60) for item in asked)
    instance.finalize()
    assert [item.outputs[0]["B"].tolist() for item in asked] == [[2], [3], [4]]


@pytest.mark.parametrize("prefix", ["", "async "])
def test_a_generator_gives_any_number_of_responses(tmp_path: Path, prefix: str) -> None:
    text = f"""
@tensorhub.model(inputs={{"A": ("INT32", [1])}}, outputs={{"B": ("INT32", [1])}})
{prefix}def f(A):
    for number in range(A[0]):
        yield np.array([number], np.int32)
    if A[0] == 3:
        raise RuntimeError("three")
"""
    three, none, two = (Asked(A=np.array([count], np.int32)) for count in (3, 0, 2))
    _run(_instance(tmp_path, text), three, none, two)
    assert [[int(item["B"][0]) for item in asked.outputs] for asked in (three, none, two)] == [[0, 1, 2], [], [0, 1]]
    assert isinstance(three.error, InternalError)
    assert three.error.message == "RuntimeError: three"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("return None", "the function returned NoneType; it has to return a dict or a tuple with the outputs [B, C]"),
        ("return {'B': A}", "the function returned [B]; the outputs are [B, C]"),
        ("return A, A, A", "the function returned 3 values; the outputs are [B, C]"),
        (
            "return A, A.astype('float64')",
            "output 'C' is an array of float64; declared is FP32, which is float32: return it as .astype('float32')",
        ),
        ("return A, A[0]", "output 'C' has shape [2]; declared is [-1,2], the batch dimension in front of [2]"),
        ("return A, A[:, :1]", "output 'C' has shape [1,1]; declared is [-1,2]"),
        ("return A, 'text'", "output 'C' cannot be an array of float32"),
        ("return A, np.concatenate([A, A])", "expected batch size of at least 1 in model output, got 2"),
        ("raise KeyError('x')", "KeyError: 'x'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_errors_say_what_the_function_did(tmp_path: Path, body: str, text: str) -> None:
    asked = Asked(A=_rows(1))
    outputs = '{"B": ("FP32", [2]), "C": ("FP32", [2])}'
    decorator = f'@tensorhub.model(inputs={{"A": ("FP32", [2])}}, outputs={outputs}, max_batch_size=8)'
    _run(_instance(tmp_path, f"\n{decorator}\ndef f(A):\n    {body}\n"), asked)
    assert isinstance(asked.error, InternalError)
    assert text in asked.error.message


def test_an_input_that_is_left_out_is_left_to_the_function(tmp_path: Path) -> None:
    text = """
@tensorhub.model(
    inputs={"A": ("FP32", [2]), "S": tensorhub.TensorSpec("FP32", (1,), optional=True)}, outputs={"B": ("FP32", [2])}
)
def f(A, S=3):
    return (A * S).astype(np.float32)
"""
    asked = Asked(A=np.array([1, 2], np.float32))
    _run(_instance(tmp_path, text), asked)
    assert asked.outputs[0]["B"].tolist() == [3, 6]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("def f(:\n", "model.py:4:7: SyntaxError: invalid syntax"),
        ("import no_such_module\n", "model.py:4: ModuleNotFoundError: No module named 'no_such_module'"),
        ("\n\n1 / 0\n", "model.py:6: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)\n", "model.py:4: it ends the process with 3"),
        ("x = 1\n", "model.py: nothing in it is decorated with @tensorhub.model"),
        (
            "@tensorhub.model(inputs={'A': ('FP32', [1])}, outputs={})\ndef f(A): ...\n",
            "model.py:4: model 'f': outputs must be",
        ),
        (_BATCHED + _BATCHED.replace("def f", "def g").replace("inputs", "name='f', inputs"), "is there twice"),
    ],
)
def test_a_file_that_cannot_be_served_says_where_and_why(tmp_path: Path, text: str, error: str) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(InvalidArgument) as caught:
        SourceFile(str(path))
    assert error in caught.value.message
    assert error in describe(str(path))["error"]


def test_what_is_imported_beside_the_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "beside_it.py").write_text("FACTOR = 5\n")
    real = tmp_path / "real.py"
    real.write_text(_HEAD + "from beside_it import FACTOR\n" + _BATCHED)
    link = tmp_path / "link.py"
    link.symlink_to(real)
    assert list(SourceFile(str(link)).models) == ["f"]


def test_the_config_may_add_to_the_decorator_and_not_contradict_it(tmp_path: Path) -> None:
    batching = messages.message_class("inference.ModelDynamicBatching")(max_queue_delay_microseconds=9)
    config = FunctionBackend().auto_complete(_source(tmp_path, _BATCHED, dynamic_batching=batching))
    assert config.dynamic_batching.max_queue_delay_microseconds == 9
    assert config.max_batch_size == 8
    with pytest.raises(InvalidArgument, match="'max_batch_size' of the configuration is not what"):
        FunctionBackend().auto_complete(_source(tmp_path, _BATCHED, max_batch_size=3))
    with pytest.raises(NotFound):
        FunctionBackend().load(ModelSource("f", 2, str(tmp_path / "f"), messages.ModelConfig(name="f")))
