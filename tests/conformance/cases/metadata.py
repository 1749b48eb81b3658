"""Health, readiness, metadata and configuration, over both protocols."""

from __future__ import annotations

from tritonclient.grpc import service_pb2 as pb

from ..steps import Case, Grpc, GrpcBytes, Http

_CONFIGURED = (
    "add_sub",
    "add_sub_dynamic",
    "identity_bf16",
    "optional",
    "reshape",
    "reshape_scalar",
    "decoupled",
    "autocomplete",
    "autocomplete_bare",
    "autocomplete_part",
    "configured",
    "versions_all",
    "versions_specific",
    "versions_latest",
)


def _get(name: str, path: str) -> Case:
    return Case(f"{name}-http", (Http("GET", path),))


def _grpc(name: str, method: str, request: object) -> Case:
    return Case(f"{name}-grpc", (Grpc(method, request),))


CASES = (
    _get("live", "/v2/health/live"),
    _get("ready", "/v2/health/ready"),
    _grpc("live", "ServerLive", pb.ServerLiveRequest()),
    _grpc("ready", "ServerReady", pb.ServerReadyRequest()),
    Case("health-check-grpc", (GrpcBytes("/grpc.health.v1.Health/Check"),)),
    Case("health-check-service-grpc", (GrpcBytes("/grpc.health.v1.Health/Check", b"\x0a\x03any"),)),
    Case("health-check-malformed-grpc", (GrpcBytes("/grpc.health.v1.Health/Check", b"\x0a\x7f"),)),
    _get("server-metadata", "/v2"),
    _grpc("server-metadata", "ServerMetadata", pb.ServerMetadataRequest()),
    Case(
        "server-metadata-other-id",
        (Http("GET", "/v2"), Grpc("ServerMetadata", pb.ServerMetadataRequest())),
        server="strict",
    ),
    _get("model-ready", "/v2/models/add_sub/ready"),
    _get("model-ready-version", "/v2/models/add_sub/versions/1/ready"),
    _get("model-ready-unknown", "/v2/models/nothing/ready"),
    _get("model-ready-unknown-version", "/v2/models/add_sub/versions/9/ready"),
    _get("model-ready-version-too-big", "/v2/models/add_sub/versions/99999999999999999999/ready"),
    _get("model-ready-version-zero", "/v2/models/add_sub/versions/0/ready"),
    _grpc("model-ready", "ModelReady", pb.ModelReadyRequest(name="add_sub")),
    _grpc("model-ready-version", "ModelReady", pb.ModelReadyRequest(name="add_sub", version="1")),
    _grpc("model-ready-unknown", "ModelReady", pb.ModelReadyRequest(name="nothing")),
    _grpc("model-ready-no-name", "ModelReady", pb.ModelReadyRequest()),
    _grpc("model-ready-unknown-version", "ModelReady", pb.ModelReadyRequest(name="add_sub", version="9")),
    _grpc("model-ready-version-word", "ModelReady", pb.ModelReadyRequest(name="add_sub", version="one")),
    _grpc("model-ready-version-negative", "ModelReady", pb.ModelReadyRequest(name="add_sub", version="-1")),
    _grpc("model-ready-version-prefix", "ModelReady", pb.ModelReadyRequest(name="add_sub", version="1x")),
    _grpc(
        "model-ready-version-too-big",
        "ModelReady",
        pb.ModelReadyRequest(name="add_sub", version="99999999999999999999"),
    ),
    *(_get(f"metadata-{model}", f"/v2/models/{model}") for model in _CONFIGURED),
    *(_get(f"config-{model}", f"/v2/models/{model}/config") for model in _CONFIGURED),
    *(_grpc(f"metadata-{model}", "ModelMetadata", pb.ModelMetadataRequest(name=model)) for model in _CONFIGURED),
    *(_grpc(f"config-{model}", "ModelConfig", pb.ModelConfigRequest(name=model)) for model in _CONFIGURED),
    _get("metadata-of-version", "/v2/models/versions_all/versions/2"),
    _get("metadata-of-version-not-served", "/v2/models/versions_specific/versions/2"),
    _get("metadata-unknown", "/v2/models/nothing"),
    _get("config-of-version", "/v2/models/versions_all/versions/2/config"),
    _get("config-unknown", "/v2/models/nothing/config"),
    _get("config-unknown-version", "/v2/models/add_sub/versions/9/config"),
    _grpc("metadata-of-version", "ModelMetadata", pb.ModelMetadataRequest(name="versions_all", version="2")),
    _grpc(
        "metadata-of-version-not-served",
        "ModelMetadata",
        pb.ModelMetadataRequest(name="versions_specific", version="2"),
    ),
    _grpc("metadata-unknown", "ModelMetadata", pb.ModelMetadataRequest(name="nothing")),
    _grpc("metadata-version-word", "ModelMetadata", pb.ModelMetadataRequest(name="add_sub", version="one")),
    _grpc("config-unknown", "ModelConfig", pb.ModelConfigRequest(name="nothing")),
    _grpc("config-unknown-version", "ModelConfig", pb.ModelConfigRequest(name="add_sub", version="9")),
)
