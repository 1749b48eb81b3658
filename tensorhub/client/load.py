"""Load on one address: N connections, each of which sends its request again when it has the answer.

One thread and a selector, over prepared bytes, so that what is measured is the server and not this client. HTTP/1.1
without encryption; an answer may be framed by Content-Length or in chunks, and is not looked into.
"""

import selectors
import socket
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tensorhub.client.http import Unreachable

_PIECE = 1 << 20
_TICK_S = 0.1
_MAX_HEAD = 64 * 1024
"""Bytes of an answer's status line and headers."""


class LoadResult(NamedTuple):
    """What one run has seen.

    Attributes:
        latencies_s: of the answers with status 200, sorted.
        errors: other statuses, and how many of each; over gRPC, names of codes.
        lost: connections that ended without an answer, or with one that is not HTTP.
        elapsed_s: from the first request to the last answer.
        client_s: processor time that this client took meanwhile.
    """

    latencies_s: list[float]
    errors: dict[int | str, int]
    lost: int
    elapsed_s: float
    client_s: float = 0.0

    @property
    def rate(self) -> float:
        """Good answers in a second."""
        return len(self.latencies_s) / self.elapsed_s if self.elapsed_s else 0.0

    def percentile_s(self, percent: float) -> float:
        """The latency that `percent` % of the good answers do not exceed; 0 if there are none."""
        if not self.latencies_s:
            return 0.0
        return self.latencies_s[min(len(self.latencies_s) - 1, int(len(self.latencies_s) * percent / 100))]


class AnswerReader:
    """Finds the end of an HTTP/1.1 answer in the pieces of it."""

    __slots__ = ("_buffer", "_chunked", "_remaining", "status")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._chunked = False
        self._remaining = -1
        self.status = 0

    def feed(self, data: bytes) -> bool:
        """Take a piece; True once the answer is complete.

        Raises:
            ValueError: these are not the bytes of an HTTP answer.
        """
        if not self.status or self._chunked:
            self._buffer += data
            if not self.status:
                end = self._buffer.find(b"\r\n\r\n")
                if end < 0:
                    if len(self._buffer) > _MAX_HEAD:
                        raise ValueError("a head without an end")
                    return False
                self._read_head(bytes(self._buffer[:end]))
                del self._buffer[: end + 4]
            if self._chunked:
                return self._skip_chunks()
            data = bytes(self._buffer)
            self._buffer.clear()
        self._remaining -= len(data)
        return self._remaining <= 0

    def _read_head(self, head: bytes) -> None:
        first, *lines = head.split(b"\r\n")
        version, status = first.split(b" ", 2)[:2]
        if not version.startswith(b"HTTP/1."):
            raise ValueError("not HTTP/1")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        self._chunked = fields.get(b"transfer-encoding", b"").lower() == b"chunked"
        self._remaining = int(fields.get(b"content-length", b"0"))
        self.status = int(status)

    def _skip_chunks(self) -> bool:
        while True:
            end = self._buffer.find(b"\r\n")
            if end < 0:
                return False
            size = int(bytes(self._buffer[:end]).partition(b";")[0], 16)
            if len(self._buffer) < end + 2 + size + 2:
                return False
            del self._buffer[: end + 2 + size + 2]
            if size == 0:
                return True


class _Connection:
    """One connection and the request that is under way on it."""

    __slots__ = ("began_s", "reader", "request", "socket", "unsent")

    def __init__(self, host: str, port: int, request: bytes, timeout_s: float) -> None:
        self.request = request
        self.socket = socket.create_connection((host, port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.reader = AnswerReader()
        self.began_s = 0.0
        self.unsent = memoryview(b"")


def run(
    address: tuple[str, int],
    requests: Sequence[bytes],
    seconds: float,
    *,
    timeout_s: float = 60.0,
    on_tick: Callable[[float], None] = lambda elapsed_s: None,
) -> LoadResult:
    """Keep all `requests` in flight for `seconds`, each on a connection of its own, then wait for the last answers.

    Args:
        requests: the bytes of whole HTTP/1.1 requests, one for each connection.
        timeout_s: of connecting, and for the last answers.
        on_tick: called about ten times a second with the seconds that have passed.

    Raises:
        Unreachable: a connection cannot be made, or nothing came back on any.
    """
    selector = selectors.DefaultSelector()
    open_connections: list[_Connection] = []
    try:
        for request in requests:
            open_connections.append(_Connection(*address, request, timeout_s))
        result = _drive(selector, open_connections, seconds, timeout_s, on_tick)
    except OSError as exc:
        raise Unreachable(f"no answer from {address[0]}:{address[1]}: {exc.strerror or exc}") from exc
    finally:
        for connection in open_connections:
            connection.socket.close()
        selector.close()
    if not result.latencies_s and not result.errors:
        raise Unreachable(f"{address[0]}:{address[1]} gave no answer to {len(requests)} requests")
    return result


def _drive(
    selector: selectors.BaseSelector,
    connections: list[_Connection],
    seconds: float,
    timeout_s: float,
    on_tick: Callable[[float], None],
) -> LoadResult:
    latencies_s: list[float] = []
    errors: dict[int | str, int] = {}
    lost = 0
    began_cpu_s = time.process_time()
    began_s = last_s = tick_s = time.perf_counter()
    for connection in connections:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        _send(selector, connection)
    waiting = len(connections)
    while waiting:
        ready = selector.select(_TICK_S)
        now_s = time.perf_counter()
        if now_s - tick_s >= _TICK_S:
            tick_s = now_s
            on_tick(now_s - began_s)
        if now_s - began_s > seconds + timeout_s:
            lost += waiting
            break
        for key, events in ready:
            connection = key.data
            if events & selectors.EVENT_WRITE:
                _send_rest(selector, connection)
            if not events & selectors.EVENT_READ:
                continue
            try:
                data = connection.socket.recv(_PIECE)
                done = connection.reader.feed(data) if data else None
            except BlockingIOError:
                continue
            except (ValueError, OSError):
                done = None
            if done is False:
                continue
            if done is None:
                lost += 1
            else:
                last_s = time.perf_counter()
                status = connection.reader.status
                if status == 200:
                    latencies_s.append(last_s - connection.began_s)
                else:
                    errors[status] = errors.get(status, 0) + 1
                if last_s - began_s < seconds:
                    _send(selector, connection)
                    continue
            selector.unregister(connection.socket)
            waiting -= 1
    latencies_s.sort()
    return LoadResult(latencies_s, errors, lost, last_s - began_s, time.process_time() - began_cpu_s)


def _send(selector: selectors.BaseSelector, connection: _Connection) -> None:
    connection.reader = AnswerReader()
    connection.began_s = time.perf_counter()
    connection.unsent = memoryview(connection.request)
    _send_rest(selector, connection)


def _send_rest(selector: selectors.BaseSelector, connection: _Connection) -> None:
    """Send what the socket takes; the rest when it takes more."""
    had_more = len(connection.unsent)
    try:
        sent = connection.socket.send(connection.unsent)
    except BlockingIOError:
        sent = 0
    except OSError:
        return  # reading finds out that it is closed
    connection.unsent = connection.unsent[sent:]
    more = len(connection.unsent) > 0
    if more or had_more != sent or selector.get_key(connection.socket).events != selectors.EVENT_READ:
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if more else 0)
        selector.modify(connection.socket, wanted, connection)
