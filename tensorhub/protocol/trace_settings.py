"""The trace extension's settings: their values, how the two protocols write them, and what may be set. Pure.

Source: `extension_trace.md`, and what Triton answers.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tensorhub.errors import InvalidArgument, Unsupported
from tensorhub.option_kinds import Scoped
from tensorhub.protocol import json_values, messages

OFF, TIMESTAMPS, TENSORS = 0, 1, 2
"""Levels; the last two are bits."""

_LEVELS = {"TIMESTAMPS": TIMESTAMPS, "MIN": TIMESTAMPS, "MAX": TIMESTAMPS, "TENSORS": TENSORS}
_FILE_IS_FIXED = "trace file location can not be updated through network protocol"
_NUMBERS = ("trace_rate", "trace_count", "log_frequency")
_INTEGER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)")
_MAX_INT32 = 2**31 - 1

DEFAULT_URL = "http://localhost:4318/v1/traces"


@dataclass(frozen=True, slots=True)
class TraceSetting:
    """Every `trace_rate`-th request is traced, `trace_count` of them (-1: all), `log_frequency` in a file (0: all)."""

    trace_level: int = OFF
    trace_rate: int = 1000
    trace_count: int = -1
    log_frequency: int = 0

    @property
    def active(self) -> bool:
        """Some requests are traced."""
        return self.trace_level != OFF and self.trace_rate > 0 and self.trace_count != 0


Update = dict[str, int | None]
"""By field; None clears it: it is what the server's setting, or the start, says."""


@dataclass(frozen=True, slots=True)
class TraceStart:
    """What the command line says.

    Attributes:
        mode: "triton" or "opentelemetry".
        file: of the mode "triton"; "": none was given, and nothing can be traced.
        exporter: the settings of the mode "opentelemetry".
    """

    setting: TraceSetting
    mode: str = "triton"
    file: str = ""
    exporter: tuple[tuple[str, str], ...] = ()

    @classmethod
    def read(cls, options: Sequence[Scoped]) -> "TraceStart":
        """Read `--trace-config`.

        Raises:
            InvalidArgument: a setting is unknown or has a value that is none.
        """
        values: dict[str, str] = {}
        level = OFF
        own: dict[str, dict[str, str]] = {"triton": {}, "opentelemetry": {}}
        for item in options:
            if item.scope:
                own[item.scope][item.name] = item.value
            elif item.name == "level":
                level |= _start_level(item.value)
            else:
                values[item.name] = item.value
        mode = values.pop("mode", "triton").lower()
        if mode not in own:
            raise InvalidArgument(f"--trace-config mode: got '{mode}'; allowed are triton and opentelemetry")
        unknown = values.keys() - {"rate", "count"}
        if unknown:
            raise InvalidArgument(
                f"--trace-config: unknown setting '{min(unknown)}'; there are level, rate, count, mode"
            )
        setting = TraceSetting(
            level,
            _start_number("rate", values.get("rate", "1000"), 0),
            _start_number("count", values.get("count", "-1"), -1),
            _start_number("log-frequency", own["triton"].get("log-frequency", "0"), 0),
        )
        file = own["triton"].get("file", "")
        if mode == "triton" and level != OFF and not file:
            raise InvalidArgument("--trace-config: to trace in mode triton a file is needed: triton,file=<path>")
        return cls(setting, mode, file, tuple(own["opentelemetry"].items()))


def _start_level(text: str) -> int:
    if text.upper() == "OFF":
        return OFF
    if text.upper() not in _LEVELS:
        raise InvalidArgument(f"--trace-config level: got '{text}'; allowed are OFF, TIMESTAMPS and TENSORS")
    return _LEVELS[text.upper()]


