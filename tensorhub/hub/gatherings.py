"""Questions to several processes at once, and who of them has not answered yet. Pure.

Each question is settled exactly once: all that were asked have answered or died, or its time is up.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Gathering:
    """A question to some processes; `waiting`: who has not answered yet."""

    waiting: set[int]
    then: Callable[[], None] = field(repr=False)


class Gatherings:
    """The questions that are open; see the module."""

    def __init__(self) -> None:
        self._open: dict[int, _Gathering] = {}
        self._next = 1

    def ask(self, pids: Iterable[int], then: Callable[[], None]) -> int:
        """Open a question; `then` is called when it is settled, at once if nobody is asked. Returns its number."""
        number, self._next = self._next, self._next + 1
        gathering = self._open[number] = _Gathering(set(pids), then)
        if not gathering.waiting:
            self.settle(number)
        return number

    def answered(self, pid: int, number: int) -> None:
        """A process has answered."""
        gathering = self._open.get(number)
        if gathering is not None:
            gathering.waiting.discard(pid)
            if not gathering.waiting:
                self.settle(number)

    def died(self, pid: int) -> None:
        """A process will not answer any more."""
        for number in list(self._open):
            self.answered(pid, number)

    def settle(self, number: int) -> None:
        """Wait no longer; nothing happens if it is settled already."""
        gathering = self._open.pop(number, None)
        if gathering is not None:
            gathering.then()
