"""What the hub asks other processes before it can answer: what they have counted, and whether models are ready.

Everybody who is concerned is asked at once, and an answer comes with the number of its question. Who has died, or lets
its time pass, is not waited for: its counters are those that it told last, and its models are not ready.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tensorhub.hub.gatherings import Gatherings
from tensorhub.hub.outgoing import Later, Outgoing
from tensorhub.hub.state import HubState
from tensorhub.hub.statistics import StatisticsBook
from tensorhub.protocol import messages

STATISTICS_TIMEOUT_S = 1.0
"""How long statistics wait for a worker whose loop is held up; what it reported last counts then."""

READY_TIMEOUT_S = 5.0
"""How long a model may take to say whether it is ready; Triton's kUserModelReadinessTimeoutMs."""

_COUNTING_ROLES = frozenset(("WORKER", "HTTP", "GRPC"))


class Questions:
    """See the module. For the hub's loop."""

    def __init__(self, state: HubState, book: StatisticsBook, outgoing: Outgoing, later: Later) -> None:
        self._state = state
        self._book = book
        self._outgoing = outgoing
        self._later = later
        self._gatherings = Gatherings()
        self._not_ready: dict[int, set[int]] = {}

    def gather(self, pids: Sequence[int], then: Callable[[], None]) -> None:
        """Ask these processes for what they have counted, and call `then` when the book has it."""
        order = messages.Order()
        order.report_statistics.SetInParent()
        asked = [pid for pid in pids if self._state.processes[pid].role in _COUNTING_ROLES]
        self._ask(dict.fromkeys(asked, order), then, STATISTICS_TIMEOUT_S)

    def statistics_reported(self, pid: int, report: Any, number: int) -> None:
        """A process tells its `tensorhub.wire.ProcessStatistics`; `number` is 0 if nobody has asked."""
        if pid in self._state.processes:
            self._book.reported(pid, report)
            self._gatherings.answered(pid, number)

    def check_ready(self, load_ids: Sequence[int], then: Callable[[bool], None]) -> None:
        """Ask models, where they are, whether they are ready; `then` hears whether all of them say so everywhere."""
        lifecycle = self._state.lifecycle
        orders: dict[int, Any] = {}
        for load_id in load_ids:
            load = lifecycle.loads.get(load_id)
            pids = lifecycle.workers.running(load.workers) if load is not None else ()
            if not pids:
                then(False)
                return
            for pid in pids:
                orders.setdefault(pid, messages.Order()).check_ready.load_ids.append(load_id)
        if not orders:
            then(True)
            return
        number = self._ask(orders, lambda: then(not self._not_ready.pop(number)), READY_TIMEOUT_S)
        self._not_ready[number] = set(orders)

    def readiness_reported(self, pid: int, ready: bool, number: int) -> None:
        """A worker says whether all the models that it was asked about are ready."""
        if ready and number in self._not_ready:
            self._not_ready[number].discard(pid)
        self._gatherings.answered(pid, number)

    def died(self, pid: int) -> None:
        """A process will not answer any more."""
        self._gatherings.died(pid)

    def _ask(self, orders: Mapping[int, Any], then: Callable[[], None], timeout_s: float) -> int:
        """Send each process its `tensorhub.wire.Order`, and call `then` when all have answered, or the time is up."""
        number = self._gatherings.ask(orders, then)
        for pid, order in orders.items():
            self._outgoing.order(pid, order, number)
        if orders:
            self._later(timeout_s, lambda: self._gatherings.settle(number))
        return number
