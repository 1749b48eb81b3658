"""Where a client is, from the address that gRPC gives for it."""

import ipaddress
import socket
from collections.abc import Callable
from urllib.parse import unquote


def is_on_this_host(peer: str, is_own: Callable[[str], bool] | None = None) -> bool:
    """Whether a client runs on this host, as far as its connection tells.

    Args:
        peer: in gRPC's form: ipv4:127.0.0.1:4711, ipv6:%5B::1%5D:4711, unix:/path.
        is_own: whether an IP address is one of this host's.

    True for a Unix socket, a loopback address, and an address of this host's own. A proxy on this host looks like a
    client on this host.
    """
    kind, _, rest = peer.partition(":")
    if kind in ("unix", "unix-abstract"):
        return True
    if kind not in ("ipv4", "ipv6"):
        return False
    host = unquote(rest).rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or (is_own or is_own_address)(str(address))


def is_own_address(address: str) -> bool:
    """Whether an IP address belongs to an interface of this host: the kernel lets a socket bind to those only."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
