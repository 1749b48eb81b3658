"""The metadata answers of the server and of its models, for HTTP and gRPC. Pure.

Source of the rules: the KServe v2 protocol, and ModelMetadata in Triton's server.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tensorhub.protocol import messages
from tensorhub.tensors import DataType

EXTENSIONS = (
    "classification",
    "sequence",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "system_shared_memory",
    "cuda_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
)
"""All of Triton's extensions, in its order. A server announces those that it has."""

SOCKET_EXTENSION = "shared_memory_socket"
"""Ours: memory is registered by file descriptor over --shm-socket, and outputs may make it larger."""

ALLOCATE_EXTENSION = "shared_memory_allocate"
"""Ours: the server makes a region for an output, which the client takes over --shm-socket."""

INVALID_DATATYPE = "<invalid>"

_ServerMetadataResponse = messages.message_class("inference.ServerMetadataResponse")
_ModelMetadataResponse = messages.message_class("inference.ModelMetadataResponse")


def server_metadata(name: str, version: str, extensions: Sequence[str]) -> dict[str, Any]:
    """Return the JSON object of `GET /v2`."""
    return {"name": name, "version": version, "extensions": list(extensions)}


def server_metadata_message(name: str, version: str, extensions: Sequence[str]) -> Any:
    """Return the `inference.ServerMetadataResponse`."""
    return _ServerMetadataResponse(**server_metadata(name, version, extensions))


def extensions(settings: Mapping[str, str]) -> tuple[str, ...]:
    """Return what a server with these options announces."""
    shares = settings.get("shm-socket") and settings.get("allow-client-shm") != "false"
    return (*EXTENSIONS, SOCKET_EXTENSION, ALLOCATE_EXTENSION) if shares else EXTENSIONS


def model_metadata(config: Any, versions: Iterable[int]) -> dict[str, Any]:
    """Return the JSON object of `GET /v2/models/M`.

    Args:
        config: a complete `inference.ModelConfig`.
        versions: the versions to list: all that are ready, or the one that was asked for.

    A shape has the batch dimension, -1, in front exactly if the model batches; reshape plays no part. The platform of
    a model that names none is its backend.
    """
    batch = [-1] if config.max_batch_size >= 1 else []
    return {
        "name": config.name,
        "versions": [str(version) for version in versions],
        "platform": config.platform or config.backend,
        "inputs": [_tensor(tensor, batch) for tensor in config.input],
        "outputs": [_tensor(tensor, batch) for tensor in config.output],
    }


def model_metadata_message(config: Any, versions: Iterable[int]) -> Any:
    """Return the `inference.ModelMetadataResponse`, with the same content."""
    return _ModelMetadataResponse(**model_metadata(config, versions))


def datatype_name(number: int) -> str:
    """Return the wire name of a config's data type, `<invalid>` if it has none."""
    try:
        return str(DataType.from_config(number).value)
    except KeyError:
        return INVALID_DATATYPE


def _tensor(tensor: Any, batch: list[int]) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "datatype": datatype_name(tensor.data_type),
        "shape": batch + list(tensor.dims),
    }
