"""The logging extension: what of the log can be changed while the server runs, and what each protocol says of it. Pure.

A change has the names and the texts of the options of the command line. Settings take effect one by one in a fixed
order, so that those before a wrong one are kept, as in Triton.
"""

from collections.abc import Callable, Mapping
from typing import Any

from tensorhub.errors import InvalidArgument, TensorhubError, Unavailable, Unsupported
from tensorhub.protocol import json_values

FORMATS = ("default", "ISO8601")
_FILE_IS_FIXED = "log file location can not be updated through network protocol"
_SWITCHES = ("log_info", "log_warning", "log_error")

Change = dict[str, str]
"""Options by their command line name, as text."""


def shown(options: Mapping[str, str]) -> dict[str, str | bool | int]:
    """Return the six settings in Triton's order and types."""
    return {
        "log_file": options.get("log-file", ""),
        **{name: options.get(name.replace("_", "-"), "true") == "true" for name in _SWITCHES},
        "log_verbose_level": int(options.get("log-verbose", "0")),
        "log_format": options.get("log-format", "default"),
    }


def from_json(document: Any) -> tuple[Change, TensorhubError | None]:
    """Read the body of a POST; a document that is no object says nothing.

    Returns:
        What changes, and what the client is told if not all of it was good.
    """
    fields = document if type(document) is dict else {}
    given = {name: value for name, value in fields.items() if value is not None}

    def format_of(value: Any) -> str:
        text = json_values.as_string(value)
        if text not in FORMATS:
            raise Unavailable(f"invalid argument for --log_format, got: {text}")
        return text

    return _read(given, json_values.as_bool, lambda value: _verbosity(json_values.as_uint(value)), format_of)


def from_message(settings: Mapping[str, Any]) -> tuple[Change, TensorhubError | None]:
    """Read the settings of an `inference.LogSettingsRequest`; see `from_json`."""

    def parameter(kind: str, what: str, name: str) -> Any:
        value = settings[name]
        if value.WhichOneof("parameter_choice") != kind:
            raise InvalidArgument(f"expect {what} for '{name}'")
        return getattr(value, kind)

    def format_of(name: str) -> str:
        text: str = parameter("string_param", "string", name)
        if text not in FORMATS:
            raise InvalidArgument(f"invalid argument for log_format, got: {text}")
        return text

    return _read(
        {name: name for name in settings},
        lambda name: bool(parameter("bool_param", "boolean", name)),
        lambda name: _verbosity(parameter("uint32_param", "int32", name)),
        format_of,
    )


def _read(
    given: Mapping[str, Any],
    switch_of: Callable[[Any], bool],
    level_of: Callable[[Any], int],
    format_of: Callable[[Any], str],
) -> tuple[Change, TensorhubError | None]:
    change: Change = {}
    try:
        if "log_file" in given:
            raise Unsupported(_FILE_IS_FIXED)
        for name in _SWITCHES:
            if name in given:
                change[name.replace("_", "-")] = "true" if switch_of(given[name]) else "false"
        if "log_verbose_level" in given:
            change["log-verbose"] = str(level_of(given["log_verbose_level"]))
        if "log_format" in given:
            change["log-format"] = format_of(given["log_format"])
    except TensorhubError as exc:
        return change, exc
    return change, None


def _verbosity(number: int) -> int:
    """Triton keeps 32 bits with a sign, and takes what is negative then for none."""
    low = number & 0xFFFFFFFF
    return low if low < 2**31 else 0
