"""What gRPC metadata does: restricted protocols (server `locked`), and keys that become parameters (`forwarding`)."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import Message
from tritonclient.grpc import service_pb2 as pb

from ..messages import Parameter, grpc_infer, grpc_output, grpc_tensor
from ..steps import Case, Grpc, GrpcBytes, GrpcStream, Step

Metadata = tuple[tuple[str, str], ...]


def _infer(model: str = "echo", metadata: Metadata = (), **parameters: Parameter) -> Grpc:
    step = grpc_infer(
        model,
        [grpc_tensor("INPUT0", "INT32", [1])],
        [b"\5\0\0\0"],
        [grpc_output("REPORT")],
        parameters,
        id="id",
    )
    return Grpc(step.method, step.request, metadata=metadata)


def _stream(*steps: Grpc, metadata: Metadata = ()) -> GrpcStream:
    return GrpcStream(tuple(step.request for step in steps), metadata)


_HEALTH_CHECK = "/grpc.health.v1.Health/Check"

_METHODS: dict[str, Message] = {
    "ServerLive": pb.ServerLiveRequest(),
    "ServerReady": pb.ServerReadyRequest(),
    "ModelReady": pb.ModelReadyRequest(name="echo"),
    "ServerMetadata": pb.ServerMetadataRequest(),
    "ModelMetadata": pb.ModelMetadataRequest(name="echo"),
    "ModelConfig": pb.ModelConfigRequest(name="echo"),
    "ModelStatistics": pb.ModelStatisticsRequest(name="echo"),
    "ModelInfer": _infer().request,
    "RepositoryIndex": pb.RepositoryIndexRequest(),
    "RepositoryModelLoad": pb.RepositoryModelLoadRequest(model_name="echo"),
    "RepositoryModelUnload": pb.RepositoryModelUnloadRequest(model_name="nobody"),
    "SystemSharedMemoryStatus": pb.SystemSharedMemoryStatusRequest(),
    "SystemSharedMemoryRegister": pb.SystemSharedMemoryRegisterRequest(name="r"),
    "SystemSharedMemoryUnregister": pb.SystemSharedMemoryUnregisterRequest(name="r"),
    "CudaSharedMemoryStatus": pb.CudaSharedMemoryStatusRequest(),
    "CudaSharedMemoryRegister": pb.CudaSharedMemoryRegisterRequest(name="r"),
    "CudaSharedMemoryUnregister": pb.CudaSharedMemoryUnregisterRequest(name="r"),
    "TraceSetting": pb.TraceSettingRequest(),
    "LogSettings": pb.LogSettingsRequest(),
}

_INFER_KEY = (("triton-grpc-protocol-infer-key", "infer value"),)
_ADMIN_KEY = (("triton-grpc-protocol-admin-key", "admin=value"),)

_NOT_ENOUGH: dict[str, Metadata] = {
    "bare-key": (("infer-key", "infer value"),),
    "other-value": (("triton-grpc-protocol-infer-key", "other"),),
    "empty-value": (("triton-grpc-protocol-infer-key", ""),),
    "longer-value": (("triton-grpc-protocol-infer-key", "infer value and more"),),
    "other-key": _ADMIN_KEY,
}

_ALLOWED: dict[str, Step] = {
    "infer": _infer(metadata=_INFER_KEY),
    "infer-both-keys": _infer(metadata=(*_ADMIN_KEY, *_INFER_KEY)),
    "infer-unknown-model": _infer("nobody", metadata=_INFER_KEY),
    "stream": _stream(_infer(), _infer("nobody"), metadata=_INFER_KEY),
    "model-metadata": Grpc("ModelMetadata", _METHODS["ModelMetadata"], metadata=_ADMIN_KEY),
    "live": Grpc("ServerLive", pb.ServerLiveRequest(), metadata=_ADMIN_KEY),
    "health-check": GrpcBytes(_HEALTH_CHECK, metadata=_ADMIN_KEY),
    "memory": Grpc("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest(), metadata=_ADMIN_KEY),
}


def _locked() -> list[Case]:
    steps: dict[str, Step] = {
        **{f"denied-{method}": Grpc(method, request) for method, request in _METHODS.items()},
        "denied-health-check": GrpcBytes(_HEALTH_CHECK),
        "denied-stream": _stream(_infer()),
        "denied-stream-without-requests": _stream(),
        "denied-infer-unknown-model": _infer("nobody"),
        "denied-infer-not-a-request": GrpcBytes("/inference.GRPCInferenceService/ModelInfer", b"\xff\xff"),
        **{f"denied-{name}": _infer(metadata=metadata) for name, metadata in _NOT_ENOUGH.items()},
        **{f"allowed-{name}": step for name, step in _ALLOWED.items()},
    }
    return [Case(f"locked-{name}", (step,), "locked") for name, step in steps.items()]


_FORWARDED: dict[str, Metadata] = {
    "one": (("x-one", "1"),),
    "two": (("x-one", "1"), ("x-two", "2")),
    "none": (("one", "1"),),
    "part-of-a-key": (("a-x-b", "1"),),
    "empty-value": (("x-one", ""),),
    "same-key-twice": (("x-one", "1"), ("x-one", "2")),
    "sequence-id": (("sequence_id", "1"),),
    "sequence-start": (("sequence_start", "1"),),
    "timeout": (("timeout", "1"),),
    "timeouts": (("timeouts", "1"),),
    "priority": (("priority", "1"),),
    "headers": (("headers", "1"),),
    "reserved-word": (("triton_x", "1"),),
    "binary-data-output": (("binary_data_output", "1"),),
}


def _forwarding(name: str, metadata: Metadata, extra: Sequence[Grpc] = ()) -> list[Case]:
    return [
        Case(f"forwarding-{name}", (_infer(metadata=metadata),), "forwarding"),
        Case(f"forwarding-{name}-stream", (_stream(_infer(), *extra, metadata=metadata),), "forwarding"),
    ]


CASES: tuple[Case, ...] = (
    *_locked(),
    *(case for name, metadata in _FORWARDED.items() for case in _forwarding(name, metadata)),
    *_forwarding("every-request", (("x-one", "1"),), (_infer(), _infer("nobody"))),
    Case("forwarding-same-parameter", (_infer(metadata=(("x-one", "1"),), **{"x-one": "mine"}),), "forwarding"),
    Case("forwarding-beside-parameters", (_infer(metadata=(("x-one", "1"),), other=5),), "forwarding"),
    Case("forwarding-wrong-parameter", (_infer(metadata=(("x-one", "1"),), triton_y=5),), "forwarding"),
)
