"""Who may register and unregister shared memory: --allow-client-shm. Pure.

What --http-restricted-api asks for is in `tensorhub.restrictions`.
"""

import ipaddress
from collections.abc import Mapping
from enum import Enum
from typing import Any

_PROXY_HEADERS = frozenset((b"forwarded", b"x-forwarded-for", b"x-real-ip"))


class ClientMemory(Enum):
    """Who may register shared memory; the values of --allow-client-shm."""

    NOBODY = "false"
    ANYBODY = "true"
    THIS_HOST = "auto"

    def allows(self, scope: Mapping[str, Any]) -> bool:
        """Whether the client of this ASGI scope may."""
        if self is ClientMemory.THIS_HOST:
            return is_on_this_host(scope)
        return self is ClientMemory.ANYBODY


def host_of(scope: Mapping[str, Any]) -> str:
    """Return the address that the client of an ASGI scope connects from, without a port; "" for a Unix socket."""
    client = scope.get("client")
    return str(client[0]) if client and client[0] else ""


def address_of(scope: Mapping[str, Any]) -> str:
    """Return host:port of a client; "" for a Unix socket, or if the port is not known."""
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client and client[0] and client[1] else ""


def is_on_this_host(scope: Mapping[str, Any]) -> bool:
    """Whether the peer of a connection runs on this host, as far as the connection can tell.

    True for a Unix socket, for a loopback address, and if both ends have one address. A request that came through a
    proxy says so in a header and is from elsewhere: then the connection tells only where the proxy is.
    """
    if any(name in _PROXY_HEADERS for name, _ in scope["headers"]):
        return False
    client = scope.get("client")
    if not client or not client[0]:
        return True
    try:
        address = ipaddress.ip_address(client[0].partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback:
        return True
    server = scope.get("server")
    return server is not None and server[0] == client[0]
