"""The load generator: where answers end, and what it counts when a server misbehaves."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tensorhub.client.http import Unreachable
from tensorhub.client.load import AnswerReader, run

REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"

ANSWERS = {
    "length": GOOD,
    "no body": b"HTTP/1.1 204 No Content\r\n\r\n",
    "lower case": b"HTTP/1.1 503 x\r\ncontent-length:5\r\n\r\nabcde",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_ends_where_it_ends_however_it_comes(name: str) -> None:
    answer = ANSWERS[name]
    for size in (1, 2, 7, len(answer)):
        reader = AnswerReader()
        pieces = [answer[start : start + size] for start in range(0, len(answer), size)]
        assert [reader.feed(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        assert reader.status == int(answer.split()[1])


@pytest.mark.parametrize(
    "data", [b"SSH-2.0\r\n\r\n", b"HTTP/1.1 x OK\r\n\r\n", b"HTTP/1.1 200\r\ncontent-length: y\r\n\r\n"]
)
def test_what_is_no_answer(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        AnswerReader().feed(data)


def test_a_head_without_an_end() -> None:
    reader = AnswerReader()
    assert not reader.feed(b"HTTP/1.1 200 OK\r\n" + b"x" * 60_000)
    with pytest.raises(ValueError, match="without an end"):
        reader.feed(b"x" * 60_000)


@contextmanager
def serving(serve: Callable[[socket.socket], None]) -> Iterator[tuple[str, int]]:
    """A server that hands each connection to `serve`, on a thread of its own."""

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=guarded, args=(connection,)))
            threads[-1].start()

    def guarded(connection: socket.socket) -> None:
        with connection:
            try:
                serve(connection)
            except OSError:
                return

    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = threading.Thread(target=accept)
        acceptor.start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)
    acceptor.join()
    for thread in threads:
        thread.join()


def answering(*answers: bytes) -> Callable[[socket.socket], None]:
    """Answer every request with the next of `answers`, in turn; an empty one ends the connection."""

    def serve(connection: socket.socket) -> None:
        while True:
            for answer in answers:
                if not connection.recv(4096) or not answer:
                    return
                connection.sendall(answer)

    return serve


def test_good_and_bad_answers_are_counted_apart() -> None:
    ticks: list[float] = []
    with serving(answering(GOOD, ANSWERS["lower case"])) as address:
        result = run(address, [REQUEST] * 3, 1.0, on_tick=ticks.append)
    assert result.latencies_s == sorted(result.latencies_s)
    assert abs(len(result.latencies_s) - result.errors.get(503, 0)) <= 3
    assert result.lost == 0
    assert ticks
    assert result.rate > 0
    assert result.percentile_s(50) <= result.percentile_s(99) <= result.percentile_s(100) == result.latencies_s[-1]


def test_a_connection_that_ends_is_lost_and_the_others_go_on() -> None:
    first, ended = threading.Lock(), threading.Event()

    def serve(connection: socket.socket) -> None:
        if first.acquire(blocking=False):
            connection.recv(4096)
            connection.close()
            ended.set()
        elif ended.wait(60):
            answering(GOOD)(connection)

    with serving(serve) as address:
        result = run(address, [REQUEST] * 3, 1.0)
    assert result.lost == 1
    assert len(result.latencies_s) >= 2


def test_a_server_that_never_answers() -> None:
    done = threading.Event()

    def serve(connection: socket.socket) -> None:
        done.wait(60)

    with serving(serve) as address:
        with pytest.raises(Unreachable, match="no answer to 2 requests"):
            run(address, [REQUEST] * 2, 0.1, timeout_s=0.3)
        done.set()


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with pytest.raises(Unreachable, match="refused"):
        run(address, [REQUEST], 0.1)


def test_a_large_request_goes_out_in_pieces() -> None:
    body = bytes(5_000_000)
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    def serve(connection: socket.socket) -> None:
        while True:
            missing = len(request)
            while missing:
                data = connection.recv(min(missing, 1 << 16))
                if not data:
                    return
                missing -= len(data)
            connection.sendall(GOOD)

    with serving(serve) as address:
        result = run(address, [request] * 2, 0.3)
    assert len(result.latencies_s) >= 2
    assert not result.lost
