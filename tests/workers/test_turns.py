"""Models that share resources, at work: what a model takes it gives back, whatever becomes of it."""

import threading
from collections.abc import Sequence

from tensorhub.requests import InferRequest, InferResponse
from tensorhub.workers.schedulers.rate_limit import Needs, ResourceKey
from tensorhub.workers.turns import ModelTurns, Turns
from tests.waiting import wait_until

from .running import Running

NEEDS = (Needs({ResourceKey("R", 0): 1}),)


def test_a_model_that_is_unloaded_while_its_last_run_ends_gives_its_resources_back() -> None:
    turns = Turns()
    answered, end = threading.Event(), threading.Event()

    def execute(requests: Sequence[InferRequest]) -> None:
        requests[0].respond(InferResponse())
        answered.set()
        end.wait(30)

    def answer(requests: Sequence[InferRequest]) -> None:
        requests[0].respond(InferResponse())

    other = Running(answer, ModelTurns(turns, 2, NEEDS))
    first = Running(execute, ModelTurns(turns, 1, NEEDS))
    first.ask()
    assert answered.wait(30)
    first.model.drain(first.drained.set)
    assert first.drained.wait(30)
    unloading = threading.Thread(target=first.model.unload)
    unloading.start()
    wait_until(lambda: first.model._queues[0].qsize(), "the instance's thread is to end")
    end.set()
    unloading.join(30)
    assert first.loaded.finalized == 1
    other.ask()
    assert other.answers.get(timeout=30) is not None
    other.model.unload()
