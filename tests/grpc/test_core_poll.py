"""Finding where gRPC's core waits: a real server, and what looks like one."""

import os
import select
import socket
import threading
from collections import deque
from collections.abc import Iterator

import grpc
import pytest

from tensorhub.grpc import core_poll, reactor
from tensorhub.grpc.engine import Call, Endpoint, UnaryMethod

_METHOD = "/test.Test/Echo"


class Mail:
    """Answers that other threads have, read by whoever has the turn."""

    def __init__(self, *, can_be_waited_for: bool) -> None:
        self.readers: set[str] = set()
        self._waiting: deque[tuple[Call, bytes]] = deque()
        self._bell, self._rope = socket.socketpair()
        self._turn = threading.Lock()
        self._closing = False
        self._can_be_waited_for = can_be_waited_for
        self._thread = threading.Thread(target=self._read_for_ever, name="replies", daemon=True)
        self._thread.start()

    def answer_later(self, call: Call, message: bytes) -> None:
        def drop() -> None:
            self._waiting.append((call, message))
            self._rope.send(b"x")

        threading.Thread(target=drop).start()

    def _read_for_ever(self) -> None:
        while not self._closing:
            with select.epoll() as bell:
                bell.register(self._bell)
                bell.poll()
            self.hold()
            self.read()
            self.release()

    def close(self) -> None:
        self._closing = True
        self._rope.send(b"x")
        self._thread.join()
        self._bell.close()
        self._rope.close()

    @property
    def fd(self) -> int | None:
        return self._bell.fileno() if self._can_be_waited_for else None

    def hold(self) -> None:
        self._turn.acquire()

    def release(self) -> None:
        self._turn.release()

    def send(self) -> None:
        pass

    def read(self) -> None:
        self._bell.setblocking(False)
        try:
            self._bell.recv(100)
        except BlockingIOError:
            return
        self.readers.add(threading.current_thread().name)
        while self._waiting:
            call, message = self._waiting.popleft()
            call.reply(message)


@pytest.fixture(params=[True, False], ids=["waits for both", "leaves the mail to its thread"])
def mail(request: pytest.FixtureRequest) -> Iterator[Mail]:
    mail = Mail(can_be_waited_for=request.param)
    yield mail
    mail.close()


@pytest.fixture
def port(mail: Mail) -> Iterator[int]:
    engine = reactor.ReactorEngine({_METHOD: UnaryMethod(mail.answer_later)}, Endpoint("127.0.0.1:0"), mail)
    yield engine.start()
    engine.stop(1)


def test_the_core_waits_for_its_port_in_an_epoll_set(port: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert all(core_poll.find(port) is not None for _ in range(30))
    assert len(os.listdir("/proc/self/fd")) < before + 30  # the core may open one or the other by itself


def test_a_port_that_is_in_no_epoll_set_is_not_found() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        assert core_poll.find(listener.getsockname()[1]) is None
        listener.listen()
        assert core_poll.find(listener.getsockname()[1]) is None
        with select.epoll() as ours:
            ours.register(listener)
            assert core_poll.find(listener.getsockname()[1]) == ours.fileno()


def test_every_call_is_answered_whoever_reads_the_mail(port: int, mail: Mail) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        method = channel.unary_unary(_METHOD)
        # Few, one after the other: a client in the same process takes the core's events away from the loop.
        for number in range(20):
            assert method(str(number).encode(), timeout=20) == str(number).encode()
        together = [method.future(str(number).encode(), timeout=20) for number in range(500)]
        assert [call.result() for call in together] == [str(number).encode() for number in range(500)]
    if mail.fd is not None:
        assert "grpc-loop" in mail.readers
