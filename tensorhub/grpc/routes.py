"""The table of methods: Triton's service and the standard ones for health and reflection, and what answers each."""

from collections.abc import Callable, Mapping
from typing import Any

from tensorhub.frontend.catalog import Catalog
from tensorhub.frontend.port import GatewayPort
from tensorhub.grpc import health, observation, reflection, repository, state
from tensorhub.grpc.answering import AfterModels, Asked, ByHub, Conclusion, FromCatalog, Operation
from tensorhub.grpc.engine import Call, Methods, StreamMethod, UnaryMethod
from tensorhub.grpc.inference import ModelInfer
from tensorhub.grpc.rules import Rules, guarded
from tensorhub.grpc.shared_memory import shared_memory_methods
from tensorhub.grpc.streaming import ModelStreamInfer
from tensorhub.protocol import messages
from tensorhub.restrictions import Category

INFERENCE = "inference.GRPCInferenceService"
SERVICES = (INFERENCE, health.SERVICE, reflection.SERVICE)

_FROM_CATALOG: dict[str, Callable[[Catalog, Any], Any]] = {
    f"{INFERENCE}/ServerLive": state.server_live,
    f"{INFERENCE}/ServerMetadata": state.server_metadata,
    f"{INFERENCE}/ModelMetadata": state.model_metadata,
    f"{INFERENCE}/ModelConfig": state.model_config,
}

_AFTER_MODELS: dict[str, tuple[Asked, Callable[[Catalog, Any, bool], Any]]] = {
    f"{INFERENCE}/ServerReady": (state.asked_for_server, state.server_ready),
    f"{INFERENCE}/ModelReady": (state.asked_for_model, state.model_ready),
    f"{health.SERVICE}/Check": (health.asked, health.check),
}

_BY_HUB: dict[str, tuple[Operation, Conclusion]] = {
    f"{INFERENCE}/ModelStatistics": (observation.statistics, observation.statistics_response),
    f"{INFERENCE}/LogSettings": (observation.change_log, observation.log_response),
    f"{INFERENCE}/TraceSetting": (observation.change_trace, observation.trace_response),
    f"{INFERENCE}/RepositoryIndex": (repository.index, repository.index_response),
    f"{INFERENCE}/RepositoryModelLoad": (repository.load, repository.load_response),
    f"{INFERENCE}/RepositoryModelUnload": (repository.unload, repository.unload_response),
}


_INFERENCE_CATEGORIES: dict[str, Category] = {
    "ServerLive": Category.HEALTH,
    "ServerReady": Category.HEALTH,
    "ModelReady": Category.HEALTH,
    "ServerMetadata": Category.METADATA,
    "ModelMetadata": Category.METADATA,
    "ModelInfer": Category.INFERENCE,
    "ModelStreamInfer": Category.INFERENCE,
    "ModelConfig": Category.MODEL_CONFIG,
    "ModelStatistics": Category.STATISTICS,
    "RepositoryIndex": Category.MODEL_REPOSITORY,
    "RepositoryModelLoad": Category.MODEL_REPOSITORY,
    "RepositoryModelUnload": Category.MODEL_REPOSITORY,
    "SystemSharedMemoryStatus": Category.SHARED_MEMORY,
    "SystemSharedMemoryRegister": Category.SHARED_MEMORY,
    "SystemSharedMemoryUnregister": Category.SHARED_MEMORY,
    "CudaSharedMemoryStatus": Category.SHARED_MEMORY,
    "CudaSharedMemoryRegister": Category.SHARED_MEMORY,
    "CudaSharedMemoryUnregister": Category.SHARED_MEMORY,
    "TraceSetting": Category.TRACE,
    "LogSettings": Category.LOGGING,
}


def category(service: str, method: str) -> Category:
    """Return what a method belongs to, for --grpc-restricted-protocol.

    Raises:
        KeyError: the table lacks it; such a method cannot be served.
    """
    if service == INFERENCE:
        return _INFERENCE_CATEGORIES[method]
    return {health.SERVICE: Category.HEALTH, reflection.SERVICE: Category.METADATA}[service]


def methods(gateway: GatewayPort, own_rules: Mapping[str, str] | None = None) -> Methods:
    """Return the table: every method of the services.

    Args:
        own_rules: see rules.Rules.
    """
    rules = Rules(gateway, own_rules)
    shared_memory = shared_memory_methods(gateway)
    table: dict[str, UnaryMethod | StreamMethod] = {}
    for service in SERVICES:
        for method in messages.service(service).methods:
            made = _method(gateway, rules, shared_memory, f"{service}/{method.name}", method)
            table[f"/{service}/{method.name}"] = guarded(made, category(service, method.name), rules)
    table[f"/{reflection.OLD_SERVICE}/{reflection.METHOD}"] = table[f"/{reflection.SERVICE}/{reflection.METHOD}"]
    return table


def _method(
    gateway: GatewayPort,
    rules: Rules,
    shared_memory: Mapping[str, Callable[[Call, bytes], None]],
    name: str,
    descriptor: Any,
) -> UnaryMethod | StreamMethod:
    request_class = messages.message_class(descriptor.input_type.full_name)
    if name == f"{INFERENCE}/ModelInfer":
        return UnaryMethod(ModelInfer(gateway, rules), compress=True)
    if name == f"{INFERENCE}/ModelStreamInfer":
        return StreamMethod(ModelStreamInfer(gateway, rules), compress=True)
    if name == f"{health.SERVICE}/Watch":
        return StreamMethod(health.Watch(gateway))
    if name == f"{reflection.SERVICE}/{reflection.METHOD}":
        return StreamMethod(reflection.ServerReflection(SERVICES))
    if name in _FROM_CATALOG:
        return UnaryMethod(FromCatalog(gateway, request_class, _FROM_CATALOG[name]))
    if name in _AFTER_MODELS:
        return UnaryMethod(AfterModels(gateway, request_class, *_AFTER_MODELS[name]))
    if name in _BY_HUB:
        return UnaryMethod(ByHub(gateway, request_class, *_BY_HUB[name]))
    return UnaryMethod(shared_memory[descriptor.name])
