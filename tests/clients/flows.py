"""What the flows of the stock clients share: a server to talk to, and how a call of either kind is waited for."""

import inspect
import shutil
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from tests.serving import EXAMPLE_MODELS, PROJECT, RunningServer, serving

_ECHO = PROJECT / "tests" / "conformance" / "models" / "edges" / "echo"
_SLOW_CONFIG = """backend: "python"
max_batch_size: 0
input [ { name: "SECONDS" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "DONE" data_type: TYPE_FP32 dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""
SLOW_MODEL = """import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            seconds = pb_utils.get_input_tensor_by_name(request, "SECONDS").as_numpy()
            time.sleep(float(seconds[0]))
            tensors = [pb_utils.Tensor("DONE", seconds)]
            told = {"note": "slept", "times": 1, "awake": True}
            responses.append(pb_utils.InferenceResponse(tensors, parameters=told))
        return responses
"""
ROW = np.arange(16, dtype=np.int32).reshape(1, 16)

Client = Any
Flow = Callable[[Client], Awaitable[None]]
Run = Callable[[Flow], None]


async def value(result: Any) -> Any:
    """Return what a call gave: the asyncio client's calls have to be awaited."""
    return await result if inspect.isawaitable(result) else result


async def refusal(call: Callable[[], Any]) -> str:
    """Return the text of the error that a call ends with, in either client."""
    with pytest.raises(InferenceServerException) as caught:
        await value(call())
    return str(caught.value)


@contextmanager
def explicit_server(work: Path, options: Sequence[str]) -> Iterator[RunningServer]:
    """A server in explicit mode, on copies of the example models, one that reports and one that is slow."""
    models = work / "models"
    for model in (*EXAMPLE_MODELS.iterdir(), _ECHO):
        if model.is_dir():
            shutil.copytree(model, models / model.name, ignore=shutil.ignore_patterns("__pycache__"))
    (models / "slow" / "1").mkdir(parents=True)
    (models / "slow" / "config.pbtxt").write_text(_SLOW_CONFIG)
    (models / "slow" / "1" / "model.py").write_text(SLOW_MODEL)
    with serving(work, ["--model-control-mode=explicit", "--load-model=*", *options], models) as running:
        yield running
