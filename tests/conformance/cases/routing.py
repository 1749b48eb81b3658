"""Which paths and methods exist, and what the others are answered."""

from __future__ import annotations

from ..messages import compact, infer_path, tensor
from ..steps import Case, GrpcBytes, Http, Raw

_BODY = compact({"inputs": [tensor("INPUT0", "INT32", [1], [1])]})
_NOT_FOUND = {
    "root": "/",
    "v1": "/v1",
    "trailing-slash": "/v2/",
    "models": "/v2/models",
    "models-slash": "/v2/models/",
    "model-slash": "/v2/models/echo/",
    "health": "/v2/health",
    "health-unknown": "/v2/health/well",
    "health-slash": "/v2/health/live/",
    "double-slash": "//v2/health/live",
    "upper-case": "/V2/health/live",
    "version-word": "/v2/models/echo/versions/one",
    "version-negative": "/v2/models/echo/versions/-1",
    "version-empty": "/v2/models/echo/versions/",
    "version-infer-slash": "/v2/models/echo/versions/1/infer/",
    "model-action": "/v2/models/echo/explain",
    "repository": "/v2/repository",
    "region-without-name": "/v2/systemsharedmemory/region/status",
    "shared-memory": "/v2/systemsharedmemory",
}
_WRONG_METHOD = {
    "live-post": ("POST", "/v2/health/live"),
    "live-head": ("HEAD", "/v2/health/live"),
    "ready-put": ("PUT", "/v2/health/ready"),
    "server-post": ("POST", "/v2"),
    "model-post": ("POST", "/v2/models/echo"),
    "model-delete": ("DELETE", "/v2/models/echo"),
    "model-ready-post": ("POST", "/v2/models/echo/ready"),
    "config-post": ("POST", "/v2/models/echo/config"),
    "infer-get": ("GET", infer_path("echo")),
    "infer-put": ("PUT", infer_path("echo")),
    "infer-unknown-model-get": ("GET", infer_path("nothing")),
    "index-get": ("GET", "/v2/repository/index"),
    "load-get": ("GET", "/v2/repository/models/echo/load"),
    "unload-get": ("GET", "/v2/repository/models/echo/unload"),
    "shm-status-post": ("POST", "/v2/systemsharedmemory/status"),
    "shm-register-get": ("GET", "/v2/systemsharedmemory/region/r/register"),
    "shm-unregister-get": ("GET", "/v2/systemsharedmemory/unregister"),
    "cuda-status-post": ("POST", "/v2/cudasharedmemory/status"),
    "options": ("OPTIONS", "/v2"),
    "patch": ("PATCH", "/v2"),
}
_LENGTH = f"Content-Length: {len(_BODY)}\r\n".encode()
_POST = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: localhost\r\n"

CASES = (
    *(Case(f"not-found-{name}", (Http("GET", path),)) for name, path in _NOT_FOUND.items()),
    Case("not-found-post", (Http("POST", "/v2/nothing", _BODY),)),
    *(Case(f"method-{name}", (Http(method, path),)) for name, (method, path) in _WRONG_METHOD.items()),
    Case(
        "query-is-ignored",
        (Http("GET", "/v2/models/echo/ready?x=1&y"), Http("POST", infer_path("echo") + "?trace=1", _BODY)),
    ),
    Case("percent-escape-in-model", (Http("GET", "/v2/models/ech%6f"),)),
    Case("percent-slash-in-model", (Http("GET", "/v2/models/echo%2Fready"),)),
    Case("percent-escape-in-word", (Http("GET", "/v2/m%6fdels/echo/ready"),)),
    Case("model-with-space", (Http("GET", "/v2/models/e%20cho/ready"),)),
    Case("model-with-dots", (Http("GET", "/v2/models/../ready"),)),
    Case("model-with-quotes", (Http("GET", "/v2/models/a'b\"c"),)),
    Case("version-with-leading-zero", (Http("GET", "/v2/models/echo/versions/01/ready"),)),
    Case("keep-alive", (Raw(2 * (_POST + _LENGTH + b"\r\n" + _BODY), 2),)),
    Case(
        "keep-alive-after-error", (Raw(_POST + b"Content-Length: 1\r\n\r\n{" + _POST + _LENGTH + b"\r\n" + _BODY, 2),)
    ),
    Case("http-1.0", (Raw(_POST.replace(b"1.1", b"1.0") + _LENGTH + b"\r\n" + _BODY, 2),)),
    Case(
        "chunked-body",
        (
            Raw(
                _POST
                + b"Transfer-Encoding: chunked\r\n\r\n"
                + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (_BODY[:5], _BODY[5:20], _BODY[20:]))
                + b"0\r\n\r\n"
            ),
        ),
    ),
    Case("content-type-is-ignored", (Http("POST", infer_path("echo"), _BODY, (("Content-Type", "text/plain"),)),)),
    Case("grpc-unknown-method", (GrpcBytes("/inference.GRPCInferenceService/Nothing"),)),
    Case("grpc-unknown-service", (GrpcBytes("/other.Service/ServerLive"),)),
    Case("grpc-malformed-request", (GrpcBytes("/inference.GRPCInferenceService/ModelInfer", b"\xff\xff"),)),
)
