"""What a model lets go of is noticed by the garbage collector, which may be at work in the middle of anything."""

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue

import pytest

from tensorhub.backends import calling
from tensorhub.backends.python.responses import InferenceResponseSender
from tensorhub.requests import InferRequest
from tests.waiting import wait_until

from .running import Running


class Caller:
    """What `calling.soon` needs of a ModelCaller."""

    def __init__(self) -> None:
        self.posted: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def soon(self, call: Callable[[], None]) -> None:
        self.posted.put(call)


@pytest.mark.parametrize("decoupled", [True, False])
def test_a_sender_may_be_collected_while_its_model_is_locked(monkeypatch: pytest.MonkeyPatch, decoupled: bool) -> None:
    caller = Caller()
    monkeypatch.setattr(calling, "_installed", [caller])
    senders: list[InferenceResponseSender] = []

    def execute(requests: Sequence[InferRequest]) -> None:
        requests[0].deferred = True
        senders.append(InferenceResponseSender(requests[0], frozenset(), decoupled))

    running = Running(execute, decoupled=decoupled)
    running.ask()
    wait_until(lambda: senders, "the model has got the request")

    def collect() -> None:
        with running.model._lock:
            senders.clear()

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    wait_until(lambda: not thread.is_alive(), "the sender is gone", timeout_s=10)
    caller.posted.get(timeout=30)()
    answer = running.answers.get(timeout=30)
    assert (answer is None) is decoupled
    running.model.drain(running.drained.set)
    assert running.drained.wait(30)
    running.model.unload()
