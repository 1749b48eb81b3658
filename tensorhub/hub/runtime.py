"""What can be changed while the server runs: the log and what is traced. Pure; a part of the hub's state."""

from collections.abc import Iterable, Mapping
from typing import Any

from tensorhub.protocol import messages, trace_settings
from tensorhub.protocol.trace_settings import OFF, TraceBook, TraceStart


class RuntimeSettings:
    """See the module.

    Args:
        options: all options by their command line name, as text.
        trace: how tracing began.

    Attributes:
        options: as they are now.
        log_changes: log options that are not as they were at the start.
        traces: the trace settings.
    """

    def __init__(self, options: dict[str, str], trace: TraceStart) -> None:
        self.options = options
        self._at_start = dict(options)
        self._log_changed = self._traces_changed = False
        self.log_changes: dict[str, str] = {}
        self.traces = TraceBook(trace)

    def change_log(self, change: Mapping[str, str]) -> bool:
        """Change log options; whether any of them is another than before."""
        self._log_changed |= bool(change)
        changed = any(self.options.get(name) != text for name, text in change.items())
        self.options.update(change)
        self.log_changes.update(change)
        return changed

    def inherit(self, log_changes: Mapping[str, str], trace_changes: Iterable[Any]) -> None:
        """Take over what was changed under the hub before, unless it has been changed again since."""
        if not self._log_changed:
            self.options.update({name: self._at_start[name] for name in self.log_changes})
            self.log_changes = {name: text for name, text in log_changes.items() if name in self._at_start}
            self.options.update(self.log_changes)
        if not self._traces_changed:
            self.traces.restore(trace_changes)

    def change_trace(self, operation: Any, *, known: bool) -> Any:
        """Carry out a `tensorhub.wire.Control.ChangeTrace`.

        Args:
            known: the model that it names is served.

        Returns:
            What holds now, as `inference.TraceSettingResponse`.

        Raises:
            InvalidArgument: the model is not served, or nothing could be traced with it; nothing has changed then.
        """
        model = operation.model
        if model and not known:
            raise trace_settings.unknown_model(model)
        update: dict[str, int | None] = {name: int(value) for name, value in operation.values.items()}
        update.update(dict.fromkeys(operation.cleared))
        if update:
            self.traces.update(model, update)
            self._traces_changed = True
        response = messages.TraceSettingResponse()
        for name, values in trace_settings.shown(self.traces.setting(model), self.traces.start).items():
            response.settings[name].value.extend(values)
        return response

    def fill(self, snapshot: Any) -> None:
        """Put into a `tensorhub.wire.Snapshot` what the other processes must know."""
        snapshot.log_changes.update(self.log_changes)
        settings = {model: self.traces.setting(model) for model in ("", *self.traces.models)}
        snapshot.trace_contexts = self.traces.start.mode == "opentelemetry"
        if any(setting.active for setting in settings.values()):
            for model, setting in settings.items():
                shown = snapshot.traces[model]
                shown.level = setting.trace_level if setting.active else OFF
                shown.rate = setting.trace_rate
