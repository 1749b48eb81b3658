"""Shared memory regions: their status from the catalog; register and unregister by the hub, if this client may.

System and CUDA memory have three methods each, which differ in a few fields (`_KINDS`).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from tensorhub.errors import Unsupported
from tensorhub.frontend.catalog import Catalog
from tensorhub.frontend.port import GatewayPort
from tensorhub.frontend.registered import CUDA, SYSTEM, Kind, registration, shown_regions, unregistration
from tensorhub.grpc.answering import ByHub, FromCatalog
from tensorhub.grpc.engine import Call, StreamCall
from tensorhub.grpc.peers import is_on_this_host
from tensorhub.ownership import grpc_address, grpc_host
from tensorhub.protocol import messages
from tensorhub.protocol.sharing import DISABLED_TEXT


class _Fields(NamedTuple):
    """What a kind of memory has besides a name and a size; both functions copy from the first to the second message."""

    kind: Kind
    register: Callable[[Any, Any], None]
    show: Callable[[Any, Any], None]


def _copy_system(source: Any, target: Any) -> None:
    target.name, target.key = source.name, source.key
    target.offset, target.byte_size = source.offset, source.byte_size


def _show_cuda(region: Any, status: Any) -> None:
    status.name, status.device_id, status.byte_size = region.name, region.device_id, region.byte_size


def _register_cuda(request: Any, region: Any) -> None:
    _show_cuda(request, region)
    region.raw_handle = request.raw_handle


_KINDS: Mapping[str, _Fields] = {
    "System": _Fields(SYSTEM, _copy_system, _copy_system),
    "Cuda": _Fields(CUDA, _register_cuda, _show_cuda),
}


def shared_memory_methods(gateway: GatewayPort) -> dict[str, Callable[[Call, bytes], None]]:
    """Return what answers each method of shared memory, by the name of the method."""
    table: dict[str, Callable[[Call, bytes], None]] = {}
    for prefix, fields in _KINDS.items():
        name = f"{prefix}SharedMemory"
        table[f"{name}Status"] = _Status(gateway, fields, *_classes(f"{name}Status"))
        for suffix, control in (("Register", _registration), ("Unregister", _unregistration)):
            table[name + suffix] = _Operation(gateway, *_classes(name + suffix), partial(control, fields))
    return table


def _classes(method: str) -> tuple[Any, Any]:
    return messages.message_class(f"inference.{method}Request"), messages.message_class(f"inference.{method}Response")


def owner_of(call: Call | StreamCall, catalog: Catalog) -> str:
    """Return whose regions a call sees: --shm-scope.

    Raises:
        InvalidArgument: what it says of its owner is too long.
    """
    if not catalog.divided:
        return ""
    return catalog.scope.owner(((str(key), value) for key, value in call.metadata), grpc_host(call.peer))


def may_share(catalog: Catalog, peer: str) -> bool:
    """Whether a client may have shared memory: --allow-client-shm."""
    allowed = catalog.settings.get("allow-client-shm", "auto")
    return allowed == "true" or (allowed == "auto" and is_on_this_host(peer))


class _Status:
    """A method that is answered from the catalog, for each owner otherwise."""

    def __init__(self, gateway: GatewayPort, fields: _Fields, request_class: Any, response_class: Any) -> None:
        self._gateway = gateway
        self._fields = fields
        self._request_class = request_class
        self._response_class = response_class

    def __call__(self, call: Call, message: bytes) -> None:
        FromCatalog(self._gateway, self._request_class, partial(self._answer, call))(call, message)

    def _answer(self, call: Call, catalog: Catalog, request: Any) -> Any:
        catalog.check_connected()
        response = self._response_class()
        for region in shown_regions(self._fields.kind, catalog, owner_of(call, catalog), request.name):
            self._fields.show(region, response.regions[region.name])
        return response


class _Operation:
    """A method that the hub carries out, for each owner otherwise."""

    def __init__(
        self,
        gateway: GatewayPort,
        request_class: Any,
        response_class: Any,
        control: Callable[[Any, str, str], Any],
    ) -> None:
        """Answer.

        Args:
            control: makes the operation of the request, the owner and the client's address.
        """
        self._gateway = gateway
        self._request_class = request_class
        self._response_class = response_class
        self._control = control

    def __call__(self, call: Call, message: bytes) -> None:
        operation = partial(self._operation, call)
        ByHub(self._gateway, self._request_class, operation, self._conclude)(call, message)

    def _operation(self, call: Call, catalog: Catalog, request: Any, peer: str) -> Any:
        _check_allowed(catalog, peer)
        return self._control(request, owner_of(call, catalog), grpc_address(peer))

    def _conclude(self, request: Any, result: Any) -> Any:
        return self._response_class()


def _registration(fields: _Fields, request: Any, owner: str, peer: str) -> Any:
    return registration(fields.kind, owner, peer, partial(fields.register, request))


def _unregistration(fields: _Fields, request: Any, owner: str, peer: str) -> Any:
    return unregistration(fields.kind, owner, request.name)


def _check_allowed(catalog: Catalog, peer: str) -> None:
    """Whether the client may register and unregister: --allow-client-shm.

    Raises:
        Unsupported: nobody may, or only clients on this host, and this one is on another.
    """
    if not may_share(catalog, peer):
        raise Unsupported(DISABLED_TEXT)
