"""Whether a port is free, asked before gRPC's core opens it: the core's own answer names no reason."""

import os
import socket

from tensorhub.grpc.engine import ListenError


def check_port(host: str, port: int, *, shared: bool) -> None:
    """Open the port for a moment.

    Args:
        shared: whether others may listen on it too, if they say so as well (SO_REUSEPORT).

    Raises:
        ListenError: it is taken, not allowed, or the address is not one of this host.
    """
    try:
        # As bytes: a text is encoded by rules for names in other alphabets, whose tables are 0.3 MB.
        name = host.encode() if host.isascii() else host
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as exc:
        raise ListenError(f"cannot listen on {host}: {exc.strerror}. Check --grpc-address") from exc
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as probe:
        # As servers do, so that connections of an earlier process that are still closing do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as exc:
            raise ListenError(
                f"cannot listen on {host} port {port}: {os.strerror(exc.errno or 0)}. Choose another with --grpc-port"
                + ("" if shared else ", or share it with --reuse-grpc-port=true in all processes")
            ) from exc
