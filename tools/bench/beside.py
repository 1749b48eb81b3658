"""What else goes on while a workload is measured: another client's large requests, or connections that do nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from tools.bench import payloads
from tools.bench.errors import BenchError
from tools.bench.http_client import HttpClient, build
from tools.bench.measurements import Load
from tools.bench.servers import HOST, Server
from tools.bench.workloads import FP32_BYTES, MIB, Beside, Driver, Metric, Transport, Workload

IDLE_CONNECTIONS = 500
LARGE_BYTES = 16 * MIB

_HEALTH = f"GET /v2/health/live HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


@contextmanager
def company(beside: Beside, server: Server) -> Iterator[Callable[[Callable[[], Load]], Load]]:
    """Yield what makes a run in this company: it takes the run and returns what the run returns.

    Raises:
        BenchError: the server does not take part.
    """
    with ExitStack() as stack:
        if beside is Beside.IDLE_CONNECTIONS:
            for _ in range(IDLE_CONNECTIONS):
                # Each has been used once: a server may treat one that never said anything in another way.
                stack.enter_context(HttpClient(HOST, server.ports.http)).post(_HEALTH)
        if beside is Beside.LARGE_REQUESTS:
            client = stack.enter_context(HttpClient(HOST, server.ports.http))
            request = _large_request()
            client.post(request)
            yield lambda run: _beside_large(client, request, run)
        else:
            yield lambda run: run()


def _large_request() -> bytes:
    workload = Workload(
        "beside",
        "",
        "identity_fp32",
        Transport.HTTP_BINARY,
        Driver.LOOP,
        Metric("requests/s", True, 1),
        LARGE_BYTES // FP32_BYTES,
    )
    request = payloads.http_request(workload, payloads.tensors(workload))
    return build(HOST, request.path, request.headers, request.body)


def _beside_large(client: HttpClient, request: bytes, run: Callable[[], Load]) -> Load:
    """Send large requests one after the other for as long as `run` takes."""
    over = threading.Event()
    problems: list[Exception] = []

    def send() -> None:
        try:
            while not over.is_set():
                client.post(request)
        except (BenchError, OSError) as exc:
            problems.append(exc)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        load = run()
    finally:
        over.set()
        thread.join()
    if problems:
        raise BenchError(f"the client beside: {problems[0]}")
    return load
