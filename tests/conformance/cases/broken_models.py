"""Models that fail to load (server `broken`, started all the same): what the index, readiness and requests say."""

from __future__ import annotations

from pathlib import Path

from tritonclient.grpc import service_pb2 as pb

from ..messages import grpc_infer, grpc_tensor, infer, tensor
from ..steps import Case, Grpc, Http

_IN = [tensor("INPUT0", "INT32", [1], [1])]
_NAMES = sorted(path.name for path in (Path(__file__).parents[1] / "models" / "broken").iterdir())


def _about(model: str) -> Case:
    return Case(
        f"broken-{model}",
        (
            Http("POST", "/v2/repository/index", only=(model,)),
            Grpc("RepositoryIndex", pb.RepositoryIndexRequest(), only=(model,)),
            Http("GET", f"/v2/models/{model}/ready"),
            Http("GET", f"/v2/models/{model}/versions/1/ready"),
            Http("GET", f"/v2/models/{model}"),
        ),
        server="broken",
    )


CASES = (
    *(_about(name) for name in _NAMES),
    Case("broken-server-is-ready", (Http("GET", "/v2/health/ready"), Http("GET", "/v2/health/live")), server="broken"),
    Case("broken-good-model-serves", (infer("good", _IN),), server="broken"),
    Case(
        "broken-infer", (infer("initialize_raises", _IN), infer("initialize_raises", _IN, version="1")), server="broken"
    ),
    Case(
        "broken-infer-grpc",
        (
            grpc_infer("initialize_raises", [grpc_tensor("INPUT0", "INT32", [1])], [bytes(4)]),
            grpc_infer("unknown_field", [grpc_tensor("INPUT0", "INT32", [1])], [bytes(4)]),
        ),
        server="broken",
    ),
    Case(
        "broken-one-version-serves",
        (infer("one_version_fails", _IN), infer("one_version_fails", _IN, version="2")),
        server="broken",
    ),
    Case("broken-ready-only", (Http("POST", "/v2/repository/index", b'{"ready":true}'),), server="broken"),
    Case(
        "broken-config-of-failed",
        (Http("GET", "/v2/models/initialize_raises/config"), Http("GET", "/v2/models/no_dims/config")),
        server="broken",
    ),
    Case(
        "strict-readiness",
        (
            Http("GET", "/v2/health/ready"),
            Http("GET", "/v2/health/live"),
            Grpc("ServerReady", pb.ServerReadyRequest()),
            Grpc("ServerLive", pb.ServerLiveRequest()),
            Http("GET", "/v2/models/good/ready"),
            infer("good", _IN),
        ),
        server="strict",
    ),
    Case(
        "strict-config-not-completed",
        (Http("GET", "/v2/models/good/config"), Http("POST", "/v2/repository/index", only=("autocomplete_nothing",))),
        server="strict",
    ),
)
