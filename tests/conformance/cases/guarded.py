"""What headers do: restricted operations (server `guarded`), and headers that become parameters (server `edges`)."""

from __future__ import annotations

from ..messages import compact, infer_path, output, tensor
from ..steps import Case, Http

_BODY = compact({"inputs": [tensor("INPUT0", "INT32", [1], [5])], "outputs": [output("REPORT")]})
_INFER = ("POST", infer_path("echo"), _BODY)

_RESTRICTED: dict[str, tuple[str, str, bytes]] = {
    "server-metadata": ("GET", "/v2", b""),
    "model-metadata": ("GET", "/v2/models/echo", b""),
    "model-metadata-version": ("GET", "/v2/models/echo/versions/1", b""),
    "infer": _INFER,
    "infer-version": ("POST", infer_path("echo", "1"), _BODY),
    "infer-wrong-method": ("GET", infer_path("echo"), b""),
    "infer-unknown-model": ("POST", infer_path("nobody"), _BODY),
    "infer-not-json": ("POST", infer_path("echo"), b"nonsense"),
    "generate": ("POST", "/v2/models/echo/generate", b"{}"),
    "generate-stream": ("POST", "/v2/models/echo/versions/1/generate_stream", b"{}"),
    "config": ("GET", "/v2/models/echo/config", b""),
    "config-version": ("GET", "/v2/models/echo/versions/1/config", b""),
    "config-wrong-method": ("DELETE", "/v2/models/echo/config", b""),
    "index": ("POST", "/v2/repository/index", b""),
    "load": ("POST", "/v2/repository/models/echo/load", b""),
    "unload": ("POST", "/v2/repository/models/nobody/unload", b""),
    "load-in-repository": ("POST", "/v2/repository/r/models/echo/load", b""),
    "system-status": ("GET", "/v2/systemsharedmemory/status", b""),
    "system-register": ("POST", "/v2/systemsharedmemory/region/r/register", b"{}"),
    "system-unregister": ("POST", "/v2/systemsharedmemory/unregister", b""),
    "cuda-status": ("GET", "/v2/cudasharedmemory/region/r/status", b""),
    "cuda-register": ("POST", "/v2/cudasharedmemory/region/r/register", b"{}"),
    "cuda-unregister": ("POST", "/v2/cudasharedmemory/unregister", b""),
    "statistics": ("GET", "/v2/models/stats", b""),
    "statistics-model": ("GET", "/v2/models/echo/stats", b""),
    "statistics-version": ("GET", "/v2/models/echo/versions/1/stats", b""),
    "trace": ("GET", "/v2/trace/setting", b""),
    "trace-update": ("POST", "/v2/trace/setting", b"{}"),
    "trace-model": ("GET", "/v2/models/echo/trace/setting", b""),
    "logging": ("GET", "/v2/logging", b""),
    "logging-update": ("POST", "/v2/logging", b"{}"),
}

_ALLOWED: dict[str, tuple[str, str, bytes, tuple[tuple[str, str], ...]]] = {
    "live": ("GET", "/v2/health/live", b"", ()),
    "ready": ("GET", "/v2/health/ready", b"", ()),
    "model-ready": ("GET", "/v2/models/echo/ready", b"", ()),
    "not-found": ("GET", "/v2/nothing", b"", ()),
    "infer": (*_INFER, (("infer-key", "infer value"),)),
    "infer-upper-case": (*_INFER, (("INFER-KEY", "infer value"),)),
    "metadata": ("GET", "/v2", b"", (("Admin-Key", "admin=value"),)),
    "config": ("GET", "/v2/models/echo/config", b"", (("admin-key", "admin=value"), ("other", "x"))),
    "memory": ("GET", "/v2/systemsharedmemory/status", b"", (("admin-key", "admin=value"),)),
    "infer-wrong-method": ("GET", infer_path("echo"), b"", (("infer-key", "infer value"),)),
}

_DENIED: dict[str, tuple[tuple[str, str], ...]] = {
    "value": (("infer-key", "other"),),
    "empty-value": (("infer-key", ""),),
    "value-case": (("infer-key", "Infer Value"),),
    "value-longer": (("infer-key", "infer value2"),),
    "value-padded": (("infer-key", "  infer value  "),),
    "other-key": (("admin-key", "admin=value"),),
    "prefixed-key": (("triton-grpc-protocol-infer-key", "infer value"),),
    "twice-wrong-first": (("infer-key", "x"), ("infer-key", "infer value")),
    "twice-right-first": (("infer-key", "infer value"), ("infer-key", "x")),
}

_FORWARDED: dict[str, tuple[tuple[str, str], ...]] = {
    "none": (("other", "v"),),
    "one": (("x-one", "v"),),
    "case-of-name": (("X-One", "Value"),),
    "several": (("x-one", "1"), ("x-two", "2"), ("other", "3")),
    "part-of-a-name": (("my-x-one", "v"),),
    "empty-value": (("x-one", ""),),
    "spaces": (("x-one", "  a  b  "),),
    "quotes": (("x-one", '"a" \\ b'),),
    "twice": (("x-one", "1"), ("x-one", "2")),
    "reserved-exactly": (("sequence_id", "5"),),
    "reserved-start": (("sequence_start", "true"),),
    "reserved-timeout": (("timeout", "5"),),
    "reserved-priority": (("priority", "5"),),
    "reserved-headers": (("headers", "5"),),
    "reserved-binary": (("binary_data_output", "true"),),
    "reserved-prefix": (("triton_x", "5"),),
    "reserved-case": (("Timeout", "5"),),
    "reserved-prefix-case": (("Triton_x", "5"),),
    "reserved-part": (("timeouts", "5"),),
    "reserved-not-matched": (("sequence_end", "true"),),
}


def _guarded(name: str, method: str, path: str, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> Case:
    return Case(f"guarded-{name}", (Http(method, path, body, headers),), server="guarded")


def _forwarded(name: str, headers: tuple[tuple[str, str], ...], body: bytes = _BODY) -> Case:
    return Case(f"forward-{name}", (Http("POST", infer_path("echo"), body, headers),), server="edges")


CASES = (
    *(_guarded(f"no-{name}", *request) for name, request in _RESTRICTED.items()),
    *(_guarded(f"yes-{name}", *request) for name, request in _ALLOWED.items()),
    *(_guarded(f"infer-{name}", *_INFER, headers) for name, headers in _DENIED.items()),
    *(_forwarded(name, headers) for name, headers in _FORWARDED.items()),
    _forwarded(
        "over-a-parameter",
        (("x-one", "header"),),
        compact(
            {
                "parameters": {"x-one": "body", "y": 1},
                "inputs": [tensor("INPUT0", "INT32", [1], [5])],
                "outputs": [output("REPORT")],
            }
        ),
    ),
    _forwarded("with-a-fault-of-the-body", (("timeout", "1"),), b"not json"),
    Case(
        "forward-generate",
        (Http("POST", "/v2/models/echo/generate", b'{"INPUT0":5}', (("X-One", "v"), ("other", "w"))),),
        server="edges",
    ),
    Case(
        "forward-generate-timeout",
        (Http("POST", "/v2/models/echo/generate", b'{"INPUT0":5}', (("timeout", "5"),)),),
        server="edges",
    ),
    Case(
        "forward-not-in-metadata",
        (Http("GET", "/v2/models/echo", headers=(("timeout", "1"), ("x-one", "v"))),),
        server="edges",
    ),
)
