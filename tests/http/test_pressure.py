"""Clients that do not read their answers, or send more than has been answered: nothing is mixed up, held or lost."""

import json
import threading
from collections.abc import Iterator

import pytest

from tensorhub.http.direct import MAX_REQUEST_SIZE
from tests.http.server import Server, gunicorn
from tests.http.test_direct import PLAIN, Peer, post
from tests.waiting import wait_until

_SMALL_BUFFERS = """
import socket
from tensorhub.http.gunicorn_conf import *

def when_ready(server):
    for listener in server.LISTENERS:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
"""
"""So that a few answers fill the way to a client who does not read."""

_COUNT = 28_000
_LARGE_ANSWER = post(
    "echo",
    json.dumps(
        {
            "inputs": [{"name": "IN", "datatype": "FP64", "shape": [_COUNT], "data": [1] * _COUNT}],
            "parameters": {"binary_data_output": True},
        },
        separators=(",", ":"),
    ).encode(),
)
"""Of four times the size of the request, which is small."""


def _large_error(name_size: int) -> bytes:
    return post(
        "echo", b'{"inputs":[{"name":"%b","datatype":"FP64","shape":[99999999],"data":[1]}]}' % (b"x" * name_size)
    )


_LARGE_ERROR = _large_error(MAX_REQUEST_SIZE - len(_large_error(0)) - len("6xxxx"))
"""As large as a small request can be; the error quotes the name, and is larger."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("pressure")
    config = folder / "small_buffers.py"
    config.write_text(_SMALL_BUFFERS)
    with gunicorn(folder, "-c", str(config)) as running:
        yield running


@pytest.fixture
def silent(server: Server) -> Iterator[Peer]:
    """A client that has a direct connection and little room for what it does not read."""
    with Peer(server, receive_buffer=4096) as connection:
        assert connection.ask(post("echo", PLAIN)).status == 200
        yield connection


@pytest.mark.parametrize("path", ["/v2/models/{}/infer", "/v2/models/{}/infer?the-long-way"])
def test_a_client_that_leaves_without_reading_frees_the_worker_s_memory(
    server: Server, silent: Peer, path: str
) -> None:
    silent.socket.sendall(_LARGE_ANSWER.replace(b"/v2/models/echo/infer", path.format("echo").encode()))
    # Each look is answered by the loop that writes: after these it would have written all that it could.
    wait_until(lambda: all(server.account()["unreleased"] == 1 for _ in range(5)), "the answer is stuck")
    silent.close()
    wait_until(lambda: server.account()["unreleased"] == 0, "the memory is free", account=server.account)


def test_answers_do_not_overtake_errors_that_are_stuck(server: Server, silent: Peer) -> None:
    rounds = 8

    def send() -> None:
        with Peer(server) as other:
            for number in range(rounds):
                for request in (_LARGE_ERROR, post("echo", PLAIN.replace(b'"7"', b'"%d"' % number))):
                    silent.socket.sendall(request)
                    other.ask(post("echo", PLAIN))  # the server has read what was sent, in a piece of its own

    sender = threading.Thread(target=send)
    sender.start()
    sender.join(2)  # it ends, or waits for answers to be read
    for number in range(rounds):
        error, answer = silent.read(), silent.read()
        assert (error.status, answer.status) == (400, 200)
        assert len(error.body) > MAX_REQUEST_SIZE
        assert json.loads(answer.body)["id"] == str(number)
    sender.join()


@pytest.mark.parametrize("size", [100, 20_000, 60_000, 300_000])
@pytest.mark.parametrize("path", ["/v2/models/{}/infer", "/v2/models/{}/generate"])
def test_as_many_requests_as_one_likes_are_sent_at_once(server: Server, size: int, path: str) -> None:
    filler = "x" * size
    requests = [
        post("echo", json.dumps({"id": str(number), "IN": 1, "inputs": [], "x": filler}).encode(), path=path)
        for number in range(20)
    ]
    with Peer(server) as peer:
        sender = threading.Thread(target=peer.socket.sendall, args=[b"".join(requests)])
        sender.start()
        statuses = [peer.read().status for _ in requests]
        sender.join()
    assert len(set(statuses)) == 1


def test_nothing_is_kept_of_connections_that_have_ended(server: Server) -> None:
    """Whether they asked nothing, a part of a request, a whole one that went the short way or the long way."""
    health = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    with Peer(server) as observer:

        def connections() -> int:
            answer = json.loads(observer.ask(post("protocols", b'{"inputs":[]}')).body)
            return int(answer["outputs"][0]["data"][0])

        wait_until(lambda: connections() == 1, "only we are there")
        for _ in range(5):
            for begun in (b"", health[:20], post("echo", PLAIN)[:-1]):
                with Peer(server) as connection:
                    connection.socket.sendall(begun)
            for whole in (health, post("echo", PLAIN), _LARGE_ANSWER):
                with Peer(server) as connection:
                    connection.ask(whole)
        wait_until(lambda: connections() == 1, "they are gone", account=connections)
