"""Models of several versions, and which of them are served."""

from __future__ import annotations

from tritonclient.grpc import service_pb2 as pb

from ..messages import grpc_infer, grpc_tensor, infer, tensor
from ..steps import Case, Grpc, Http

_IN = [tensor("INPUT0", "INT32", [1], [1])]
_ASKED = {
    "versions_specific": ("", "1", "2", "3", "4"),
    "versions_all": ("", "1", "2", "10", "3"),
    "versions_latest": ("", "1", "2", "3"),
    "versions_default": ("", "1", "2"),
    "versions_odd": ("", "1", "2"),
}
_PAIRS = [(model, version) for model, versions in _ASKED.items() for version in versions]

CASES = (
    *(Case(f"{model}-infer-{version or 'any'}", (infer(model, _IN, version=version),)) for model, version in _PAIRS),
    *(
        Case(
            f"{model}-infer-{version or 'any'}-grpc",
            (grpc_infer(model, [grpc_tensor("INPUT0", "INT32", [1])], [bytes(4)], model_version=version),),
        )
        for model, version in _PAIRS
    ),
    *(
        Case(
            f"{model}-ready-{version}",
            (
                Http("GET", f"/v2/models/{model}/versions/{version}/ready"),
                Grpc("ModelReady", pb.ModelReadyRequest(name=model, version=version)),
            ),
        )
        for model, version in _PAIRS
        if version
    ),
    *(
        Case(
            f"{model}-index",
            (
                Http("POST", "/v2/repository/index", only=(model,)),
                Grpc("RepositoryIndex", pb.RepositoryIndexRequest(), only=(model,)),
                Http("POST", "/v2/repository/index", b'{"ready":true}', only=(model,)),
            ),
        )
        for model in _ASKED
    ),
)
