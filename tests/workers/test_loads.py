"""What a worker loads and lets go, with loads that are functions of the test."""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import pytest

from tensorhub.protocol import messages
from tensorhub.workers.loads import WorkerLoads


class Model:
    """What WorkerLoads needs of a ServingModel."""

    def __init__(self, order: Any) -> None:
        self.load_id = order.load_id
        self.news = messages.ModelVersion(model=order.model, version=1, load_id=order.load_id, state="READY")
        self.unloads = 0
        self.unloading, self.may_unload = threading.Event(), threading.Event()
        self.start_error: Exception | None = None

    def start(self) -> None:
        if self.start_error is not None:
            raise self.start_error

    def drain(self, on_drained: Callable[[], None]) -> None:
        on_drained()

    def unload(self) -> None:
        self.unloads += 1
        self.unloading.set()
        assert self.may_unload.wait(30)


class Worker:
    """Loads, and the loop that they post to: the thread of the test."""

    def __init__(self, threads: int = 1) -> None:
        self.made: SimpleQueue[Model] = SimpleQueue()
        self.reports: list[Any] = []
        self.start_error: Exception | None = None
        self._posted: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.loads = WorkerLoads(
            self._load, self._posted.put, lambda delay_s, call: None, self.reports.append, threads=threads, retries=0
        )

    def _load(self, order: Any, *, progress: Callable[[str], None]) -> Any:
        model = Model(order)
        model.start_error = self.start_error
        self.made.put(model)
        return model

    def turn(self) -> None:
        """Do what has been posted next."""
        self._posted.get(timeout=30)()

    def load(self, load_id: int) -> Model:
        self.loads.load(messages.Order.LoadModel(model=f"m{load_id}", load_id=load_id))
        self.turn()
        return self.made.get(timeout=30)


def test_what_is_being_unloaded_when_the_worker_ends_is_not_unloaded_twice() -> None:
    worker = Worker()
    going, waiting, staying = worker.load(1), worker.load(2), worker.load(3)
    waiting.may_unload.set()
    staying.may_unload.set()
    worker.loads.unload(1)
    worker.turn()
    assert going.unloading.wait(30)
    worker.loads.unload(2)  # the only thread is busy
    worker.turn()
    worker.loads.close()
    going.may_unload.set()
    assert [model.unloads for model in (going, waiting, staying)] == [1, 1, 1]


def test_a_model_that_does_not_end_keeps_no_other_from_being_unloaded_at_the_end() -> None:
    worker = Worker()
    stuck, other = worker.load(1), worker.load(2)
    other.may_unload.set()
    closing = threading.Thread(target=worker.loads.close)
    closing.start()
    try:
        assert other.unloading.wait(10)
        assert closing.is_alive(), "it waits for the first one"
    finally:
        stuck.may_unload.set()
        closing.join(30)


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_a_model_that_cannot_be_started_is_told_and_let_go(error: Exception) -> None:
    worker = Worker()
    worker.start_error = error
    worker.loads.load(messages.Order.LoadModel(model="m", load_id=1))
    model = worker.made.get(timeout=30)
    model.may_unload.set()
    worker.turn()
    assert worker.loads.news() == []
    (report,) = worker.reports
    assert report.model.state == "UNAVAILABLE"
    assert report.message == f"{type(error).__name__}: {error}"
    assert model.unloads == 1
