"""The statistics extension: what is counted, of which model, and what a reload does; times are normalised.

A case loads its model anew, so that the counters begin at zero. Triton and tensorhub count a request when they have
answered it, so a case waits until what it sent is counted.
"""

from __future__ import annotations

import struct

from tritonclient.grpc import service_pb2 as pb

from ..messages import grpc_infer, grpc_tensor, infer, strings, tensor
from ..steps import AwaitCounted, AwaitState, Case, Grpc, GrpcStream, Http, Step

_BATCH = "counted_batch"


def _fresh(model: str) -> tuple[Step, ...]:
    return (
        Http("POST", f"/v2/repository/models/{model}/unload"),
        AwaitState(model, "UNAVAILABLE"),
        Http("POST", f"/v2/repository/models/{model}/load"),
    )


def _http(model: str, version: str = "") -> Http:
    return Http("GET", f"/v2/models/{model}{f'/versions/{version}' if version else ''}/stats")


def _grpc(model: str = "", version: str = "") -> Grpc:
    return Grpc("ModelStatistics", pb.ModelStatisticsRequest(name=model, version=version))


def _both(model: str, version: str = "") -> tuple[Step, ...]:
    return (_http(model, version), _grpc(model, version))


def _kind(kind: str) -> Http:
    return infer("counted", [tensor("KIND", "BYTES", [1], [kind])])


def _kind_grpc(kind: str) -> Grpc:
    return grpc_infer("counted", [grpc_tensor("KIND", "BYTES", [1])], [strings(kind.encode())])


def _rows(count: int, version: str = "") -> Http:
    return infer(_BATCH, [tensor("INPUT0", "INT32", [count, 1], [[1]] * count)], version=version)


def _count(number: int) -> pb.ModelInferRequest:
    request = grpc_infer("counted_decoupled", [grpc_tensor("COUNT", "INT32", [1])], [struct.pack("<i", number)]).request
    assert isinstance(request, pb.ModelInferRequest)
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    return request


def _counted(name: str, kinds: tuple[str, ...]) -> tuple[Case, ...]:
    return tuple(
        Case(
            f"statistics-{name}{suffix}",
            (
                *_fresh("counted"),
                *(make(kind) for kind in kinds),
                AwaitCounted("counted", len(kinds)),
                *_both("counted"),
            ),
            "observed",
        )
        for suffix, make in (("", _kind), ("-grpc", _kind_grpc))
    )


def _batches(name: str, *sizes: int) -> Case:
    steps = (*_fresh(_BATCH), *map(_rows, sizes), AwaitCounted(_BATCH, len(sizes)), *_both(_BATCH, "3"))
    return Case(f"statistics-batches-{name}", steps, "observed")


_REFUSED = (
    ("unknown-tensor", infer("counted", [tensor("OTHER", "BYTES", [1], ["x"])])),
    ("wrong-shape", infer("counted", [tensor("KIND", "BYTES", [2], ["x", "y"])])),
    ("wrong-type", infer("counted", [tensor("KIND", "INT32", [1], [1])])),
    ("no-json", Http("POST", "/v2/models/counted/infer", b"{")),
    ("no-inputs", infer("counted", [])),
    ("unknown-output", infer("counted", [tensor("KIND", "BYTES", [1], ["x"])], [{"name": "OTHER"}])),
)

CASES = (
    Case("statistics-fresh", (*_fresh("counted"), *_both("counted")), "observed"),
    *_counted("one", ("ok",)),
    *_counted("three", ("ok", "ok", "ok")),
    *_counted("error-is-a-success", ("error",)),
    *_counted("raised", ("raise",)),
    *_counted("raised-and-not", ("ok", "raise", "error", "raise")),
    *(
        Case(
            f"statistics-refused-{name}",
            (*_fresh("counted"), step, _kind("ok"), AwaitCounted("counted", 1), *_both("counted")),
            "observed",
        )
        for name, step in _REFUSED
    ),
    _batches("one", 1),
    _batches("two", 2),
    _batches("full", 8),
    _batches("same", 3, 3, 3),
    _batches("mixed", 4, 1, 2, 1, 4),
    Case("statistics-too-many-rows", (*_fresh(_BATCH), _rows(9), *_both(_BATCH)), "observed"),
    Case(
        "statistics-versions",
        (
            *_fresh(_BATCH),
            _rows(1, "1"),
            _rows(2, "3"),
            _rows(3, "3"),
            AwaitCounted(_BATCH, 1, "1"),
            AwaitCounted(_BATCH, 2, "3"),
            *_both(_BATCH),
            *_both(_BATCH, "1"),
            *_both(_BATCH, "3"),
        ),
        "observed",
    ),
    Case(
        "statistics-reload",
        (
            *_fresh("counted"),
            _kind("ok"),
            AwaitCounted("counted", 1),
            *_fresh("counted"),
            *_both("counted"),
        ),
        "observed",
    ),
    Case(
        "statistics-unloaded",
        (
            Http("POST", "/v2/repository/models/counted/unload"),
            AwaitState("counted", "UNAVAILABLE"),
            *_both("counted"),
            *_both("counted", "1"),
            Http("POST", "/v2/repository/models/counted/load"),
            *_both("counted"),
        ),
        "observed",
    ),
    *(
        Case(
            f"statistics-decoupled-{'-'.join(map(str, counts))}",
            (
                *_fresh("counted_decoupled"),
                GrpcStream(tuple(map(_count, counts))),
                AwaitCounted("counted_decoupled", len(counts)),
                *_both("counted_decoupled"),
            ),
            "observed",
        )
        for counts in ((0,), (1,), (3,), (2, 0, 1))
    ),
    Case("statistics-unknown-model", _both("nobody"), "observed"),
    Case("statistics-unknown-model-version", _both("nobody", "1"), "observed"),
    Case("statistics-unknown-version", _both(_BATCH, "2"), "observed"),
    Case("statistics-version-zero", _both("counted", "0"), "observed"),
    Case("statistics-version-no-number", (_http("counted", "x"), _grpc("counted", "x")), "observed"),
    Case("statistics-version-negative", (_grpc("counted", "-1"), _grpc("counted", "-2")), "observed"),
    Case(
        "statistics-methods",
        tuple(
            Http(method, path)
            for path in ("/v2/models/stats", "/v2/models/counted/stats", "/v2/models/counted/versions/1/stats")
            for method in ("POST", "PUT", "DELETE", "HEAD")
        ),
        "observed",
    ),
    Case(
        "statistics-paths",
        (
            Http("GET", "/v2/models/counted/stats/"),
            Http("GET", "/v2/models/stats/"),
            Http("GET", "/v2/models//stats"),
            Http("GET", "/v2/models/counted/versions/stats"),
            Http("GET", "/v2/models/nobody/stats?a=b"),
        ),
        "observed",
    ),
)
