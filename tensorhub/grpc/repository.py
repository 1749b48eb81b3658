"""The model repository: index, load and unload, carried out by the hub."""

from typing import Any

from tensorhub.errors import InvalidArgument, Unsupported
from tensorhub.frontend.catalog import READY, Catalog
from tensorhub.protocol import messages

_IndexResponse = messages.message_class("inference.RepositoryIndexResponse")
_LoadResponse = messages.message_class("inference.RepositoryModelLoadResponse")
_UnloadResponse = messages.message_class("inference.RepositoryModelUnloadResponse")


def index(catalog: Catalog, request: Any, peer: str) -> Any:
    _check_repository(request)
    operation = messages.Control()
    operation.repository_index.SetInParent()
    return operation


def index_response(request: Any, result: Any) -> Any:
    response = _IndexResponse()
    for item in result.index:
        found_twice = item.state and not item.version  # Triton also calls these ready
        if not request.ready or item.state == READY or found_twice:
            version = str(item.version) if item.version else ""  # 0: never loaded
            response.models.add(name=item.model, version=version, state=item.state, reason=item.reason)
    return response


def load(catalog: Catalog, request: Any, peer: str) -> Any:
    _check_repository(request)
    operation = messages.Control()
    order = operation.load_model
    order.name = request.model_name
    for key, value in request.parameters.items():
        kind = value.WhichOneof("parameter_choice")
        if key == "config":
            if kind != "string_param":
                raise InvalidArgument("invalid value type for load parameter 'config', expected string_param.")
            order.has_config = True
            order.config = value.string_param
        elif key.startswith("file:"):
            if kind != "bytes_param":
                raise InvalidArgument(f"invalid value type for load parameter '{key}', expected bytes_param.")
            order.files[key.removeprefix("file:")] = value.bytes_param
        else:
            raise InvalidArgument(f"unrecognized load parameter '{key}'.")
    order.SetInParent()
    return operation


def load_response(request: Any, result: Any) -> Any:
    return _LoadResponse()


def unload(catalog: Catalog, request: Any, peer: str) -> Any:
    _check_repository(request)
    operation = messages.Control()
    operation.unload_model.name = request.model_name
    operation.unload_model.SetInParent()
    if "unload_dependents" in request.parameters:
        value = request.parameters["unload_dependents"]
        if value.WhichOneof("parameter_choice") != "bool_param":
            raise InvalidArgument("invalid value type for 'unload_dependents' parameter, expected bool_param.")
        operation.unload_model.unload_dependents = value.bool_param
    return operation


def unload_response(request: Any, result: Any) -> Any:
    return _UnloadResponse()


def _check_repository(request: Any) -> None:
    if request.repository_name:
        raise Unsupported("'repository_name' specification is not supported")
