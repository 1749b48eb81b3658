"""Calls within a worker: what becomes of a response whose memory cannot be taken over."""

from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any

import pytest

from tensorhub.devices import DeviceError, DeviceMemory
from tensorhub.requests import InferRequest, InferResponse, Tensor
from tensorhub.tensors import DataType
from tensorhub.workers.calls import ModelCalls
from tensorhub.workers.straight import StraightRun

from .running import Running
from .test_straight import case


class FailingPort:
    """The driver of a GPU that gives nothing back."""

    def __getattr__(self, name: str) -> Any:
        def refuse(*arguments: Any) -> None:
            raise DeviceError(f"{name} failed")

        return refuse


def _lost(name: str) -> Tensor:
    port: Any = FailingPort()
    data: Any = DeviceMemory(port, 0, 4096, 1, None)
    return Tensor(name, DataType.UINT8, (1,), data)


@pytest.mark.parametrize("decoupled", [False, True])
def test_an_output_that_cannot_be_copied_is_an_error_of_its_request(decoupled: bool) -> None:
    def execute(requests: Sequence[InferRequest]) -> None:
        requests[0].respond(InferResponse([_lost("o")]))

    running = Running(execute, decoupled=decoupled, tensors=True)
    got: SimpleQueue[InferResponse | None] = SimpleQueue()
    for _ in range(2):  # the instance works on
        request = InferRequest("m", 1, "", {})
        request.responder = ModelCalls.answers(running.model, lambda response, final: got.put(response))
        running.model.submit(request)
        response = got.get(timeout=30)
        assert response is not None
        assert response.error is not None
        assert response.error.message == "read failed"
    running.model.drain(running.drained.set)
    assert running.drained.wait(30)
    running.model.unload()


def test_an_output_that_cannot_be_copied_ends_the_short_way() -> None:
    item = case(["x -> y"], ["y"], x=1)
    made = item.models[0]
    made.compute = lambda request: InferResponse([_lost("o0")])
    line = item.line()
    assert line is not None

    result = StraightRun(line, item.request()).go()
    assert isinstance(result, InferResponse)
    assert result.error is not None
    assert result.error.message == "in ensemble 'e', read failed"
