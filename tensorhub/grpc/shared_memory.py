"""Shared memory regions: their status from the catalog; register and unregister by the hub, if this client may."""

from typing import Any

from tensorhub.errors import Unsupported
from tensorhub.frontend.catalog import Catalog
from tensorhub.frontend.registered import DISABLED_TEXT, shown_regions
from tensorhub.grpc.peers import is_on_this_host
from tensorhub.protocol import messages

_SystemStatusResponse = messages.message_class("inference.SystemSharedMemoryStatusResponse")
_SystemRegisterResponse = messages.message_class("inference.SystemSharedMemoryRegisterResponse")
_SystemUnregisterResponse = messages.message_class("inference.SystemSharedMemoryUnregisterResponse")
_CudaStatusResponse = messages.message_class("inference.CudaSharedMemoryStatusResponse")
_CudaRegisterResponse = messages.message_class("inference.CudaSharedMemoryRegisterResponse")
_CudaUnregisterResponse = messages.message_class("inference.CudaSharedMemoryUnregisterResponse")


def system_status(catalog: Catalog, request: Any) -> Any:
    catalog.check_connected()
    response = _SystemStatusResponse()
    for region in shown_regions(catalog.system_regions, catalog.cuda_regions, request.name, cuda=False):
        status = response.regions[region.name]
        status.name, status.key = region.name, region.key
        status.offset, status.byte_size = region.offset, region.byte_size
    return response


def cuda_status(catalog: Catalog, request: Any) -> Any:
    catalog.check_connected()
    response = _CudaStatusResponse()
    for region in shown_regions(catalog.cuda_regions, catalog.system_regions, request.name, cuda=True):
        status = response.regions[region.name]
        status.name, status.device_id, status.byte_size = region.name, region.device_id, region.byte_size
    return response


def system_register(catalog: Catalog, request: Any, peer: str) -> Any:
    _check_allowed(catalog, peer)
    operation = messages.Control()
    region = operation.register_system
    region.name, region.key, region.offset, region.byte_size = (
        request.name,
        request.key,
        request.offset,
        request.byte_size,
    )
    region.SetInParent()
    return operation


def system_unregister(catalog: Catalog, request: Any, peer: str) -> Any:
    _check_allowed(catalog, peer)
    operation = messages.Control()
    operation.unregister_system.name = request.name
    operation.unregister_system.SetInParent()
    return operation


def cuda_register(catalog: Catalog, request: Any, peer: str) -> Any:
    _check_allowed(catalog, peer)
    operation = messages.Control()
    region = operation.register_cuda
    region.name, region.raw_handle, region.device_id, region.byte_size = (
        request.name,
        request.raw_handle,
        request.device_id,
        request.byte_size,
    )
    region.SetInParent()
    return operation


def cuda_unregister(catalog: Catalog, request: Any, peer: str) -> Any:
    _check_allowed(catalog, peer)
    operation = messages.Control()
    operation.unregister_cuda.name = request.name
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
