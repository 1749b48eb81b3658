"""Puts together what the processes tell of one request's trace. Pure: fragments and the time in, traces out.

A trace begins at a frontend, which tells the hub before it sends the request on; then the worker tells its part, and
the frontend the end, in any order. A part that does not come, because a process has died, is not waited for long.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tensorhub.protocol import messages
from tensorhub.protocol.trace_settings import TraceBook

PATIENCE_NS = 5_000_000_000
"""How long the worker's part may come after the frontend's end."""

OPEN_LIMIT = 10_000
"""Traces that are not complete. The oldest ones are given up: a request may take for ever."""


@dataclass(slots=True)
class Trace:
    """One request's trace.

    Attributes:
        number: the server's, from 1.
        begin, work, end: the `tensorhub.wire.TraceFragment` of the frontend, the worker and the frontend again.
        parent: the number of the trace that it is a part of; 0: none.
    """

    number: int
    begin: Any
    work: Any = None
    end: Any = None
    parent: int = 0
    ended_ns: int = field(default=0, repr=False)


class TraceDesk:
    """Traces in the making."""

    def __init__(self, settings: TraceBook) -> None:
        self._settings = settings
        self._open: dict[tuple[int, int], Trace] = {}
        self._next_number = 1

    def take(self, fragment: Any, now_ns: int) -> list[Trace]:
        """Take a fragment; return the traces that are complete with it, or overdue."""
        key = (fragment.pid, fragment.number)
        if fragment.part == messages.TraceFragment.BEGIN:
            if self._settings.take(fragment.model):
                self._open[key] = Trace(self._next_number, fragment)
                self._next_number += 1
        else:
            trace = self._open.get(key)
            if trace is None:
                return []
            if fragment.part == messages.TraceFragment.END:
                trace.end, trace.ended_ns = fragment, now_ns
            else:
                trace.work = fragment
            if trace.end is not None and trace.work is not None:
                del self._open[key]
                return [trace, *self._overdue(now_ns)]
        return self._overdue(now_ns)

    def _overdue(self, now_ns: int) -> list[Trace]:
        due = [key for key, trace in self._open.items() if trace.ended_ns and now_ns - trace.ended_ns > PATIENCE_NS]
        surplus = len(self._open) - len(due) - OPEN_LIMIT
        if surplus > 0:
            due += [key for key in self._open if key not in due][:surplus]
        return [self._open.pop(key) for key in due]

    def close(self) -> Iterable[Trace]:
        """Return what is left, complete or not."""
        traces = list(self._open.values())
        self._open.clear()
        return traces
