"""Shared memory regions as Falcon resources: /v2/systemsharedmemory and /v2/cudasharedmemory.

Status comes from the catalog; registering and unregistering go to the hub, which asks the workers. Whether this client
may do so at all is decided here (--allow-client-shm), because only here it is known where the client is.
"""

from typing import Any

from falcon.asgi import Request, Response

from tensorhub.errors import InvalidArgument, Unsupported
from tensorhub.frontend.registered import DISABLED_TEXT, shown_regions
from tensorhub.http.access import address_of, host_of
from tensorhub.http.connection import control
from tensorhub.http.resources import context_of, lenient_base64, read_json, send_json
from tensorhub.protocol import json_text, messages
from tensorhub.restrictions import Category

CUDA_HANDLE_SIZE = 64
"""Bytes of a cudaIpcMemHandle_t."""

MAX_DEVICE_ID = 2**63 - 1


def _check_allowed(req: Request) -> None:
    if not context_of(req).settings.client_memory.allows(req.scope):
        raise Unsupported(DISABLED_TEXT)


def _owner(req: Request) -> str:
    return context_of(req).settings.scope.owner(req.scope["headers"], host_of(req.scope))


class SystemStatus:
    """GET /v2/systemsharedmemory[/region/<region>]/status"""

    category = Category.SHARED_MEMORY

    async def on_get(self, req: Request, resp: Response, region: str) -> None:
        catalog = context_of(req).catalog
        owner = _owner(req)
        found = shown_regions(catalog.system_regions(owner), catalog.cuda_regions(owner), region, cuda=False)
        send_json(
            resp,
            [
                {"name": item.name, "key": item.key, "offset": item.offset, "byte_size": item.byte_size}
                for item in found
            ],
        )


class SystemRegister:
    """POST /v2/systemsharedmemory/region/<region>/register"""

    category = Category.SHARED_MEMORY

    async def on_post(self, req: Request, resp: Response, region: str) -> None:
        _check_allowed(req)
        if not region:
            raise InvalidArgument("'region name' is necessary to register system shared memory region")
        document = _object(json_text.parse(b"") if (body := await read_json(req)) is None else body)
        operation = messages.Control()
        register = operation.register_system
        register.name, register.owner = region, _owner(req)
        operation.peer = address_of(req.scope)
        register.key = json_text.as_string(_needed(document, "key"))
        register.offset = json_text.as_uint(document.get("offset", 0))
        register.byte_size = json_text.as_uint(_needed(document, "byte_size"))
        await control(context_of(req).gateway, operation)


class SystemUnregister:
    """POST /v2/systemsharedmemory[/region/<region>]/unregister; without a region, all of them."""

    category = Category.SHARED_MEMORY

    async def on_post(self, req: Request, resp: Response, region: str) -> None:
        _check_allowed(req)
        operation = messages.Control()
        operation.unregister_system.name, operation.unregister_system.owner = region, _owner(req)
        operation.unregister_system.SetInParent()
        await control(context_of(req).gateway, operation)


class CudaStatus:
    """GET /v2/cudasharedmemory[/region/<region>]/status"""

    category = Category.SHARED_MEMORY

    async def on_get(self, req: Request, resp: Response, region: str) -> None:
        catalog = context_of(req).catalog
        owner = _owner(req)
        found = shown_regions(catalog.cuda_regions(owner), catalog.system_regions(owner), region, cuda=True)
        send_json(
            resp,
            [{"name": item.name, "device_id": item.device_id, "byte_size": item.byte_size} for item in found],
        )


class CudaRegister:
    """POST /v2/cudasharedmemory/region/<region>/register"""

    category = Category.SHARED_MEMORY

    async def on_post(self, req: Request, resp: Response, region: str) -> None:
        _check_allowed(req)
        if not region:
            raise InvalidArgument("'region name' is necessary to register cuda shared memory region")
        document = _object(json_text.parse(b"") if (body := await read_json(req)) is None else body)
        handle = json_text.as_string(json_text.member(_needed(document, "raw_handle"), "b64"))
        operation = messages.Control()
        register = operation.register_cuda
        register.name, register.owner = region, _owner(req)
        operation.peer = address_of(req.scope)
        register.byte_size = json_text.as_uint(json_text.member(document, "byte_size"))
        device_id = json_text.as_uint(json_text.member(document, "device_id"))
        register.raw_handle = lenient_base64(handle)
        if len(register.raw_handle) != CUDA_HANDLE_SIZE:
            raise InvalidArgument("'raw_handle' must be a valid base64 encoded cudaIpcMemHandle_t")
        if device_id > MAX_DEVICE_ID:
            raise InvalidArgument("failed to register shared memory region: invalid args")
        register.device_id = device_id
        await control(context_of(req).gateway, operation)


class CudaUnregister:
    """POST /v2/cudasharedmemory[/region/<region>]/unregister; without a region, all of them."""

    category = Category.SHARED_MEMORY

    async def on_post(self, req: Request, resp: Response, region: str) -> None:
        _check_allowed(req)
        operation = messages.Control()
        operation.unregister_cuda.name, operation.unregister_cuda.owner = region, _owner(req)
        operation.unregister_cuda.SetInParent()
        await control(context_of(req).gateway, operation)


def _object(document: Any) -> dict[str, Any]:
    """What is no object has no members."""
    return document if type(document) is dict else {}


def _needed(document: dict[str, Any], name: str) -> Any:
    if name not in document:
        raise InvalidArgument(f"Shared memory register request has no '{name}' field")
    return document[name]
