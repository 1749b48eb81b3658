"""Ensembles at work, when the models of their steps come and go."""

from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any

import pytest

from tensorhub.errors import Unavailable
from tensorhub.protocol import messages
from tensorhub.protocol.model_spec import ModelSpec
from tensorhub.requests import InferRequest, InferResponse, Tensor
from tensorhub.tensors import DataType
from tensorhub.workers.calls import ModelCalls
from tensorhub.workers.decode import RequestDecoder
from tensorhub.workers.encode import ResponseEncoder
from tensorhub.workers.ensemble import EnsembleGraph
from tensorhub.workers.model import RunningModel
from tensorhub.workers.running_ensemble import RunningEnsemble
from tensorhub.workers.statistics import StatisticsRecorder
from tests.waiting import wait_until

from .fake_memory import FakeMemory
from .running import Running


class Calls:
    """What an ensemble needs of ModelCalls to go the short way; on the long way it finds no model."""

    state = object()
    on_loop = False
    answers = staticmethod(ModelCalls.answers)

    def __init__(self, model: RunningModel) -> None:
        self._model = model

    def maybe_here(self, model: str, version: int) -> RunningModel:
        return self._model

    def find(self, model: str, version: int) -> Any:
        raise Unavailable("it has been unloaded")


def ensemble(calls: Any) -> RunningEnsemble:
    config = messages.ModelConfig(name="e")
    config.input.add(name="x", data_type="TYPE_UINT8", dims=[-1])
    config.output.add(name="y", data_type="TYPE_UINT8", dims=[-1])
    step = config.ensemble_scheduling.step.add(model_name="m", model_version=-1)
    step.input_map["i"], step.output_map["o"] = "x", "y"
    spec = ModelSpec.from_config(config, "e", 1)
    news = messages.ModelVersion(model="e", version=1, load_id=2)
    decoder, encoder = RequestDecoder(spec, FakeMemory()), ResponseEncoder(spec, FakeMemory())
    return RunningEnsemble(
        news, EnsembleGraph.from_config(config), 0, spec, decoder, encoder, calls, StatisticsRecorder()
    )


def _output(request: InferRequest) -> InferResponse:
    return InferResponse([Tensor("o", DataType.UINT8, (1,), b"\1")])


@pytest.mark.parametrize("late", [True, False])
def test_a_step_that_answers_later_is_waited_for_although_its_model_is_served_no_more(late: bool) -> None:
    pending: list[InferRequest] = []

    def execute(requests: Sequence[InferRequest]) -> None:
        (request,) = requests
        if request.request_id == "later":
            request.deferred = True
            pending.append(request)
            if not late:
                request.respond(_output(request), False)
                request.respond(None)
        else:
            request.respond(_output(request))

    running = Running(execute, tensors=True)

    def is_quick() -> bool:
        running.ask()
        running.answers.get(timeout=30)
        return running.model.quick

    wait_until(is_quick, "the model may run on any thread")
    found = ensemble(Calls(running.model))
    answers: SimpleQueue[InferResponse | None] = SimpleQueue()

    def respond(request: InferRequest, response: InferResponse | None, final: bool) -> None:
        answers.put(response)
        found.closed()

    inputs = {"x": Tensor("x", DataType.UINT8, (1,), bytearray(1))}
    found.submit(InferRequest("e", 1, "later", inputs, responder=respond))
    if late:
        assert answers.empty(), "the step is still reading the request's memory"
        pending[0].respond(_output(pending[0]))
    answer = answers.get(timeout=30)
    assert answer is not None
    assert answer.error is not None
    assert answer.error.message == "in ensemble 'e', it has been unloaded"
    for model in (found, running.model):
        model.drain(running.drained.set)
        assert running.drained.wait(30), "nothing is open any more"
        running.drained.clear()
        model.unload()
