"""Where complete traces go: Triton's file, or a collector of spans."""

import time
from collections.abc import Callable
from typing import Any

from tensorhub.hub.trace_desk import PATIENCE_NS, Trace, TraceDesk
from tensorhub.hub.trace_export import TraceExporter
from tensorhub.hub.trace_file import TraceFile
from tensorhub.protocol.trace_settings import TraceBook


class Traces:
    """Takes what the processes tell of traces.

    Args:
        later: has a call made after some seconds, on the thread that calls `take`.

    Raises:
        InvalidArgument: the settings ask for a collector, and it cannot be had.
    """

    def __init__(self, settings: TraceBook, later: Callable[[float, Callable[[], None]], None]) -> None:
        self._settings = settings
        self._desk = TraceDesk(settings)
        self._later = later
        self._look_due = False
        start = settings.start
        self._exporter = TraceExporter(start.exporter) if start.mode == "opentelemetry" else None
        self._file = TraceFile(start.file)

    def take(self, fragment: Any) -> bool:
        """Take a `tensorhub.wire.TraceFragment`; whether the settings are other ones now: a count has run out."""
        before = self._settings.setting(fragment.model).active
        for trace in self._desk.take(fragment, time.monotonic_ns()):
            self._write(trace)
        self._look_later()
        return before != self._settings.setting(fragment.model).active

    def _look_later(self) -> None:
        if self._desk.waiting and not self._look_due:
            self._look_due = True
            self._later(PATIENCE_NS / 1e9, self._look)

    def _look(self) -> None:
        self._look_due = False
        for trace in self._desk.overdue(time.monotonic_ns()):
            self._write(trace)
        self._look_later()

    def resume(self) -> None:
        """Go on where the hub before this one has stopped."""
        if self._exporter is None:
            self._desk.number_from(self._file.resume() + 1)

    def _write(self, trace: Trace) -> None:
        if self._exporter is not None:
            self._exporter.export(trace)
        else:
            self._file.write(trace, self._settings.setting(trace.begin.model).log_frequency)

    def close(self) -> None:
        """Write what there is of traces that are not complete, and finish."""
        for trace in self._desk.close():
            self._write(trace)
        self._file.close()
        if self._exporter is not None:
            self._exporter.close()
