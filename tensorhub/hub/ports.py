"""The addresses of a server, and whether they are free. Opens sockets, for a moment."""

import os
import socket
from contextlib import ExitStack

from tensorhub.settings import Settings, metrics_address


class StartError(Exception):
    """The server cannot be started; the message is one line."""


def check_ports(settings: Settings) -> None:
    """Check that nobody listens on the ports that the server is to have.

    Raises:
        StartError: a port is taken or not allowed, or the address is not one of this host.
    """
    checks: list[tuple[str, int, bool, str]] = []
    http, grpc = settings.http, settings.grpc
    if http.allow_http and not http.http_address.startswith("unix:"):
        checks.append((http.http_address, http.http_port, http.reuse_http_port, "http"))
    checks += [(hosted_address(settings), port, False, word) for _, word, port in hosted_endpoints(settings)]
    if grpc.allow_grpc:
        checks.append((grpc.grpc_address, grpc.grpc_port, grpc.reuse_grpc_port, "grpc"))
    if settings.metrics.allow_metrics:
        checks.append((metrics_address(settings), settings.metrics.metrics_port, False, "metrics"))
    with ExitStack() as held:
        for address, port, shared, service in checks:
            _check_port(held, address, port, shared=shared, service=service)


def _check_port(held: ExitStack, address: str, port: int, *, shared: bool, service: str) -> None:
    """Open a port until `held` is closed: two services of one server must not have the same port either."""
    place = f"{joined(address, port)} (--{service}-port)"
    host = address.strip("[]")
    try:
        # As bytes: a text is encoded by rules for names in other alphabets, whose tables are 0.3 MB.
        name = host.encode() if host.isascii() else host
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as exc:
        reason = exc.strerror or exc
        raise StartError(f"cannot listen: {reason}: {joined(address, port)} (--{service}-address)") from exc
    family, kind, protocol, _, target = found[0]
    probe = held.enter_context(socket.socket(family, kind, protocol))
    # As servers do, so that connections of an earlier process that are still closing do not count.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        probe.bind(target)
        probe.listen(1)
    except OSError as exc:
        raise StartError(f"cannot listen: {os.strerror(exc.errno or 0).lower()}: {place}") from exc


def http_address(settings: Settings) -> str:
    """Return where HTTP is served, as a person would write it."""
    address = settings.http.http_address
    return address if address.startswith("unix:") else joined(address, settings.http.http_port)


def hosted_address(settings: Settings) -> str:
    """Return where the endpoints of hosting services listen: where HTTP does, unless that is no address."""
    address = settings.http.http_address
    return "0.0.0.0" if address.startswith("unix:") else address


def hosted_endpoints(settings: Settings) -> list[tuple[str, str, int]]:
    """Return the endpoints of hosting services that are on: name, the options' word for it, port."""
    sagemaker, vertex_ai = settings.sagemaker, settings.vertex_ai
    found = []
    if sagemaker.allow_sagemaker:
        found.append(("SageMaker", "sagemaker", sagemaker.sagemaker_port))
    if vertex_ai.allow_vertex_ai:
        found.append(("Vertex AI", "vertex-ai", vertex_ai.vertex_ai_port))
    return found


def joined(address: str, port: int) -> str:
    """Return host and port as one text; a host of IPv6 gets its brackets."""
    bare = address.strip("[]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"
