"""HTTP and gRPC below the protocol: forms of the request's target, lengths, connections, and calls that are none."""

from __future__ import annotations

from ..messages import compact, tensor
from ..steps import Case, GrpcBytes, Http, Raw

_BODY = compact({"inputs": [tensor("INPUT0", "INT32", [1], [1])]})
_LENGTH = b"Content-Length: %d\r\n" % len(_BODY)
_SERVICE = "/inference.GRPCInferenceService/"


def _request(method: bytes, target: bytes, fields: bytes = b"", body: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"%b %b HTTP/%b\r\nHost: localhost\r\n%b\r\n%b" % (method, target, version, fields, body)


def _infer(fields: bytes = _LENGTH, body: bytes = _BODY, target: bytes = b"/v2/models/echo/infer") -> bytes:
    return _request(b"POST", target, fields, body)


def _chunked(*parts: bytes, trailer: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n" + trailer + b"\r\n"


_TARGETS = {
    "absolute": "http://localhost/v2/health/live",
    "absolute-other-host": "http://elsewhere:1234/v2/health/live",
    "absolute-model": "http://localhost/v2/models/echo/ready",
    "absolute-query": "http://localhost/v2/models/echo/ready?a=b",
    "absolute-not-found": "http://localhost/v2/nothing",
    "query-empty": "/v2/health/live?",
    "query-slashes": "/v2/health/live?a=/b/c",
    "dots-inside": "/v2/models/../health/live",
    "dot-inside": "/v2/./health/live",
    "semicolon": "/v2/health/live;a=b",
    "escape-of-slash": "/v2%2Fhealth/live",
    "plus": "/v2/models/e+cho/ready",
    "two-slashes-inside": "/v2//health/live",
}
_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_FIELDS = {
    "lower-case": _infer(_LENGTH.lower()),
    "upper-case": _infer(_LENGTH.upper()),
    "value-with-spaces": _infer(b"Content-Length:   %d  \r\n" % len(_BODY)),
    "no-space": _infer(b"Content-Length:%d\r\n" % len(_BODY)),
    "chunked-one": _infer(_CHUNKED, _chunked(_BODY)),
    "chunked-bytes": _infer(_CHUNKED, _chunked(*[bytes((item,)) for item in _BODY])),
    "chunked-upper-case": _infer(b"TRANSFER-ENCODING: chunked\r\n", _chunked(_BODY)),
    "chunked-trailer": _infer(_CHUNKED, _chunked(_BODY, trailer=b"X-Sum: 1\r\n")),
    "chunked-header-length": _infer(
        _CHUNKED + b"Inference-Header-Content-Length: %d\r\n" % len(_BODY), _chunked(_BODY[:7], _BODY[7:])
    ),
    "chunked-empty": _infer(_CHUNKED, _chunked()),
    "absolute-infer": _infer(target=b"http://localhost/v2/models/echo/infer"),
    "absolute-version": _infer(target=b"HTTP://LOCALHOST/v2/models/echo/versions/1/infer"),
    "accept": _infer(_LENGTH + b"Accept: text/html\r\n"),
    "content-type-form": _infer(_LENGTH + b"Content-Type: application/x-www-form-urlencoded\r\n"),
    "content-type-octets": _infer(_LENGTH + b"Content-Type: application/octet-stream\r\n"),
    "user-agent-twice": _infer(_LENGTH + 2 * b"User-Agent: x\r\n"),
    "sixty-fields": _infer(_LENGTH + b"".join(b"X-%d: y\r\n" % index for index in range(60))),
    "long-field": _infer(_LENGTH + b"X-Long: %b\r\n" % (b"y" * 4000)),
    "body-of-get": _request(b"GET", b"/v2/models/echo/ready", _LENGTH, _BODY),
    "empty-infer": _infer(b"Content-Length: 0\r\n", b""),
}
_CONNECTIONS = {
    "two-of-1.1": 2 * _infer(),
    "infer-then-control": _infer() + _request(b"GET", b"/v2/models/echo/ready"),
    "after-chunked": _infer(_CHUNKED, _chunked(_BODY)) + _infer(),
}
_GRPC = {
    "live-with-body": (_SERVICE + "ServerLive", b"\x0a\x01x"),
    "live-garbage": (_SERVICE + "ServerLive", b"\xff\xff"),
    "ready-garbage": (_SERVICE + "ModelReady", b"\xff\xff"),
    "metadata-garbage": (_SERVICE + "ModelMetadata", b"\x0a\xff"),
    "config-garbage": (_SERVICE + "ModelConfig", b"\x0a\xff"),
    "statistics-garbage": (_SERVICE + "ModelStatistics", b"\x0a\xff"),
    "index-garbage": (_SERVICE + "RepositoryIndex", b"\x0a\xff"),
    "load-garbage": (_SERVICE + "RepositoryModelLoad", b"\x0a\xff"),
    "trace-garbage": (_SERVICE + "TraceSetting", b"\x0a\xff"),
    "log-garbage": (_SERVICE + "LogSettings", b"\x0a\xff"),
    "shm-garbage": (_SERVICE + "SystemSharedMemoryRegister", b"\x0a\xff"),
    "unknown-field": (_SERVICE + "ModelReady", b"\x0a\x04echo\x7a\x03abc"),
    "lower-case": (_SERVICE + "serverlive", b""),
    "no-service": ("/ServerLive", b""),
    "slash": (_SERVICE + "ServerLive/", b""),
    "health-check": ("/grpc.health.v1.Health/Check", b""),
    "health-garbage": ("/grpc.health.v1.Health/Check", b"\x0a\xff"),
}

CASES = (
    *(Case(f"wire-target-{name}", (Http("GET", target),)) for name, target in _TARGETS.items()),
    *(Case(f"wire-fields-{name}", (Raw(data),)) for name, data in _FIELDS.items()),
    *(Case(f"wire-connection-{name}", (Raw(data, 2),)) for name, data in _CONNECTIONS.items()),
    *(Case(f"wire-grpc-{name}", (GrpcBytes(path, body),)) for name, (path, body) in _GRPC.items()),
)
