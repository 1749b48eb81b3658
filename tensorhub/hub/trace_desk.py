"""Puts together what the processes tell of one request's trace. Pure: fragments and the time in, traces out.

A trace begins at a frontend, which tells the hub before it sends the request on; then the worker tells its part, and
the frontend the end. What a frontend tells comes in order; the worker's part may come at any time, even before the
beginning, and is not waited for long, because a worker may have died. So may the parts of what the request has made
other models do, from several workers; each part says how many others it has made.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tensorhub.protocol import messages
from tensorhub.protocol.trace_settings import TraceBook

PATIENCE_NS = 5_000_000_000
"""How long the worker's part may come after the frontend's end."""

EARLY_LIMIT = 1_000
"""Workers' parts without a beginning: it is under way, or was one trace too many."""

OPEN_LIMIT = 10_000
"""Traces that are not complete. The oldest ones are given up: a request may take for ever."""


class Part(NamedTuple):
    """The trace of a request that a traced one has made: a step of an ensemble, or what a model has called.

    Attributes:
        number: the server's; `parent`: of the one that made it.
        work: the `tensorhub.wire.TraceFragment` of the worker that had it.
    """

    number: int
    parent: int
    work: Any


@dataclass(slots=True)
class Trace:
    """One request's trace.

    Attributes:
        number: the server's, from 1.
        begin, work, end: the `tensorhub.wire.TraceFragment` of the frontend, the worker and the frontend again.
        parts: of the requests that it has made, and these in turn, in the order of their beginnings.
    """

    number: int
    begin: Any
    work: Any = None
    end: Any = None
    parts: Sequence[Part] = ()
    ended_ns: int = field(default=0, repr=False)
    _others: list[Any] = field(default_factory=list, repr=False)

    def add(self, work: Any) -> None:
        """Take a fragment of a worker."""
        if work.id:
            self._others.append(work)
        else:
            self.work = work

    @property
    def complete(self) -> bool:
        """Every part of it is there."""
        if self.end is None or self.work is None:
            return False
        made: int = self.work.children + sum(work.children for work in self._others)
        return len(self._others) >= made

    def number_parts(self, number: int) -> int:
        """Give the parts their numbers, from this one on; return the next one."""
        self._others.sort(key=lambda work: work.stamps[0].ns if work.stamps else 0)
        numbers = {work.id: number + index for index, work in enumerate(self._others)}
        self.parts = [Part(numbers[work.id], numbers.get(work.parent, self.number), work) for work in self._others]
        return number + len(self.parts)


class TraceDesk:
    """Traces in the making."""

    def __init__(self, settings: TraceBook) -> None:
        self._settings = settings
        self._open: dict[tuple[int, int], Trace] = {}
        self._early: dict[tuple[int, int], list[Any]] = {}
        self._ended: dict[tuple[int, int], None] = {}  # those without the worker's part, in the order of their ends
        self._next_number = 1

    def __repr__(self) -> str:
        return f"<TraceDesk {len(self._open)} open, {len(self._early)} early>"

    def number_from(self, number: int) -> None:
        """Give the next trace this number, or a higher one if numbers are there already."""
        self._next_number = max(self._next_number, number)

    def take(self, fragment: Any, now_ns: int) -> list[Trace]:
        """Take a fragment; return the traces that are complete with it, or overdue."""
        key = (fragment.pid, fragment.number)
        if fragment.part == messages.TraceFragment.BEGIN:
            early = self._early.pop(key, ())
            if self._settings.take(fragment.model):
                begun = self._open[key] = Trace(self._next_number, fragment)
                self._next_number += 1
                for work in early:
                    begun.add(work)
            return self.overdue(now_ns)
        trace = self._open.get(key)
        if trace is None:
            self._keep_early(key, fragment)
            return []
        if fragment.part == messages.TraceFragment.END:
            trace.end, trace.ended_ns = fragment, now_ns
            self._ended[key] = None
        else:
            trace.add(fragment)
        if trace.complete:
            return [self._close(key), *self.overdue(now_ns)]
        return self.overdue(now_ns)

    def _close(self, key: tuple[int, int]) -> Trace:
        self._ended.pop(key, None)
        trace = self._open.pop(key)
        self._next_number = trace.number_parts(self._next_number)
        return trace

    def _keep_early(self, key: tuple[int, int], fragment: Any) -> None:
        if fragment.part == messages.TraceFragment.END:  # its beginning has come, and was one too many
            self._early.pop(key, None)
            return
        self._early.setdefault(key, []).append(fragment)
        if len(self._early) > EARLY_LIMIT:
            del self._early[next(iter(self._early))]

    @property
    def waiting(self) -> bool:
        """Some trace has ended, and the worker's part is not there."""
        return bool(self._ended)

    def overdue(self, now_ns: int) -> list[Trace]:
        """Return traces for which nothing more is waited for."""
        found = []
        while self._ended:
            key = next(iter(self._ended))
            if now_ns - self._open[key].ended_ns <= PATIENCE_NS:
                break
            found.append(self._close(key))
        while len(self._open) > OPEN_LIMIT:
            found.append(self._close(next(iter(self._open))))
        return found

    def close(self) -> Iterable[Trace]:
        """Return what is left, complete or not."""
        return [self._close(key) for key in list(self._open)]
