"""Which requests of a frontend are traced, and what the frontend tells of them. Pure but for its counters.

Of the requests of each setting every `rate`-th one is traced, counted in each frontend for itself; how many traces
there may be at all is the hub's business, which is told of each before its request is sent.
"""

import itertools
import threading
from collections.abc import Mapping
from typing import Any

from tensorhub.protocol import messages, trace_context
from tensorhub.protocol.trace_context import TraceContext
from tensorhub.protocol.trace_settings import OFF, TIMESTAMPS


class Tracer:
    """Of one frontend. Thread-safe.

    Args:
        pid: of this process: with a number it names a trace.
        prefix: of the names of its timestamps, "HTTP" or "GRPC".

    Attributes:
        active: something may have to be traced; requests need not ask while it is False.
    """

    def __init__(self, pid: int, prefix: str) -> None:
        self.active = False
        self._pid = pid
        received = "WAITREAD" if prefix == "GRPC" else "RECV"
        self._receive = (f"{prefix}_{received}_START", f"{prefix}_{received}_END")
        self._send = (f"{prefix}_SEND_START", f"{prefix}_SEND_END")
        self._settings: dict[str, tuple[int, int]] = {}
        self._contexts = False
        self._seen: dict[str, int] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def follow(self, settings: Mapping[str, Any], *, contexts: bool) -> None:
        """Take over the `traces` of a new snapshot; a setting that changes begins to count anew.

        Args:
            contexts: traces are spans.
        """
        with self._lock:
            kept = {name for name, new in settings.items() if self._settings.get(name) == (new.level, new.rate)}
            self._seen = {name: count for name, count in self._seen.items() if name in kept}
            self._settings = {name: (setting.level, setting.rate) for name, setting in settings.items()}
            self._contexts = contexts
            self.active = any(level != OFF for level, _ in self._settings.values())

    def sample(self, model: str, traceparent: str = "") -> "FrontendTrace | None":
        """Count a request; return its trace if it is to have one.

        Args:
            traceparent: the client's header. If the client traces the request, it is traced whatever the rate is.
        """
        with self._lock:
            name = model if model in self._settings else ""
            level, rate = self._settings.get(name, (OFF, 0))
            if level == OFF or rate == 0:
                return None
            caller = trace_context.parse(traceparent) if self._contexts and traceparent else None
            self._seen[name] = seen = self._seen.get(name, 0) + 1
            if seen % rate and not (caller is not None and caller.sampled):
                return None
        own = None
        if self._contexts:
            own = caller._replace(span_id=trace_context.new_span_id(), sampled=True) if caller else None
            own = own or trace_context.new_trace()
        return FrontendTrace(self._pid, next(self._numbers), level, model, (self._receive, self._send), own, caller)


class FrontendTrace:
    """A frontend's part of one trace."""

    __slots__ = ("_context", "_level", "_model", "_names", "_number", "_parent", "_pid")

    def __init__(
        self,
        pid: int,
        number: int,
        level: int,
        model: str,
        names: tuple[tuple[str, str], tuple[str, str]],
        own: TraceContext | None,
        caller: TraceContext | None,
    ) -> None:
        self._pid = pid
        self._number = number
        self._level = level
        self._model = model
        self._names = names
        self._context = own.header() if own is not None else ""
        self._parent = caller.span_id if caller is not None else 0

    def origin(self) -> Any:
        """Return what the worker is told, a `tensorhub.wire.TraceOrigin`."""
        return messages.TraceOrigin(pid=self._pid, number=self._number, level=self._level, context=self._context)

    def begun(self, start_ns: int, end_ns: int) -> Any:
        """Return the `tensorhub.wire.TraceFragment` of its beginning."""
        fragment = self._fragment(self._names[0], start_ns, end_ns, messages.TraceFragment.BEGIN)
        fragment.context, fragment.parent_span = self._context, self._parent
        return fragment

    def ended(self, start_ns: int, end_ns: int) -> Any:
        """Return the `tensorhub.wire.TraceFragment` of its end."""
        return self._fragment(self._names[1], start_ns, end_ns, messages.TraceFragment.END)

    def _fragment(self, names: tuple[str, str], start_ns: int, end_ns: int, part: int) -> Any:
        fragment = messages.TraceFragment(pid=self._pid, number=self._number, model=self._model, part=part)
        if not self._level & TIMESTAMPS:
            return fragment
        for name, at_ns in zip(names, (start_ns, end_ns), strict=True):
            fragment.stamps.add(name=name, ns=at_ns)
        return fragment
