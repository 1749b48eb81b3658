"""Small infer calls that pass by ASGI: the same answers, and nothing held when a connection ends or goes on."""

import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.http.server import CONFIG, Server, gunicorn
from tests.waiting import wait_until

TENSOR = {"name": "IN", "datatype": "INT32", "shape": [2], "data": [1, 2]}
PLAIN = json.dumps({"id": "7", "inputs": [TENSOR]}).encode()
BINARY_HEAD = json.dumps(
    {
        "inputs": [{"name": "IN", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}],
        "parameters": {"binary_data_output": True},
    }
).encode()
BINARY = BINARY_HEAD + struct.pack("<2f", 1, 2)


class Reply(NamedTuple):
    """What a client sees."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def was_direct(self) -> bool:
        """Gunicorn names itself in what it answers."""
        return b"server" not in self.headers


class Peer:
    """A connection on which bytes are sent as they are."""

    def __init__(self, server: Server, receive_buffer: int = 0) -> None:
        self.socket: socket.socket = server.connect(receive_buffer)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self.socket.makefile("rb")

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; what has come and was not read is lost."""
        self._stream.close()
        self.socket.close()

    def read(self) -> Reply:
        """Read one answer."""
        status = int(self._stream.readline().split()[1])
        headers: dict[bytes, bytes] = {}
        while (line := self._stream.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        return Reply(status, headers, self._stream.read(int(headers[b"content-length"])))

    def ask(self, data: bytes) -> Reply:
        """Send a request in one piece and read the answer."""
        self.socket.sendall(data)
        return self.read()

    def at_end(self) -> bool:
        """Wait for the server to close the connection."""
        return self._stream.read() == b""


def post(model: str, body: bytes, *headers: str, path: str = "/v2/models/{}/infer") -> bytes:
    lines = [f"POST {path.format(model)} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def binary(size: int | str = len(BINARY_HEAD)) -> str:
    return f"Inference-Header-Content-Length: {size}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with gunicorn(tmp_path_factory.mktemp("direct"), "-c", str(CONFIG)) as running:
        yield running


@pytest.fixture
def peer(server: Server) -> Iterator[Peer]:
    with Peer(server) as connection:
        assert connection.ask(post("echo", PLAIN)).status == 200
        yield connection


SAME = {
    "json": post("echo", PLAIN),
    "binary": post("echo", BINARY, binary()),
    "version": post("echo", PLAIN, path="/v2/models/{}/versions/1/infer"),
    "unknown version": post("echo", PLAIN, path="/v2/models/{}/versions/9/infer"),
    "huge version": post("echo", PLAIN, path="/v2/models/{}/versions/" + "9" * 30 + "/infer"),
    "unknown model": post("nobody", PLAIN),
    "empty body": post("echo", b""),
    "no json": post("echo", b"{"),
    "no inputs": post("echo", b"{}"),
    "a list": post("echo", b"[]"),
    "header length too large": post("echo", BINARY, binary(len(BINARY) + 1)),
    "header length negative": post("echo", BINARY, binary(-1)),
    "header length no number": post("echo", BINARY, binary("x")),
    "binary size too large": post("echo", BINARY[:-1], binary()),
    "raw, which needs one input": post("echo", bytes(8), binary(0)),
    "model fails": post("failing", PLAIN),
    "answers twice": post("twice", PLAIN),
    "answers nothing": post("nothing", PLAIN),
    "decoupled": post("decoupled", PLAIN),
    "custom parameters": post("echo", json.dumps({"parameters": {"a": 1}, "inputs": [TENSOR]}).encode()),
    "reserved parameters": post("echo", json.dumps({"parameters": {"triton_x": 1}, "inputs": [TENSOR]}).encode()),
}


@pytest.mark.parametrize("name", SAME)
def test_the_answer_is_that_of_the_long_way(peer: Peer, name: str) -> None:
    direct = peer.ask(SAME[name])
    long = peer.ask(SAME[name].replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
    assert direct.was_direct
    assert not long.was_direct
    assert (direct.status, direct.body) == (long.status, long.body)
    for header in (b"content-type", b"inference-header-content-length"):
        assert direct.headers.get(header) == long.headers.get(header)
    assert b"date" in direct.headers


LONG_WAY = {
    "compressed": post("echo", PLAIN, "Content-Encoding: gzip"),
    "wants compression": post("echo", PLAIN, "Accept-Encoding: gzip"),
    "chunked": b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"%x\r\n%b\r\n0\r\n\r\n" % (len(PLAIN), PLAIN),
    "expects": post("echo", PLAIN, "Expect: nothing"),
    "another path": post("echo", PLAIN, path="/v2/models/{}/generate"),
    "query": post("echo", PLAIN, path="/v2/models/{}?x"),
}


@pytest.mark.parametrize("name", LONG_WAY)
def test_what_is_not_plain_goes_the_long_way(peer: Peer, name: str) -> None:
    assert not peer.ask(LONG_WAY[name]).was_direct
    assert peer.ask(post("echo", PLAIN)).was_direct


def test_a_request_in_two_pieces_goes_the_long_way(peer: Peer) -> None:
    whole = post("echo", PLAIN)
    for cut in (4, len(whole) - len(PLAIN) - 2, len(whole) - 1):
        peer.socket.sendall(whole[:cut])
        assert peer.ask(whole[cut:]).status == 200
    assert peer.ask(whole).was_direct


def test_a_request_inside_of_a_body_is_not_seen(peer: Peer) -> None:
    # The second piece is a whole request by its looks, and is the body of the first, however the two arrive.
    inner = post("echo", PLAIN)
    outer = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(inner)
    for _ in range(50):
        peer.socket.sendall(outer)
        assert b"failed to parse" in peer.ask(inner).body
        assert json.loads(peer.ask(inner).body)["id"] == "7"


def test_pipelined_requests_are_answered_in_order(peer: Peer) -> None:
    for round_number in range(100):
        requests = [
            post("echo", json.dumps({"id": f"{round_number}-{index}", "inputs": [TENSOR]}).encode())
            for index in range(4)
        ]
        if round_number % 2:
            peer.socket.sendall(b"".join(requests))
        else:
            for request in requests:
                peer.socket.sendall(request)
        assert [json.loads(peer.read().body)["id"] for _ in requests] == [f"{round_number}-{i}" for i in range(4)]


def test_a_large_answer_to_a_small_request(server: Server, peer: Peer) -> None:
    count = 20_000
    text = json.dumps(
        {
            "inputs": [{"name": "IN", "datatype": "FP64", "shape": [count], "data": [1] * count}],
            "parameters": {"binary_data_output": True},
        },
        separators=(",", ":"),
    ).encode()
    for _ in range(5):
        reply = peer.ask(post("echo", text))
        assert reply.was_direct
        head_size = int(reply.headers[b"inference-header-content-length"])
        assert reply.body[head_size:] == struct.pack("<d", 1) * count
    assert server.account()["reservations"] == 0


def test_a_client_that_leaves_has_its_request_cancelled(server: Server) -> None:
    before = server.account()["cancelled"]
    for _ in range(20):
        with Peer(server) as leaving:
            assert leaving.ask(post("echo", PLAIN)).status == 200
            leaving.socket.sendall(post("slow", PLAIN))
    wait_until(lambda: server.account()["cancelled"] == before + 20)
    assert server.account()["in_flight"] == 0


def test_an_idle_connection_is_closed(tmp_path: Path) -> None:
    with gunicorn(tmp_path, "-c", str(CONFIG), "--keep-alive", "1") as server, Peer(server) as idle:
        for _ in range(3):
            assert idle.ask(post("echo", PLAIN)).status == 200
        assert idle.at_end()


def test_a_worker_ends_after_its_last_request(tmp_path: Path) -> None:
    with gunicorn(tmp_path, "-c", str(CONFIG), "--max-requests", "20") as server, Peer(server) as last:
        answered = 0
        while True:
            last.socket.sendall(post("echo", PLAIN))
            try:
                assert last.read().status == 200
            except (IndexError, ConnectionError):
                break
            answered += 1
        assert 10 < answered <= 20
        wait_until(lambda: _is_back(server))


def _is_back(server: Server) -> bool:
    try:
        with Peer(server) as fresh:
            return fresh.ask(post("echo", PLAIN)).status == 200
    except (IndexError, ConnectionError):
        return False


def test_with_an_access_log_every_request_is_in_it(tmp_path: Path) -> None:
    log = tmp_path / "access"
    with gunicorn(tmp_path, "-c", str(CONFIG), "--access-logfile", str(log)) as server, Peer(server) as logged:
        for _ in range(5):
            assert not logged.ask(post("echo", PLAIN)).was_direct
        wait_until(lambda: log.read_text().count("/v2/models/echo/infer") == 5)


def test_connections_end_with_the_server(tmp_path: Path) -> None:
    with gunicorn(tmp_path, "-c", str(CONFIG), TENSORHUB_EXIT_TIMEOUT="60") as server, Peer(server) as idle:
        for _ in range(2):
            assert idle.ask(post("echo", PLAIN)).status == 200
        assert server.stop() == 0
        assert idle.at_end()
