"""The table of methods: every method of Triton's service and of the standard health service, and what answers it."""

from collections.abc import Callable
from typing import Any

from tensorhub.frontend.catalog import Catalog
from tensorhub.frontend.port import GatewayPort
from tensorhub.grpc import observation, repository, shared_memory, state
from tensorhub.grpc.answering import ByHub, Conclusion, FromCatalog, Operation
from tensorhub.grpc.engine import UNIMPLEMENTED, Call, Methods, Stream, StreamCall, StreamMethod, UnaryMethod
from tensorhub.grpc.inference import ModelInfer
from tensorhub.grpc.streaming import ModelStreamInfer
from tensorhub.protocol import messages

INFERENCE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"

_FROM_CATALOG: dict[str, Callable[[Catalog, Any], Any]] = {
    f"{INFERENCE}/ServerLive": state.server_live,
    f"{INFERENCE}/ServerReady": state.server_ready,
    f"{INFERENCE}/ModelReady": state.model_ready,
    f"{INFERENCE}/ServerMetadata": state.server_metadata,
    f"{INFERENCE}/ModelMetadata": state.model_metadata,
    f"{INFERENCE}/ModelConfig": state.model_config,
    f"{HEALTH}/Check": state.health_check,
}

_BY_HUB: dict[str, tuple[Operation, Conclusion]] = {
    f"{INFERENCE}/ModelStatistics": (observation.statistics, observation.statistics_response),
    f"{INFERENCE}/RepositoryIndex": (repository.index, repository.index_response),
    f"{INFERENCE}/RepositoryModelLoad": (repository.load, repository.load_response),
    f"{INFERENCE}/RepositoryModelUnload": (repository.unload, repository.unload_response),
}

_OWN_STATUS: dict[str, Callable[[Call, Catalog, Any], Any]] = {
    f"{INFERENCE}/SystemSharedMemoryStatus": shared_memory.system_status,
    f"{INFERENCE}/CudaSharedMemoryStatus": shared_memory.cuda_status,
}

_OWN_OPERATIONS: dict[str, tuple[Callable[[Call, Catalog, Any, str], Any], Conclusion]] = {
    f"{INFERENCE}/SystemSharedMemoryRegister": (shared_memory.system_register, shared_memory.system_registered),
    f"{INFERENCE}/SystemSharedMemoryUnregister": (shared_memory.system_unregister, shared_memory.system_unregistered),
    f"{INFERENCE}/CudaSharedMemoryRegister": (shared_memory.cuda_register, shared_memory.cuda_registered),
    f"{INFERENCE}/CudaSharedMemoryUnregister": (shared_memory.cuda_unregister, shared_memory.cuda_unregistered),
}


def methods(gateway: GatewayPort) -> Methods:
    """Return the table; a method that nothing above answers says that this server does not have it."""
    table: dict[str, UnaryMethod | StreamMethod] = {}
    for service in (INFERENCE, HEALTH):
        for method in messages.service(service).methods:
            table[f"/{service}/{method.name}"] = _method(gateway, f"{service}/{method.name}", method)
    return table


def _method(gateway: GatewayPort, name: str, descriptor: Any) -> UnaryMethod | StreamMethod:
    request_class = messages.message_class(descriptor.input_type.full_name)
    if name == f"{INFERENCE}/ModelInfer":
        return UnaryMethod(ModelInfer(gateway), compress=True)
    if name == f"{INFERENCE}/ModelStreamInfer":
        return StreamMethod(ModelStreamInfer(gateway), compress=True)
    if name in _FROM_CATALOG:
        return UnaryMethod(FromCatalog(gateway, request_class, _FROM_CATALOG[name]))
    if name in _OWN_STATUS:
        return UnaryMethod(shared_memory.OwnStatus(gateway, request_class, _OWN_STATUS[name]))
    if name in _OWN_OPERATIONS:
        return UnaryMethod(shared_memory.OwnOperation(gateway, request_class, *_OWN_OPERATIONS[name]))
    if name in _BY_HUB:
        return UnaryMethod(ByHub(gateway, request_class, *_BY_HUB[name]))
    if descriptor.client_streaming or descriptor.server_streaming:
        return StreamMethod(_NotServedStream(descriptor.name))
    return UnaryMethod(_NotServed(descriptor.name))


class _NotServed:
    """A unary method that this server does not have."""

    def __init__(self, name: str) -> None:
        self._details = not_served(name)

    def __call__(self, call: Call, message: bytes) -> None:
        call.fail(UNIMPLEMENTED, self._details)


class _NotServedStream:
    """A streaming method that this server does not have."""

    def __init__(self, name: str) -> None:
        self._details = not_served(name)

    def __call__(self, call: StreamCall) -> Stream:
        call.finish(UNIMPLEMENTED, self._details)
        return _Deaf()


class _Deaf:
    """Deals with a stream that is over."""

    def on_message(self, message: bytes) -> None:
        """Nothing."""

    def on_half_close(self) -> None:
        """Nothing."""

    def on_gone(self) -> None:
        """Nothing."""

    def on_caught_up(self) -> None:
        """Nothing."""


def not_served(name: str) -> str:
    """Return the text for a method that this server does not have."""
    return f"{name} is not supported by this server"
