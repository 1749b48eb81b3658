"""Whose regions a client sees: `--shm-scope`. Pure.

    global        one set of names for everybody, as in Triton
    header:NAME   the value of a header, or of gRPC metadata, is the owner; without it, the owner is ""
    peer          the address that the client connects from is the owner, whatever the port

An owner is a way to keep apart clients that do not mean to harm each other: a header is as good as whoever sets it (a
proxy that knows its users), and an address is shared by all who connect from it.
"""

import ipaddress
from collections.abc import Iterable
from enum import Enum
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from tensorhub.errors import InvalidArgument

LOCAL = "local"
"""The owner of all who connect over loopback or a Unix socket."""

MAX_OWNER_SIZE = 256
"""Bytes."""


class ScopeKind(Enum):
    """What tells owners apart; the value is the option's word."""

    GLOBAL = "global"
    HEADER = "header"
    PEER = "peer"


class Scope(NamedTuple):
    """A value of the option; `header` is in lower case."""

    kind: ScopeKind = ScopeKind.GLOBAL
    header: str = ""

    @property
    def divides(self) -> bool:
        """Whether there is more than one owner at all: if not, nobody need be asked."""
        return self.kind is not ScopeKind.GLOBAL

    def owner(self, headers: Iterable[tuple[object, object]], host: str) -> str:
        """Return the owner that a client is.

        Args:
            headers: names in lower case; names and values both bytes, or both text.
            host: the address that it connects from, without a port; "" for a Unix socket.

        Raises:
            InvalidArgument: the header is longer than an owner may be.
        """
        if self.kind is ScopeKind.GLOBAL:
            return ""
        if self.kind is ScopeKind.PEER:
            return _owner_of(host)
        raw = self.header.encode()
        for name, value in headers:
            if name in (self.header, raw):
                text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
                if len(text) > MAX_OWNER_SIZE:
                    raise InvalidArgument(
                        f"header '{self.header}' has {len(text)} characters; allowed are {MAX_OWNER_SIZE}"
                    )
                return text
        return ""


@lru_cache(maxsize=16)
def parse_scope(text: str) -> Scope:
    """Read the option.

    Raises:
        InvalidArgument: it is none of the three.
    """
    word, colon, header = text.partition(":")
    if word == ScopeKind.HEADER.value and header:
        return Scope(ScopeKind.HEADER, header.lower())
    if not colon and word in (ScopeKind.GLOBAL.value, ScopeKind.PEER.value):
        return Scope(ScopeKind(word))
    raise InvalidArgument(f"--shm-scope takes global, header:NAME or peer, got: {text}")


def grpc_host(peer: str) -> str:
    """Return the host of a client's address in gRPC's form; "" for a Unix socket."""
    kind, _, rest = peer.partition(":")
    return unquote(rest).rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else ""


def grpc_address(peer: str) -> str:
    """Return host:port of a client's address in gRPC's form; "" for a Unix socket."""
    kind, _, rest = peer.partition(":")
    return unquote(rest) if kind in ("ipv4", "ipv6") else ""


@lru_cache(maxsize=1024)
def _owner_of(host: str) -> str:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host if host else LOCAL
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return LOCAL if address.is_loopback else str(address)
