"""Who may do what: the one place that decides about every operation of the HTTP frontend. Pure.

`--http-restricted-api=<category>[,<category>...]:<key>=<value>` asks for a header; `--allow-client-shm` decides who may
register and unregister shared memory.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from tensorhub.errors import InvalidArgument

_PROXY_HEADERS = frozenset((b"forwarded", b"x-forwarded-for", b"x-real-ip"))


class Category(Enum):
    """What an operation belongs to; the value is the option's word for it."""

    HEALTH = "health"
    METADATA = "metadata"
    INFERENCE = "inference"
    SHARED_MEMORY = "shared-memory"
    MODEL_CONFIG = "model-config"
    MODEL_REPOSITORY = "model-repository"
    STATISTICS = "statistics"
    TRACE = "trace"
    LOGGING = "logging"


class Restrictions:
    """Which header each category needs; none by default."""

    __slots__ = ("_required",)

    def __init__(self, required: Mapping[Category, tuple[str, str]]) -> None:
        self._required = required

    def __repr__(self) -> str:
        return f"<Restrictions on {', '.join(category.value for category in self._required) or 'nothing'}>"

    @staticmethod
    def parse(text: str) -> "Restrictions":
        """Read the option's values, one a line.

        Raises:
            InvalidArgument: not `<category>[,<category>...]:<key>=<value>`, or a category is unknown or named twice.
        """
        required: dict[Category, tuple[str, str]] = {}
        for line in filter(None, map(str.strip, text.splitlines())):
            names, colon, rest = line.partition(":")
            key, equals, value = rest.partition("=")
            if not (names and colon and key and equals):
                raise InvalidArgument(
                    f"--http-restricted-api takes <category>[,<category>...]:<key>=<value>, got: {line}"
                )
            for name in names.split(","):
                try:
                    category = Category(name.strip())
                except ValueError:
                    known = ", ".join(item.value for item in Category)
                    raise InvalidArgument(f"unknown restricted api '{name}'; there are {known}") from None
                if category in required:
                    raise InvalidArgument(f"restricted api '{name}' can not be specified in multiple groups")
                required[category] = (key.strip().lower(), value.strip())
        return Restrictions(required)

    def denial(self, category: Category, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Return the text of the refusal, HTTP 403, or None if the operation is allowed."""
        required = self._required.get(category)
        if required is None:
            return None
        key, value = required
        expected = (key.encode(), value.encode())
        if any(header == expected for header in headers):
            return None
        return f"This API is restricted, expecting header '{key}'"


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
