"""Shared memory regions as Falcon resources: /v2/systemsharedmemory and /v2/cudasharedmemory.

Status comes from the catalog; registering and unregistering go to the hub, which asks the workers. Whether this client
may do so at all is decided here (--allow-client-shm), because only here it is known where the client is. What the two
kinds of memory have of their own is in `SYSTEM_MEMORY` and `CUDA_MEMORY`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from falcon.asgi import Request, Response

from tensorhub.devices import HANDLE_BYTE_SIZE
from tensorhub.errors import InvalidArgument, Unsupported
from tensorhub.frontend.registered import CUDA, SYSTEM, Kind, registration, shown_regions, unregistration
from tensorhub.http.access import address_of, host_of
from tensorhub.http.connection import control
from tensorhub.http.resources import context_of, lenient_base64, read_body, send_json
from tensorhub.protocol import json_text, json_values
from tensorhub.protocol.sharing import DISABLED_TEXT
from tensorhub.restrictions import Category

MAX_DEVICE_ID = 2**63 - 1


class Memory(NamedTuple):
    """A kind of memory.

    Attributes:
        read: sets what is in the document of a registration; raises Triton's errors in its order.
        show: returns the status of a region.
    """

    kind: Kind
    read: Callable[[dict[str, Any], Any], None]
    show: Callable[[Any], dict[str, Any]]


def _check_allowed(req: Request) -> None:
    if not context_of(req).settings.client_memory.allows(req.scope):
        raise Unsupported(DISABLED_TEXT)


def _owner(req: Request) -> str:
    return context_of(req).settings.scope.owner(req.scope["headers"], host_of(req.scope))


class Status:
    """GET /v2/systemsharedmemory[/region/<region>]/status, and /v2/cudasharedmemory..."""

    category = Category.SHARED_MEMORY

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def on_get(self, req: Request, resp: Response, region: str) -> None:
        found = shown_regions(self._memory.kind, context_of(req).catalog, _owner(req), region)
        send_json(resp, [self._memory.show(item) for item in found])


class Register:
    """POST /v2/systemsharedmemory/region/<region>/register, and /v2/cudasharedmemory..."""

    category = Category.SHARED_MEMORY

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def on_post(self, req: Request, resp: Response, region: str) -> None:
        _check_allowed(req)
        kind = self._memory.kind
        if not region:
            raise InvalidArgument(f"'region name' is necessary to register {kind.name} shared memory region")
        document = _object(json_text.parse(await read_body(req)))

        def fill(message: Any) -> None:
            message.name = region
            self._memory.read(document, message)

        await control(context_of(req).gateway, registration(kind, _owner(req), address_of(req.scope), fill))


class Unregister:
    """POST /v2/systemsharedmemory[/region/<region>]/unregister, and /v2/cudasharedmemory...; without a region, all."""

    category = Category.SHARED_MEMORY

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def on_post(self, req: Request, resp: Response, region: str) -> None:
        _check_allowed(req)
        await control(context_of(req).gateway, unregistration(self._memory.kind, _owner(req), region))


def _object(document: Any) -> dict[str, Any]:
    """What is no object has no members."""
    return document if type(document) is dict else {}


def _needed(document: dict[str, Any], name: str) -> Any:
    if name not in document:
        raise InvalidArgument(f"Shared memory register request has no '{name}' field")
    return document[name]


def _read_system(document: dict[str, Any], region: Any) -> None:
    region.key = json_values.as_string(_needed(document, "key"))
    region.offset = json_values.as_uint(document.get("offset", 0))
    region.byte_size = json_values.as_uint(_needed(document, "byte_size"))


def _read_cuda(document: dict[str, Any], region: Any) -> None:
    handle = json_values.as_string(json_values.member(_needed(document, "raw_handle"), "b64"))
    region.byte_size = json_values.as_uint(json_values.member(document, "byte_size"))
    device_id = json_values.as_uint(json_values.member(document, "device_id"))
    region.raw_handle = lenient_base64(handle)
    if len(region.raw_handle) != HANDLE_BYTE_SIZE:
        raise InvalidArgument("'raw_handle' must be a valid base64 encoded cudaIpcMemHandle_t")
    if device_id > MAX_DEVICE_ID:
        raise InvalidArgument("failed to register shared memory region: invalid args")
    region.device_id = device_id


def _show_system(region: Any) -> dict[str, Any]:
    return {"name": region.name, "key": region.key, "offset": region.offset, "byte_size": region.byte_size}


def _show_cuda(region: Any) -> dict[str, Any]:
    return {"name": region.name, "device_id": region.device_id, "byte_size": region.byte_size}


SYSTEM_MEMORY = Memory(SYSTEM, _read_system, _show_system)
CUDA_MEMORY = Memory(CUDA, _read_cuda, _show_cuda)
