"""The endpoints of SageMaker and Vertex AI (servers `sagemaker` and `vertex_ai`), which serve the models of `edges`."""

from __future__ import annotations

import struct

from ..messages import compact, infer_path, output, tensor
from ..steps import Case, Http

_JSON = {"inputs": [tensor("INPUT0", "INT32", [1], [5])], "outputs": [output("OTHER")]}
_BODY = compact(_JSON)
_BINARY = compact(
    {"inputs": [tensor("INPUT0", "INT32", [1], binary_data_size=4)], "outputs": [output("OTHER", binary_data=True)]}
)
_DATA = struct.pack("<i", 5)
_SAGEMAKER = "application/vnd.sagemaker-triton.binary+json;json-header-size="
_VERTEX = "application/vnd.vertex-ai-triton.binary+json;json-header-size="

_Headers = tuple[tuple[str, str], ...]


def _types(mime: str) -> dict[str, tuple[bytes, _Headers]]:
    """Bodies of an inference, each with its content type."""
    length = len(_BINARY)
    return {
        "json": (_BODY, ()),
        "json-typed": (_BODY, (("Content-Type", "application/json"),)),
        "binary": (_BINARY + _DATA, (("Content-Type", f"{mime}{length}"),)),
        "binary-in-json-out": (
            compact({**_JSON, "inputs": [tensor("INPUT0", "INT32", [1], binary_data_size=4)]}) + _DATA,
            (
                (
                    "Content-Type",
                    f"{mime}{len(compact({**_JSON, 'inputs': [tensor('INPUT0', 'INT32', [1], binary_data_size=4)]}))}",
                ),
            ),
        ),
        "binary-raw": (_DATA, (("Content-Type", f"{mime}0"),)),
        "binary-length-word": (_BINARY + _DATA, (("Content-Type", f"{mime}x"),)),
        "binary-length-empty": (_BINARY + _DATA, (("Content-Type", mime),)),
        "binary-length-negative": (_BINARY + _DATA, (("Content-Type", f"{mime}-1"),)),
        "binary-length-too-long": (_BINARY + _DATA, (("Content-Type", f"{mime}9999"),)),
        "binary-length-trailing": (_BINARY + _DATA, (("Content-Type", f"{mime}{length}; charset=x"),)),
        "binary-type-not-first": (_BINARY + _DATA, (("Content-Type", f"x;{mime}{length}"),)),
        "header-length-is-ignored": (_BODY, (("Inference-Header-Content-Length", "3"),)),
        "encoding-is-ignored": (_BODY, (("Content-Encoding", "gzip"),)),
        "unknown-encoding-is-ignored": (_BODY, (("Content-Encoding", "br"),)),
        "accepted-is-ignored": (_BODY, (("Accept-Encoding", "gzip"),)),
        "not-json": (b"nonsense", ()),
        "wrong-type": (compact({"inputs": [tensor("INPUT0", "FP32", [1], [5])]}), ()),
    }


def _sagemaker(name: str, method: str, path: str, body: bytes = b"", headers: _Headers = ()) -> Case:
    return Case(f"sagemaker-{name}", (Http(method, path, body, headers),), server="sagemaker")


def _vertex(name: str, method: str, path: str, body: bytes = b"", headers: _Headers = ()) -> Case:
    return Case(f"vertex-{name}", (Http(method, path, body, headers),), server="vertex_ai")


def _redirected(name: str, place: str, body: bytes = b"", method: str = "POST", headers: _Headers = ()) -> Case:
    redirect = ("X-Vertex-Ai-Triton-Redirect", place)
    return _vertex(f"redirect-{name}", method, "/predict", body, (redirect, *headers))


_SAGEMAKER_CASES = (
    _sagemaker("ping", "GET", "/ping"),
    _sagemaker("ping-post", "POST", "/ping"),
    _sagemaker("ping-slash", "GET", "/ping/"),
    *(
        _sagemaker(f"invocations-{name}", "POST", "/invocations", body, headers)
        for name, (body, headers) in _types(_SAGEMAKER).items()
    ),
    _sagemaker("invocations-get", "GET", "/invocations"),
    _sagemaker("invocations-slash", "POST", "/invocations/", _BODY),
    _sagemaker("root", "GET", "/"),
    _sagemaker("v2", "GET", "/v2"),
    _sagemaker("v2-ready", "GET", "/v2/health/ready"),
    _sagemaker("v2-infer", "POST", infer_path("echo"), _BODY),
    _sagemaker("models-list", "GET", "/models"),
    _sagemaker("models-list-slash", "GET", "/models/"),
    _sagemaker("models-get-unknown", "GET", "/models/abc"),
    _sagemaker("models-put", "PUT", "/models"),
    _sagemaker("models-delete-unknown", "DELETE", "/models/abc"),
    _sagemaker("models-delete-none", "DELETE", "/models"),
    _sagemaker("models-invoke-unknown", "POST", "/models/abc/invoke", _BODY),
    _sagemaker("models-invoke-not-loaded-here", "POST", "/models/echo/invoke", _BODY),
    _sagemaker("models-other-action", "POST", "/models/echo/explain", _BODY),
    _sagemaker("models-load-device", "POST", "/models", compact({"model_name": "x", "url": "/dev/shm"})),
    _sagemaker("models-load-process", "POST", "/models", compact({"model_name": "x", "url": "/proc/self"})),
    _sagemaker("models-load-system", "POST", "/models", compact({"model_name": "x", "url": "/opt/../sys/x"})),
)

_PLACES = {
    "live": "v2/health/live",
    "ready": "v2/health/ready",
    "server": "v2",
    "model": "v2/models/echo",
    "model-version": "v2/models/echo/versions/1",
    "model-unknown": "v2/models/nobody",
    "model-ready": "v2/models/echo/ready",
    "config": "v2/models/echo/config",
    "system-status": "v2/systemsharedmemory/status",
    "system-status-region": "v2/systemsharedmemory/region/r/status",
    "system-register": "v2/systemsharedmemory/region/r/register",
    "trace": "v2/trace/setting",
    "logging": "v2/logging",
    "unknown": "v2/nothing",
    "slash-first": "/v2",
    "empty": "other",
    "not-found-version": "v2/models/echo/versions/9",
}

_VERTEX_CASES = (
    _vertex("health", "GET", "/health"),
    _vertex("health-post", "POST", "/health"),
    *(
        _vertex(f"predict-{name}", "POST", "/predict", body, headers)
        for name, (body, headers) in _types(_VERTEX).items()
    ),
    _vertex("predict-get", "GET", "/predict"),
    _vertex("predict-slash", "POST", "/predict/", _BODY),
    _vertex("root", "GET", "/"),
    _vertex("v2", "GET", "/v2"),
    *(_redirected(name, place) for name, place in _PLACES.items()),
    _redirected("infer", "v2/models/echo/infer", _BODY),
    _redirected("infer-version", "v2/models/echo/versions/1/infer", _BODY),
    _redirected("infer-unknown", "v2/models/nobody/infer", _BODY),
    _redirected(
        "infer-binary",
        "v2/models/echo/infer",
        _BINARY + _DATA,
        headers=(("Content-Type", f"{_VERTEX}{len(_BINARY)}"),),
    ),
    _redirected("get", "v2", method="GET"),
    _redirected("index-ready", "v2/repository/index", b'{"ready":1}'),
)

CASES = (*_SAGEMAKER_CASES, *_VERTEX_CASES)
