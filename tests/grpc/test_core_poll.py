"""Finding where gRPC's core waits: a real server, and what looks like one."""

import itertools
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from tensorhub.grpc import core_poll, reactor
from tensorhub.grpc.engine import Endpoint, UnaryMethod

from .mail_server import METHOD, Mail

ROOT = Path(__file__).parents[2]

_CALLS = f"""
import sys, grpc
with grpc.insecure_channel("127.0.0.1:" + sys.argv[1]) as channel:
    method = channel.unary_unary("{METHOD}")
    for _ in range(int(sys.argv[2])):
        assert method(b"x", timeout=60) == b"x"
"""
"""A client for itself: one in the same process takes the core's events away from the loop."""


@pytest.fixture(params=[True, False], ids=["waits for both", "leaves the mail to its thread"])
def mail(request: pytest.FixtureRequest) -> Iterator[Mail]:
    mail = Mail(can_be_waited_for=request.param)
    yield mail
    mail.close()


@pytest.fixture
def port(mail: Mail) -> Iterator[int]:
    engine = reactor.ReactorEngine({METHOD: UnaryMethod(mail.answer_later)}, Endpoint("127.0.0.1:0"), mail)
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
        method = channel.unary_unary(METHOD)
        # Few, one after the other: a client in the same process takes the core's events away from the loop.
        for number in range(20):
            assert method(str(number).encode(), timeout=60) == str(number).encode()
        together = [method.future(str(number).encode(), timeout=60) for number in range(500)]
        assert [call.result() for call in together] == [str(number).encode() for number in range(500)]
    if mail.fd is not None:
        assert "grpc-loop" in mail.readers


def test_many_calls_in_one_read_need_no_look() -> None:
    command = [sys.executable, "-m", "tests.grpc.mail_server"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with closing(_Http2Client(int(process.stdout.readline()))) as client:
                assert client.call(100) == 100
                for interval in ("WATCH_AFTER_S", "_FIRST_LOOK_S", "_UNNOTICED_S", "_IDLE_S"):
                    print(f"{interval}=1000000", file=process.stdin, flush=True)
                    process.stdout.readline()
                assert [client.call(100) for _ in range(20)] == [100] * 20
        finally:
            process.kill()


@pytest.mark.parametrize("mail", [True], indirect=True)
def test_where_other_threads_poll_the_loop_waits_inside_of_the_core(
    monkeypatch: pytest.MonkeyPatch, mail: Mail, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(reactor, "_OTHERS_POLL", 1)
    served = reactor.ReactorEngine({METHOD: UnaryMethod(mail.answer_later)}, Endpoint("127.0.0.1:0"), mail)
    port = served.start()
    try:
        # This process has let the core have its way, which in this grpcio is to poll on threads of its own.
        _send_calls(port, 40)
        assert "polls its sockets on threads of its own" in caplog.text
        assert served._both is None
        _send_calls(port, 40)
    finally:
        served.stop(1)


def _send_calls(port: int, count: int) -> None:
    subprocess.run([sys.executable, "-c", _CALLS, str(port), str(count)], check=True, timeout=120)


class _Http2Client:
    """Sends many calls with one write, as a client with as many in progress does.

    HTTP/2 (RFC 9113), with headers without Huffman codes and tables.
    """

    def __init__(self, port: int) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._frames = self._connection.makefile("rb")
        self._connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, b""))
        self._streams = itertools.count(1, 2)

    def close(self) -> None:
        self._frames.close()
        self._connection.close()

    def call(self, count: int) -> int:
        """Return how many of so many calls have been answered; raises TimeoutError if one is not."""
        calls = [
            _frame(_HEADERS, _END_HEADERS, stream, _FIELDS) + _frame(_DATA, _END_STREAM, stream, bytes(5))
            for stream in itertools.islice(self._streams, count)
        ]
        self._connection.sendall(b"".join(calls))
        ended = 0
        while ended < count:
            kind, flags, payload = self._read_frame()
            ended += kind == _HEADERS and flags & _END_STREAM != 0
            if kind == _PING and not flags & _ACK:
                self._connection.sendall(_frame(_PING, _ACK, 0, payload))
        return ended

    def _read_frame(self) -> tuple[int, int, bytes]:
        """Return kind, flags and payload."""
        head = self._frames.read(9)
        return head[3], head[4], self._frames.read(int.from_bytes(head[:3], "big"))


_DATA, _HEADERS, _SETTINGS, _PING = 0, 1, 4, 6
_ACK = _END_STREAM = 1
_END_HEADERS = 4
_FIELDS = b"".join(
    bytes((0, len(name))) + name.encode() + bytes((len(value),)) + value.encode()
    for name, value in (
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "test"),
        (":path", METHOD),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    )
)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
