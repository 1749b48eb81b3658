"""The logging extension. Each case ends with the settings of the start."""

from __future__ import annotations

import json
from typing import Any

from tritonclient.grpc import service_pb2 as pb

from ..steps import Case, Grpc, Http, Step

_GET = Http("GET", "/v2/logging")


def _post(value: Any) -> Http:
    return Http("POST", "/v2/logging", value if isinstance(value, bytes) else json.dumps(value).encode())


def _setting(value: bool | int | str) -> pb.LogSettingsRequest.SettingValue:
    field = "bool_param" if isinstance(value, bool) else "uint32_param" if isinstance(value, int) else "string_param"
    return pb.LogSettingsRequest.SettingValue(**{field: value})


def _grpc(**settings: bool | int | str) -> Grpc:
    request = pb.LogSettingsRequest()
    for name, value in settings.items():
        request.settings[name].CopyFrom(_setting(value))
    return Grpc("LogSettings", request)


_RESTORE = {
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}


def _case(name: str, *steps: Step) -> Case:
    return Case(f"logging-{name}", (*steps, _GET, _grpc(), _post(_RESTORE)), "observed")


_VALUES: dict[str, tuple[Any, ...]] = {
    "log_info": (False, True, 0, "false", None, [], {}),
    "log_warning": (False, "x", None),
    "log_error": (False, 1.5, None),
    "log_verbose_level": (1, 3, 4_294_967_295, 4_294_967_296, -1, "1", True, None, 1.0),
    "log_format": ("ISO8601", "default", "iso8601", "", 1, None, "x\ny"),
    "log_file": ("", "elsewhere.log", None, 1),
}

CASES = (
    _case("read"),
    *(
        _case(f"{name.removeprefix('log_').replace('_', '-')}-{number}", _post({name: value}))
        for name, values in _VALUES.items()
        for number, value in enumerate(values)
    ),
    _case("several", _post({"log_info": False, "log_verbose_level": 2, "log_format": "ISO8601"})),
    _case("one-after-another", _post({"log_info": False}), _post({"log_error": False}), _post({"log_info": True})),
    _case("good-before-bad", _post({"log_info": False, "log_format": "x"})),
    _case("bad-before-good", _post({"log_format": "x", "log_info": False})),
    _case("good-and-file", _post({"log_info": False, "log_file": "x"})),
    _case("good-and-wrong-type", _post({"log_info": False, "log_error": 1})),
    _case("unknown", _post({"something": 1, "log_info": False})),
    _case("empty-object", _post({})),
    _case("empty-body", _post(b"")),
    _case("no-json", _post(b"{")),
    _case("array", _post([])),
    _case("string", _post(b'"x"')),
    _case("put", Http("PUT", "/v2/logging", b"{}")),
    _case("get-with-body", Http("GET", "/v2/logging", b'{"log_info":false}')),
    _case("slash", Http("GET", "/v2/logging/")),
    _case("grpc-set", _grpc(log_info=False, log_verbose_level=2, log_format="ISO8601")),
    _case("grpc-back", _grpc(log_warning=False), _grpc(log_warning=True)),
    _case("grpc-info-string", _grpc(log_info="false")),
    _case("grpc-info-number", _grpc(log_info=0)),
    _case("grpc-warning-string", _grpc(log_warning="x")),
    _case("grpc-error-number", _grpc(log_error=1)),
    _case("grpc-verbose-bool", _grpc(log_verbose_level=True)),
    _case("grpc-verbose-string", _grpc(log_verbose_level="1")),
    _case("grpc-verbose-large", _grpc(log_verbose_level=4_294_967_295)),
    _case("grpc-format-wrong", _grpc(log_format="x")),
    _case("grpc-format-empty", _grpc(log_format="")),
    _case("grpc-format-number", _grpc(log_format=1)),
    _case("grpc-file", _grpc(log_file="x")),
    _case("grpc-file-empty", _grpc(log_file="")),
    _case("grpc-file-number", _grpc(log_file=1)),
    _case("grpc-good-before-bad", _grpc(log_info=False, log_format="x")),
    _case("grpc-unknown", _grpc(something=1, log_info=False)),
)