def _start_number(name: str, text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= 2**32 - 1:
        raise InvalidArgument(f"--trace-config {name}: got '{text}'; allowed is a number from {least} on")
    return value


def shown(setting: TraceSetting, start: TraceStart) -> dict[str, list[str]]:
    """Return the settings as lists of texts, in Triton's order."""
    level = [name for name in ("TIMESTAMPS", "TENSORS") if setting.trace_level & _LEVELS[name]] or ["OFF"]
    common = {
        "trace_level": level,
        "trace_rate": [str(setting.trace_rate)],
        "trace_count": [str(setting.trace_count)],
    }
    if start.mode == "opentelemetry":
        exporter = {name: [value] for name, value in start.exporter}
        return {**common, **exporter, "trace_mode": [start.mode]}
    return {
        **common,
        "log_frequency": [str(setting.log_frequency)],
        "trace_file": [start.file],
        "trace_mode": [start.mode],
    }


def to_json(settings: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return the JSON object: the level is a list, the others are texts."""
    return {name: list(values) if name == "trace_level" else values[0] for name, values in settings.items()}


def order(names: Iterable[str]) -> list[str]:
    """Return the names of settings in Triton's order; those of an exporter are in the middle."""
    first = ("trace_level", "trace_rate", "trace_count", "log_frequency", "trace_file")
    return sorted(names, key=lambda name: (first.index(name) if name in first else 5, name == "trace_mode", name))


def operation(model: str, update: Update) -> Any:
    """Return the `tensorhub.wire.Control.ChangeTrace`; without an update it only asks."""
    message = messages.ChangeTrace(model=model)
    for name, value in update.items():
        if value is None:
            message.cleared.append(name)
        else:
            message.values[name] = value
    return message


def unknown_model(model: str) -> InvalidArgument:
    """Return the error for a model that is not served; it comes before what is wrong with the settings."""
    return InvalidArgument(f"Request for unknown model : {model}")


def from_json(document: Any) -> Update:
    """Read the body of a POST; a document that is no object says nothing.

    Raises:
        TensorhubError: nothing of it takes effect.
    """
    fields = document if type(document) is dict else {}
    if "trace_file" in fields:
        raise Unsupported(_FILE_IS_FIXED)
    update: Update = {}
    if "trace_level" in fields:
        value = fields["trace_level"]
        levels = None if value is None else [json_values.as_string(item) for item in json_values.as_array(value)]
        update["trace_level"] = None if levels is None else _level(levels)
    for name in _NUMBERS:
        if name in fields:
            value = fields[name]
            update[name] = None if value is None else _number(name, json_values.as_string(value), ":")
    return update


def from_message(settings: Mapping[str, Any]) -> Update:
    """Read the settings of an `inference.TraceSettingRequest`.

    Raises:
        TensorhubError: nothing of it takes effect.
    """
    if "trace_file" in settings:
        raise Unsupported(_FILE_IS_FIXED)
    update: Update = {}
    if "trace_level" in settings:
        levels = list(settings["trace_level"].value)
        update["trace_level"] = _level(levels) if levels else None
    for name in _NUMBERS:
        if name in settings:
            values = list(settings[name].value)
            if len(values) > 1:
                raise InvalidArgument(f"expect only 1 value for '{name}'")
            update[name] = _number(name, values[0], ": ") if values else None
    return update


def _level(names: Sequence[str]) -> int:
    """Names that Triton does not know count for nothing."""
    if "OFF" in names and len(names) > 1:
        raise InvalidArgument("Expect only one trace level 'OFF' is specified")
    level = OFF
    for name in names:
        if name in ("TIMESTAMPS", "TENSORS"):
            level |= _LEVELS[name]
    return level


def _number(name: str, text: str, colon: str) -> int:
    """Read what C++'s `stoi` reads at the start of the text; rates and frequencies are kept in 32 bits without sign."""
    match = _INTEGER.match(text)
    if match is None:
        raise InvalidArgument(f"Unable to parse '{name}', got: {text}")
    value = int(match[1])
    if not -_MAX_INT32 - 1 <= value <= _MAX_INT32:
        allowed = "[ -1, 2147483647 ]" if name == "trace_count" else "[ 0, 4294967295 ]"
        raise InvalidArgument(f"Unable to parse '{name}', value is out of range {allowed}, got: {text}")
    if name != "trace_count":
        return value & 0xFFFFFFFF
    if value < -1:
        raise InvalidArgument(f"Unable to parse 'trace_count'. Expecting value >= -1, got{colon}{text}")
    return value


class TraceBook:
    """The settings of the server and of its models, as they are now."""

    def __init__(self, start: TraceStart) -> None:
        self.start = start
        self._server: dict[str, int] = {}
        self._models: dict[str, dict[str, int]] = {}

    @property
    def models(self) -> list[str]:
        """Those with settings of their own."""
        return list(self._models)

    def setting(self, model: str = "") -> TraceSetting:
        """Return what holds for a model, or for all that have nothing of their own."""
        changed = {**self._server, **self._models.get(model, {})}
        return replace(self.start.setting, **changed)

    def update(self, model: str, update: Mapping[str, int | None]) -> None:
        """Change what holds for a model, or ("") for the server.

        Raises:
            InvalidArgument: nothing could be traced with it although the level says so; nothing has changed then.
        """
        own = dict(self._models.get(model, {}) if model else self._server)
        for name, value in update.items():
            if value is None:
                own.pop(name, None)
            else:
                own[name] = value
        if own or not model:
            self._check(replace(self.start.setting, **({**self._server, **own} if model else own)))
        if not model:
            self._server = own
        elif own:
            self._models[model] = own
        else:
            self._models.pop(model, None)

    def _check(self, setting: TraceSetting) -> None:
        if setting.trace_level == OFF or (setting.active and (self.start.file or self.start.mode != "triton")):
            return
        reason = ""
        if setting.trace_rate == 0:
            reason = "sample rate must be non-zero"
        elif self.start.mode == "triton" and not self.start.file:
            reason = "trace file name is not given"
        raise InvalidArgument(f"Attempting to set invalid trace setting :{reason}")

    def take(self, model: str) -> bool:
        """Count one trace of a model; False if its count has run out, and the trace is one too many."""
        owner = self._models.get(model, {})
        if "trace_count" not in owner:
            owner = self._server
        left = owner.get("trace_count", self.start.setting.trace_count)
        if left == 0:
            return False
        if left > 0:
            owner["trace_count"] = left - 1
        return True

    def changes(self) -> list[Any]:
        """Return what is not as it was at the start, as `tensorhub.wire.Control.ChangeTrace`; `restore` takes it."""
        changed = {"": self._server, **self._models}
        return [messages.ChangeTrace(model=model, values=values) for model, values in changed.items() if values]

    def restore(self, changes: Iterable[Any]) -> None:
        """Have exactly these `changes` of another book; where nothing can be traced, no level is taken over."""
        nowhere = self.start.mode == "triton" and not self.start.file
        self._models = {change.model: dict(change.values) for change in changes}
        if nowhere:
            for values in self._models.values():
                values.pop("trace_level", None)
        self._server = self._models.pop("", {})

    def forget(self, model: str) -> None:
        """Drop what a model has of its own."""
        self._models.pop(model, None)
