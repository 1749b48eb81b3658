"""Load over gRPC: N connections, each with a thread that sends its request again when it has the answer.

Requests are prepared bytes, and answers are not looked into. A blocking call is the cheapest that gRPC's Python has;
with many threads this client takes more of the processor than a server should, so results tell its share.
"""

import threading
import time
from collections.abc import Callable, Sequence

import grpc

from tensorhub.client import rpc
from tensorhub.client.http import Unreachable
from tensorhub.client.load import LoadResult

_TICK_S = 0.1
_GRACE_S = 5.0


def run(
    target: str,
    requests: Sequence[bytes],
    seconds: float,
    *,
    timeout_s: float = 60.0,
    on_tick: Callable[[float], None] = lambda elapsed_s: None,
) -> LoadResult:
    """Keep all `requests` in flight for `seconds`, each on a connection of its own, then wait for the last answers.

    Args:
        target: host:port.
        requests: serialised ModelInferRequests, one for each connection.
        timeout_s: of each call.
        on_tick: called about ten times a second with the seconds that have passed.

    Raises:
        Unreachable: nothing came back on any connection.
    """
    clients = [_Client(target, request, timeout_s) for request in requests]
    began_cpu_s = time.process_time()
    began_s = time.perf_counter()
    for client in clients:
        client.until_s = began_s + seconds
        client.thread.start()
    try:
        deadline_s = began_s + seconds + timeout_s + _GRACE_S
        for client in clients:
            while client.thread.is_alive() and time.perf_counter() < deadline_s:
                client.thread.join(_TICK_S)
                on_tick(time.perf_counter() - began_s)
    finally:
        for client in clients:
            client.until_s = 0.0
            client.channel.close()
        for client in clients:
            client.thread.join()
    spent_s = time.process_time() - began_cpu_s
    latencies_s = sorted(latency for client in clients for latency in client.latencies_s)
    errors: dict[int | str, int] = {}
    for client in clients:
        for name, number in client.errors.items():
            errors[name] = errors.get(name, 0) + number
    if not latencies_s and set(errors) <= {grpc.StatusCode.UNAVAILABLE.name}:
        raise Unreachable(f"{target} gave no answer to {len(requests)} requests")
    return LoadResult(latencies_s, errors, 0, max(client.last_s for client in clients) - began_s, spent_s)


class _Client:
    """One connection, its thread, and what it has seen."""

    def __init__(self, target: str, request: bytes, timeout_s: float) -> None:
        self.channel = rpc.open_channel(target)
        self.thread = threading.Thread(target=self._send, daemon=True)
        self.latencies_s: list[float] = []
        self.errors: dict[str, int] = {}
        self.until_s = 0.0
        self.last_s = time.perf_counter()
        self._request = request
        self._timeout_s = timeout_s

    def _send(self) -> None:
        call = rpc.method(self.channel, rpc.INFER)
        last_s = time.perf_counter()
        while True:
            try:
                call(self._request, timeout=self._timeout_s)
            except grpc.RpcError as exc:
                name = exc.code().name
                self.errors[name] = self.errors.get(name, 0) + 1
                now_s = time.perf_counter()
            except ValueError:
                return  # the channel was closed: the run is being given up
            else:
                now_s = time.perf_counter()
                self.latencies_s.append(now_s - last_s)
            last_s = self.last_s = now_s
            if now_s >= self.until_s:
                return
