"""What a worker tells a hub of its loads: what is to go is never told as if it stayed."""

from collections import deque
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import pytest

from tensorhub.protocol import messages
from tensorhub.workers.loads import WorkerLoads
from tests.waiting import wait_until


class Model:
    """As much of a ServingModel as its load and its unload need; drained when the test says so."""

    def __init__(self, order: Any) -> None:
        self.load_id = order.load_id
        self.news = messages.ModelVersion(model=order.model, version=1, state="READY", load_id=order.load_id)
        self.drained: list[Callable[[], None]] = []

    def start(self) -> None:
        pass

    def drain(self, on_drained: Callable[[], None]) -> None:
        self.drained.append(on_drained)

    def unload(self) -> None:
        pass


class Worker:
    """The loop around the loads; `may_load` holds every load up."""

    def __init__(self) -> None:
        self.may_load = Event()
        self.made: list[Model] = []
        self.reports: list[str] = []
        self._posted: deque[Callable[[], None]] = deque()
        self.loads = WorkerLoads(
            self._load,
            self._posted.append,
            lambda delay_s, call: None,
            lambda report: self.reports.append(report.model.state),
            threads=1,
            retries=0,
        )

    def _load(self, order: Any, *, progress: Callable[[str], None]) -> Any:
        self.may_load.wait(60)
        self.made.append(Model(order))
        return self.made[-1]

    def turn(self) -> None:
        while self._posted:
            self._posted.popleft()()

    def told(self) -> list[tuple[int, str]]:
        """What it would say of its loads in a HELLO."""
        self.turn()
        return [(item.load_id, item.state) for item in self.loads.news()]


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.may_load.set()
    made.loads.close()


def _order(load_id: int) -> Any:
    return messages.message_class("tensorhub.wire.Order.LoadModel")(
        load_id=load_id, model="m", version=1, config=b"\x0a\x01m"
    )


def test_what_drains_is_told_as_leaving(worker: Worker) -> None:
    worker.may_load.set()
    worker.loads.load(_order(7))
    wait_until(lambda: worker.told() == [(7, "READY")])
    worker.loads.unload(7)
    assert worker.told() == [(7, "UNLOADING")]
    (drained,) = worker.made[0].drained
    drained()
    wait_until(lambda: worker.told() == [])
    assert worker.reports == ["READY", "UNAVAILABLE"]


def test_what_is_given_up_while_it_is_loaded_is_told_as_leaving(worker: Worker) -> None:
    worker.loads.load(_order(7))
    assert worker.told() == [(7, "LOADING")]
    worker.loads.unload(7)
    assert worker.told() == [(7, "UNLOADING")]
    worker.may_load.set()
    wait_until(lambda: worker.told() == [(7, "UNLOADING")] and worker.made)
    wait_until(lambda: worker.told() and worker.made[0].drained)
    assert worker.told() == [(7, "UNLOADING")]
    worker.made[0].drained[0]()
    wait_until(lambda: worker.told() == [])
    assert worker.reports == ["UNAVAILABLE"]


def test_what_is_being_loaded_is_told_with_its_config(worker: Worker) -> None:
    """If the worker dies as well, the next hub has it loaded again by what it has heard."""
    worker.loads.load(_order(7))
    assert worker.loads.news()[0].config == b"\x0a\x01m"
