"""Inputs in the asker's arena: what a model keeps of them is noticed, and what it does not keep costs nothing."""

from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

from tensorhub.backends.function.backend import FunctionBackend
from tensorhub.backends.port import InstanceSpec, ModelInstance, ModelSource
from tensorhub.protocol import messages
from tensorhub.requests import InferRequest, InferResponse, Tensor
from tensorhub.tensors import DataType
from tensorhub.workers.lent_inputs import KeptInputs, LentInput, kept_inputs
from tests.backends import python_models

SIZE = 1_000

_PYTHON = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.kept = []

    def execute(self, requests):
        return [pb_utils.InferenceResponse([self.answer(request)]) for request in requests]

    def answer(self, request):
        tensor = pb_utils.get_input_tensor_by_name(request, "IN")
        array = tensor.as_numpy()
        {body}
"""
_DECOUPLED = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            request.get_response_sender().send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            assert int(array[0]) == 7
"""
_FUNCTION = """
import numpy as np
import tensorhub

KEPT = []

@tensorhub.model(inputs={{"IN": ("INT32", [-1])}}, outputs={{"OUT": ("INT32", [-1])}})
def m(IN):
    {body}
"""


class Asked:
    """A request with an input that is lent, and whether its model has kept it when it was answered."""

    def __init__(self) -> None:
        self.arena = bytearray(np.full(SIZE, 7, np.int32).tobytes())
        lent = LentInput(memoryview(self.arena))
        self.request = InferRequest(
            "m", 1, "", {"IN": Tensor("IN", DataType.INT32, (SIZE,), lent.view)}, responder=self._respond
        )
        self.request.leases.append(lent)
        self.keeps: list[bool] = []

    def _respond(self, request: InferRequest, response: InferResponse | None, final: bool) -> None:
        assert response is None or response.error is None
        self.keeps.append(bool(kept_inputs(request, response)))


def kept(model: ModelInstance) -> list[bool]:
    """Whether the model keeps its input, in each of three runs."""
    asked = [Asked() for _ in range(3)]
    for item in asked:
        model.execute([item.request])
    return [keeps for item in asked for keeps in item.keeps]


@pytest.mark.parametrize(
    ("body", "keeps"),
    [
        ("return pb_utils.Tensor('OUT', array + 1)", False),
        ("return pb_utils.Tensor('OUT', array)", False),
        ("return pb_utils.Tensor('OUT', array[10:])", False),
        ("self.kept.append(array.copy()); return pb_utils.Tensor('OUT', array)", False),
        ("self.kept.append(array); return pb_utils.Tensor('OUT', array + 1)", True),
        ("self.kept.append(array); return pb_utils.Tensor('OUT', array)", True),
        ("self.kept.append(array[10:].reshape(-1, 10)); return pb_utils.Tensor('OUT', array)", True),
        ("self.kept.append(tensor); return pb_utils.Tensor('OUT', array + 1)", True),
        ("self.kept.append(tensor.to_dlpack()); return pb_utils.Tensor('OUT', array + 1)", True),
        ("out = pb_utils.Tensor('OUT', array); self.kept.append(out.as_numpy()); return out", True),
    ],
)
def test_what_a_python_model_keeps(tmp_path: Path, body: str, keeps: bool) -> None:
    assert kept(python_models.instance(tmp_path, _PYTHON.format(body=body))) == [keeps] * 3


def test_a_tensor_that_is_kept_and_looked_at_later_is_kept(tmp_path: Path) -> None:
    code = _PYTHON.format(
        body="self.kept.append(tensor); return pb_utils.Tensor('OUT', np.zeros(1, np.int32))"
    ).replace("array = tensor.as_numpy()", "")
    assert kept(python_models.instance(tmp_path, code)) == [True] * 3


def test_a_model_may_read_its_inputs_after_the_last_answer(tmp_path: Path) -> None:
    text = f"{python_models.CONFIG} model_transaction_policy {{ decoupled: true }}"
    assert kept(python_models.instance(tmp_path, _DECOUPLED, text)) == [True] * 3


@pytest.mark.parametrize(
    ("body", "keeps"), [("return IN + 1", False), ("KEPT.append(IN); return IN + 1", True), ("return IN", None)]
)
def test_what_a_function_keeps(tmp_path: Path, body: str, keeps: bool | None) -> None:
    folder = tmp_path / "m" / "1"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(_FUNCTION.format(body=body))
    source = ModelSource("m", 1, str(tmp_path / "m"), messages.ModelConfig(name="m", backend="function"))
    config = FunctionBackend().auto_complete(source)
    model = FunctionBackend().load(ModelSource("m", 1, source.folder, config)).new_instance(InstanceSpec("m_0"))
    found = kept(model)
    assert len(found) == 3
    assert keeps is None or found == [keeps] * 3  # what it returns may be taken for kept, which does no harm


def test_an_asker_hears_once_when_all_inputs_of_a_request_are_let_go() -> None:
    posted: SimpleQueue[Callable[[], None]] = SimpleQueue()
    gone: list[str] = []
    table = KeptInputs[str](posted.put, gone.append)
    inputs: list[Any] = [np.zeros(3), np.zeros(3), np.zeros(3)]
    table.keep("a", inputs[:2])
    table.keep("b", inputs[2:])
    assert len(table) == 2
    for expected in ([], ["a"], ["a", "b"]):
        del inputs[0]
        posted.get(timeout=30)()
        assert gone == expected
    assert not table


def test_nobody_is_told_after_the_end() -> None:
    told: list[Any] = []
    table = KeptInputs[str](told.append, told.append)
    memory: Any = np.zeros(3)
    table.keep("a", [memory])
    table.close()
    del memory
    assert told == []
