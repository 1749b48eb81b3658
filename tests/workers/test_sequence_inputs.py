"""What the server adds to the steps of sequences belongs to the model, as all its inputs do: it may write to it."""

from pathlib import Path

import numpy as np
import pytest

from tensorhub.requests import InferRequest, InferResponse, Tensor
from tensorhub.tensors import DataType
from tensorhub.workers.schedulers.port import Run
from tests.backends import python_models

from .schedulers.requests import enqueue
from .schedulers.sequences import scheduler, step

_STATE = 'state [ { input_name: "SI" output_name: "SO" data_type: TYPE_UINT8 dims: [ 1 ] } ]'
_CONFIG = """
    max_batch_size: 3
    input { name: "x" data_type: TYPE_UINT8 dims: -1 }
    output { name: "y" data_type: TYPE_UINT8 dims: 1 }
    sequence_batching { state { input_name: "SI" output_name: "SO" data_type: TYPE_UINT8 dims: 1 } }
"""
_MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        arrays = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        arrays["SI"] += 1
        for name in ("x", "START", "END", "READY", "CORRID"):
            arrays[name][:] = 0
        return pb_utils.InferenceResponse([pb_utils.Tensor("SO", arrays["SI"]), pb_utils.Tensor("y", arrays["SI"])])
"""


@pytest.mark.parametrize("strategy", ["", "oldest { max_candidate_sequences: 3 }"], ids=["direct", "oldest"])
def test_a_model_may_write_to_controls_states_and_null_requests(tmp_path: Path, strategy: str) -> None:
    model = python_models.instance(tmp_path, _MODEL, _CONFIG)
    found = scheduler(f"{strategy} {_STATE}")
    counts: dict[str, int] = {}

    def respond(request: InferRequest, response: InferResponse | None, final: bool) -> None:
        assert response is not None
        assert response.error is None
        (state,) = (tensor for tensor in response.outputs if tensor.name == "SO")
        request.next_states = {"SO": state.kept()}
        counts[request.request_id] = int(np.frombuffer(memoryview(state.data), np.uint8)[0])

    for names in ("as bs", "b", "b", "a"):  # from the second batch on, the first slot may have nobody
        for name in names.split():
            item = step(name[0], name[0], name[1:])
            item.inputs["x"] = Tensor("x", DataType.UINT8, (1, 1), bytearray(1))
            item.responder = respond
            enqueue(found, 0, item)
        for decision in found.poll(0):
            assert isinstance(decision, Run)
            model.execute(decision.requests)
            found.release(decision.instance)
    assert counts == {"a": 2, "b": 3}
