"""Until when the clients of waiting requests wait for them. Pure.

Strategy: a request that leaves the queue stays here until it would be looked at, or until those that have left are more
than those that wait; so leaving costs nothing.
"""

from collections.abc import Collection
from heapq import heapify, heappop, heappush

from tensorhub.requests import InferRequest

_FEW = 64


class Deadlines:
    """See the module."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, InferRequest]] = []
        self._entered = 0

    def __bool__(self) -> bool:
        return bool(self._heap)

    def add(self, request: InferRequest, waiting: Collection[InferRequest]) -> None:
        """Have a request with a deadline looked at when that is over; `waiting`: all that are in the queue."""
        if len(self._heap) > 2 * len(waiting) + _FEW:
            left = set(waiting)
            self._heap = [entry for entry in self._heap if entry[2] in left]
            heapify(self._heap)
        self._entered += 1
        heappush(self._heap, (request.deadline_ns, self._entered, request))

    def pop_late(self, now_ns: int) -> InferRequest | None:
        """Take out the first whose deadline is over, which may have left the queue; None: there is none."""
        return heappop(self._heap)[2] if self._heap and self._heap[0][0] <= now_ns else None

    def earliest_ns(self, waiting: Collection[InferRequest]) -> int | None:
        """Return the first deadline of those in the queue."""
        while self._heap and self._heap[0][2] not in waiting:
            heappop(self._heap)
        return self.first_ns

    @property
    def first_ns(self) -> int | None:
        """The first deadline there is, which may be of a request that has left the queue."""
        return self._heap[0][0] if self._heap else None

    def clear(self) -> None:
        """Nobody waits."""
        self._heap.clear()
