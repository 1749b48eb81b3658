"""The trace extension: reading, updating and clearing settings, of the server and of a model.

Each case ends with the settings of the start. The server `observed` has a trace file, `core` has none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tritonclient.grpc import service_pb2 as pb

from ..messages import grpc_infer, grpc_tensor, infer, strings, tensor
from ..steps import AwaitAnswer, Case, Grpc, Http, Step

_MODEL = "traced"
_CLEARED = dict.fromkeys(("trace_level", "trace_rate", "trace_count", "log_frequency"))


def _path(model: str = "") -> str:
    return f"/v2/models/{model}/trace/setting" if model else "/v2/trace/setting"


def _get(model: str = "") -> Http:
    return Http("GET", _path(model))


def _post(value: Any, model: str = "") -> Http:
    return Http("POST", _path(model), value if isinstance(value, bytes) else json.dumps(value).encode())


def _grpc(model: str = "", /, **settings: str | Sequence[str]) -> Grpc:
    request = pb.TraceSettingRequest(model_name=model)
    for name, value in settings.items():
        request.settings[name].value.extend([value] if isinstance(value, str) else value)
    return Grpc("TraceSetting", request)


def _case(name: str, *steps: Step, server: str = "observed") -> Case:
    model = _MODEL if server == "observed" else "add_sub"
    after = (_get(), _get(model), _grpc(), _post(_CLEARED, model), _post(_CLEARED), _get())
    return Case(f"trace-{name}", (*steps, *after), server)


_VALUES: dict[str, tuple[Any, ...]] = {
    "trace_level": (
        ["OFF"],
        ["TIMESTAMPS"],
        ["TENSORS"],
        ["TIMESTAMPS", "TENSORS"],
        ["TENSORS", "TIMESTAMPS", "TENSORS"],
        ["OFF", "TIMESTAMPS"],
        ["MIN"],
        ["MAX"],
        ["NONSENSE"],
        ["timestamps"],
        [],
        [1],
        "TIMESTAMPS",
        None,
    ),
    "trace_rate": ("1", "0", "-1", "4294967296", "2147483648", "12x", "x", "", " 7", "1.5", 5, [], None),
    "trace_count": ("0", "5", "-1", "-2", "2147483647", "2147483648", "9x", "x", "", 5, None),
    "log_frequency": ("0", "50", "-1", "4294967296", "3x", "x", 1, None),
    "trace_file": ("x", "", None, 1),
    "trace_mode": ("triton", "opentelemetry", None),
}
_ON = {"trace_level": ["TIMESTAMPS"]}
_INFER = infer(_MODEL, [tensor("KIND", "BYTES", [1], ["ok"])])
_INFER_GRPC = grpc_infer(_MODEL, [grpc_tensor("KIND", "BYTES", [1])], [strings(b"ok")])

CASES = (
    _case("read"),
    *(
        _case(f"{name.removeprefix('trace_').replace('_', '-')}-{number}", _post({name: value}))
        for name, values in _VALUES.items()
        for number, value in enumerate(values)
    ),
    *(
        _case(f"model-{name.removeprefix('trace_').replace('_', '-')}-{number}", _post({name: value}, _MODEL))
        for name, values in _VALUES.items()
        for number, value in enumerate(values[:4])
    ),
    _case("several", _post({**_ON, "trace_rate": "3", "trace_count": "9", "log_frequency": "2"})),
    _case("off-again", _post(_ON), _post({"trace_level": ["OFF"]})),
    _case("rate-zero-while-on", _post(_ON), _post({"trace_rate": "0"})),
    _case("on-while-rate-zero", _post({"trace_rate": "0"}), _post(_ON)),
    _case("count-zero-while-on", _post(_ON), _post({"trace_count": "0"})),
    _case("on-while-count-zero", _post({"trace_count": "0"}), _post(_ON)),
    _case("on-with-count-zero", _post({**_ON, "trace_count": "0"})),
    _case("good-before-bad", _post({"trace_rate": "5", "trace_count": "x"})),
    _case("model-follows-the-server", _post({"trace_rate": "5"}), _get(_MODEL)),
    _case("model-keeps-its-own", _post({"trace_rate": "7"}, _MODEL), _post({"trace_rate": "5", "trace_count": "3"})),
    _case(
        "model-lets-go",
        _post({"trace_rate": "7", "trace_count": "2"}, _MODEL),
        _post({"trace_rate": "5", "trace_count": "3"}),
        _post({"trace_rate": None}, _MODEL),
    ),
    _case("model-off-while-on", _post(_ON), _post({"trace_level": ["OFF"]}, _MODEL)),
    _case("model-on-while-off", _post(_ON, _MODEL)),
    _case("model-clears-nothing", _post(_CLEARED, _MODEL)),
    _case(
        "count-goes-down",
        _post({**_ON, "trace_rate": "1", "trace_count": "3"}),
        _INFER,
        _INFER_GRPC,
        AwaitAnswer(_get(), '"trace_count":"1"'),
    ),
    _case("count-runs-out", _post({**_ON, "trace_rate": "1", "trace_count": "1"}), _INFER, _INFER, _INFER),
    _case("rate-of-two", _post({**_ON, "trace_rate": "2", "trace_count": "9"}), _INFER, _INFER, _INFER, _INFER),
    _case(
        "model-count-goes-down",
        _post({**_ON, "trace_rate": "1", "trace_count": "3"}, _MODEL),
        _INFER,
        _INFER_GRPC,
        AwaitAnswer(_get(_MODEL), '"trace_count":"1"'),
    ),
    _case("unknown-key", _post({"something": "1"})),
    _case("empty-object", _post({})),
    _case("empty-body", _post(b"")),
    _case("no-json", _post(b"{")),
    _case("array", _post([])),
    _case("put", Http("PUT", _path(), b"{}")),
    _case("version", Http("GET", "/v2/models/traced/versions/1/trace/setting")),
    _case("slash", Http("GET", "/v2/trace/setting/")),
    _case("unknown-model", _get("nobody"), _post(_ON, "nobody"), _grpc("nobody"), _grpc("nobody", trace_rate="1")),
    _case("grpc-set", _grpc(trace_level=["TIMESTAMPS", "TENSORS"], trace_rate="4", trace_count="6")),
    _case("grpc-model", _grpc(_MODEL, trace_rate="4"), _grpc(_MODEL)),
    _case("grpc-clear", _grpc(trace_rate="4"), _grpc(trace_rate=[])),
    *(
        _case(f"grpc-{name.removeprefix('trace_').replace('_', '-')}-{number}", _grpc(**{name: value}))
        for name, values in {
            "trace_level": ("OFF", "NONSENSE", ("OFF", "TIMESTAMPS"), ()),
            "trace_rate": ("0", "x", "-1", "4294967296", ("1", "2"), "5y"),
            "trace_count": ("0", "-1", "-2", "x", "2147483648", ("1", "2")),
            "log_frequency": ("7", "x", "-1", ("1", "2")),
            "trace_file": ("x", (), ("x", "y")),
            "trace_mode": ("triton",),
            "something": ("1",),
        }.items()
        for number, value in enumerate(values)
    ),
    _case("no-file-read", server="core"),
    _case("no-file-on", _post(_ON), server="core"),
    _case("no-file-model-on", _post(_ON, "add_sub"), server="core"),
    _case("no-file-grpc-on", _grpc(trace_level="TIMESTAMPS"), server="core"),
    _case("no-file-rate", _post({"trace_rate": "3"}), server="core"),
)
