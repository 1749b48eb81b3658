"""Shared memory regions: their status from the catalog; register and unregister by the hub, if this client may."""

from collections.abc import Callable
from functools import partial
from typing import Any

from tensorhub.errors import Unsupported
from tensorhub.frontend.catalog import Catalog
from tensorhub.frontend.port import GatewayPort
from tensorhub.frontend.registered import DISABLED_TEXT, shown_regions
from tensorhub.grpc.answering import ByHub, Conclusion, FromCatalog
from tensorhub.grpc.engine import Call, StreamCall
from tensorhub.grpc.peers import is_on_this_host
from tensorhub.ownership import grpc_address, grpc_host
from tensorhub.protocol import messages

_SystemStatusResponse = messages.message_class("inference.SystemSharedMemoryStatusResponse")
_SystemRegisterResponse = messages.message_class("inference.SystemSharedMemoryRegisterResponse")
_SystemUnregisterResponse = messages.message_class("inference.SystemSharedMemoryUnregisterResponse")
_CudaStatusResponse = messages.message_class("inference.CudaSharedMemoryStatusResponse")
_CudaRegisterResponse = messages.message_class("inference.CudaSharedMemoryRegisterResponse")
_CudaUnregisterResponse = messages.message_class("inference.CudaSharedMemoryUnregisterResponse")


class OwnStatus:
    """A method that is answered from the catalog, and for each owner otherwise."""

    def __init__(self, gateway: GatewayPort, request_class: Any, answer: Callable[[Call, Catalog, Any], Any]) -> None:
        self._gateway = gateway
        self._request_class = request_class
        self._answer = answer

    def __call__(self, call: Call, message: bytes) -> None:
        FromCatalog(self._gateway, self._request_class, partial(self._answer, call))(call, message)


class OwnOperation:
    """A method that the hub carries out, for each owner otherwise."""

    def __init__(
        self,
        gateway: GatewayPort,
        request_class: Any,
        operation: Callable[[Call, Catalog, Any, str], Any],
        conclusion: Conclusion,
    ) -> None:
        self._gateway = gateway
        self._request_class = request_class
        self._operation = operation
        self._conclusion = conclusion

    def __call__(self, call: Call, message: bytes) -> None:
        operation = partial(self._operation, call)
        ByHub(self._gateway, self._request_class, operation, self._conclusion)(call, message)


def owner_of(call: Call | StreamCall, catalog: Catalog) -> str:
    """Return whose regions a call sees: --shm-scope.

    Raises:
        InvalidArgument: what it says of its owner is too long.
    """
    if not catalog.divided:
        return ""
    return catalog.scope.owner(((str(key), value) for key, value in call.metadata), grpc_host(call.peer))


def system_status(call: Call, catalog: Catalog, request: Any) -> Any:
    catalog.check_connected()
    owner = owner_of(call, catalog)
    response = _SystemStatusResponse()
    for region in shown_regions(catalog.system_regions(owner), catalog.cuda_regions(owner), request.name, cuda=False):
        status = response.regions[region.name]
        status.name, status.key = region.name, region.key
        status.offset, status.byte_size = region.offset, region.byte_size
    return response


def cuda_status(call: Call, catalog: Catalog, request: Any) -> Any:
    catalog.check_connected()
    owner = owner_of(call, catalog)
    response = _CudaStatusResponse()
    for region in shown_regions(catalog.cuda_regions(owner), catalog.system_regions(owner), request.name, cuda=True):
        status = response.regions[region.name]
        status.name, status.device_id, status.byte_size = region.name, region.device_id, region.byte_size
    return response


def system_register(call: Call, catalog: Catalog, request: Any, peer: str) -> Any:
    _check_allowed(catalog, peer)
    operation = messages.Control()
    region = operation.register_system
    region.name, region.key, region.offset, region.byte_size = (
        request.name,
        request.key,
        request.offset,
        request.byte_size,
    )
    region.owner = owner_of(call, catalog)
    operation.peer = grpc_address(peer)
    region.SetInParent()
    return operation


def system_unregister(call: Call, catalog: Catalog, request: Any, peer: str) -> Any:
    _check_allowed(catalog, peer)
    operation = messages.Control()
    operation.unregister_system.name = request.name
    operation.unregister_system.owner = owner_of(call, catalog)
    operation.unregister_system.SetInParent()
    return operation


def cuda_register(call: Call, catalog: Catalog, request: Any, peer: str) -> Any:
    _check_allowed(catalog, peer)
    operation = messages.Control()
    region = operation.register_cuda
    region.name, region.raw_handle, region.device_id, region.byte_size = (
        request.name,
        request.raw_handle,
        request.device_id,
        request.byte_size,
    )
    region.owner = owner_of(call, catalog)
    operation.peer = grpc_address(peer)
    region.SetInParent()
    return operation


def cuda_unregister(call: Call, catalog: Catalog, request: Any, peer: str) -> Any:
    _check_allowed(catalog, peer)
    operation = messages.Control()
    operation.unregister_cuda.name = request.name
    operation.unregister_cuda.owner = owner_of(call, catalog)
    operation.unregister_cuda.SetInParent()
    return operation


def _check_allowed(catalog: Catalog, peer: str) -> None:
    """Whether the client may register and unregister: --allow-client-shm.

    Raises:
        Unsupported: nobody may, or only clients on this host, and this one is on another.
    """
    allowed = catalog.settings.get("allow-client-shm", "auto")
    if allowed != "true" and not (allowed == "auto" and is_on_this_host(peer)):
        raise Unsupported(DISABLED_TEXT)


def system_registered(request: Any, result: Any) -> Any:
    return _SystemRegisterResponse()


def system_unregistered(request: Any, result: Any) -> Any:
    return _SystemUnregisterResponse()


def cuda_registered(request: Any, result: Any) -> Any:
    return _CudaRegisterResponse()


def cuda_unregistered(request: Any, result: Any) -> Any:
    return _CudaUnregisterResponse()
