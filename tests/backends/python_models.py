"""Real `model.py` files in a temporary folder, loaded and run as the worker does."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from tensorhub.backends.port import InstanceSpec, ModelInstance, ModelSource
from tensorhub.backends.python.backend import PythonBackend
from tensorhub.errors import InternalError, TensorhubError
from tensorhub.protocol import messages
from tensorhub.requests import InferRequest, InferResponse, RequestedOutput, Tensor
from tensorhub.tensors import DataType

CONFIG = """
    input { name: "IN" data_type: TYPE_INT32 dims: -1 }
    output { name: "OUT" data_type: TYPE_INT32 dims: -1 }
"""


def config(text: str = CONFIG, name: str = "m") -> Any:
    result = messages.ModelConfig(name=name, backend="python")
    text_format.Parse(text, result)
    return result


def source(
    folder: Path, code: str, text: str = CONFIG, *, name: str = "m", version: int = 1, files: Mapping[str, str] = {}
) -> ModelSource:
    """Write a model to folder/name; `files` are relative to it."""
    model = folder / name
    (model / str(version)).mkdir(parents=True, exist_ok=True)
    for path, content in {f"{version}/model.py": code, **files}.items():
        (model / path).parent.mkdir(parents=True, exist_ok=True)
        (model / path).write_text(textwrap.dedent(content))
    return ModelSource(name, version, str(model), config(text, name))


def instance(folder: Path, code: str, text: str = CONFIG, **options: Any) -> ModelInstance:
    return PythonBackend().load(source(folder, code, text, **options)).new_instance(InstanceSpec("m_0_0"))


class Answers:
    """Collects what requests are answered."""

    def __init__(self) -> None:
        self.responses: list[InferResponse | None] = []
        self.final: list[bool] = []

    def __call__(self, request: InferRequest, response: InferResponse | None, final: bool) -> None:
        self.responses.append(response)
        self.final.append(final)


def infer_request(
    answers: Answers | None = None,
    data: Any = None,
    requested: Sequence[RequestedOutput] = (),
    inputs: Mapping[str, Tensor] | None = None,
    **fields: Any,
) -> InferRequest:
    if inputs is None:
        data = bytearray(b"\1\0\0\0\2\0\0\0") if data is None else data
        inputs = {"IN": Tensor("IN", DataType.INT32, (len(data) // 4,), data)}
    return InferRequest("m", 1, "id", dict(inputs), tuple(requested), responder=answers, **fields)


def run(model: ModelInstance, *requests: InferRequest) -> list[InferResponse | None]:
    """Run a batch as the worker does: what `execute` raises fails the requests that are open."""
    answers = Answers()
    batch = requests or (infer_request(),)
    for request in batch:
        request.responder = answers
    try:
        model.execute(batch)
    except TensorhubError as error:
        for request in batch:
            request.fail(error)
    except Exception as error:
        for request in batch:
            request.fail(InternalError(str(error)))
    return answers.responses


def error_of(responses: list[InferResponse | None]) -> TensorhubError:
    (response,) = responses
    assert response is not None
    assert response.error is not None
    return response.error
