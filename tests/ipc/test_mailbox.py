"""Mailboxes and the two ways to send to them, over real sockets, and beside ZeroMQ's own library."""

import errno
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import zmq

from tensorhub.ipc import zmtp
from tensorhub.ipc.hub_line import HubLine
from tensorhub.ipc.mailbox import Mailbox
from tensorhub.ipc.outbox import QUEUE_LIMIT, Outbox, PeerFull
from tests.shortage import no_descriptors

WAIT_MS = 60_000
WAKE = b"wake"


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side has closed it, with or without having read everything."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[Mailbox]:
    mailbox = Mailbox(tmp_path / "a.sock", WAKE)
    yield mailbox
    mailbox.close()
    assert not mailbox.path.exists()


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    outbox = Outbox()
    yield outbox
    outbox.close()


def test_frames_arrive_in_order(mailbox: Mailbox, outbox: Outbox) -> None:
    frames = [b"", b"x", bytes(255), bytes(256), bytes(1 << 20)] + [str(number).encode() for number in range(100)]
    for frame in frames:
        outbox.send(mailbox.path, frame)
    assert [mailbox.receive(WAIT_MS) for _ in frames] == frames
    assert mailbox.receive_nowait() is None
    assert mailbox.receive(1) is None


def test_waiting_until_a_time(mailbox: Mailbox, outbox: Outbox) -> None:
    began_ns = time.monotonic_ns()
    assert mailbox.receive_until(began_ns + 3_000_000) is None
    assert time.monotonic_ns() >= began_ns + 3_000_000
    assert mailbox.receive_until(began_ns) is None, "that time is over"
    outbox.send(mailbox.path, b"a", b"b")
    later_ns = time.monotonic_ns() + WAIT_MS * 1_000_000
    assert [mailbox.receive_until(later_ns), mailbox.receive_until(later_ns)] == [b"a", b"b"]


def test_frames_of_one_send_arrive_together(mailbox: Mailbox, outbox: Outbox) -> None:
    outbox.send(mailbox.path, b"first")
    assert mailbox.receive(WAIT_MS) == b"first"
    outbox.send(mailbox.path, b"a", b"b", bytes(300))
    assert mailbox.receive(WAIT_MS) == b"a"
    assert [mailbox.receive_nowait(), mailbox.receive_nowait(), mailbox.receive_nowait()] == [b"b", bytes(300), None]


def test_any_zeromq_program_can_send(mailbox: Mailbox) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.PUSH)
    socket.connect(f"ipc://{mailbox.path}")
    frames = [b"", b"x", bytes(1 << 20), b"last"]
    for frame in frames:
        socket.send(frame)
    assert [mailbox.receive(WAIT_MS) for _ in frames] == frames
    socket.close()
    context.term()


def test_any_zeromq_program_can_receive(tmp_path: Path, outbox: Outbox) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.PULL)
    socket.setsockopt(zmq.RCVTIMEO, WAIT_MS)
    socket.bind(f"ipc://{tmp_path / 'z.sock'}")
    frames = [b"", b"x", bytes(1 << 20), b"last"]
    for frame in frames:
        outbox.send(tmp_path / "z.sock", frame)
    assert [socket.recv() for _ in frames] == frames
    socket.close()
    context.term()


def test_mail_for_the_hub_waits_until_it_is_there(tmp_path: Path) -> None:
    line = HubLine(tmp_path / "hub.sock")
    line.send(b"early")
    hub = Mailbox(tmp_path / "hub.sock", WAKE)
    assert hub.receive(WAIT_MS) == b"early"
    hub.close()
    line.forget()
    line.send(b"for the next")
    hub = Mailbox(tmp_path / "hub.sock", WAKE)
    assert hub.receive(WAIT_MS) == b"for the next"
    line.close()
    line.send(b"late")
    assert hub.receive_nowait() is None
    hub.close()


def test_the_way_to_a_hub_that_never_comes_is_full_one_day(tmp_path: Path) -> None:
    line = HubLine(tmp_path / "hub.sock")
    for _ in range(QUEUE_LIMIT):
        line.send(b"x")
    with pytest.raises(PeerFull, match=r"^hub.sock$"):
        line.send(b"x")
    line.forget()
    line.send(b"new")
    line.forget()
    line.close()


def test_a_peer_that_takes_nothing_is_full_and_can_be_forgotten(mailbox: Mailbox, outbox: Outbox) -> None:
    outbox.send(mailbox.path, b"first")
    assert mailbox.receive(WAIT_MS) == b"first"
    outbox.send(mailbox.path, bytes(1 << 20))  # more than a connection holds
    for _ in range(QUEUE_LIMIT - 1):
        outbox.send(mailbox.path, b"x")
    with pytest.raises(PeerFull, match=r"^a.sock$"):
        outbox.send(mailbox.path, b"x")
    outbox.forget(mailbox.path)
    outbox.forget(mailbox.path)
    outbox.send(mailbox.path, b"new")
    assert mailbox.receive(WAIT_MS) == b"new"  # and none of those before, of which the first had not wholly left


def test_what_waits_leaves_in_order_as_the_peer_reads(mailbox: Mailbox, outbox: Outbox) -> None:
    frames = [number.to_bytes(4, "big") * 250 for number in range(3_000)]  # far more than a connection holds
    for frame in frames:
        outbox.send(mailbox.path, frame)
    assert [mailbox.receive(WAIT_MS) for _ in frames] == frames
    outbox.send(mailbox.path, b"direct again")
    assert mailbox.receive(WAIT_MS) == b"direct again"


def test_what_waits_may_leave_while_the_outbox_closes(mailbox: Mailbox) -> None:
    outbox = Outbox()
    frames = [number.to_bytes(4, "big") * 250 for number in range(1_000)]
    for frame in frames:
        outbox.send(mailbox.path, frame)
    closing = threading.Thread(target=outbox.close)
    closing.start()
    assert [mailbox.receive(WAIT_MS) for _ in frames] == frames
    closing.join()


def test_a_peer_that_is_gone_takes_nothing_and_harms_nobody(tmp_path: Path, outbox: Outbox) -> None:
    path = tmp_path / "gone.sock"
    outbox.send(path, b"to nobody")
    mailbox = Mailbox(path, WAKE)
    outbox.send(path, b"x")
    assert mailbox.receive(WAIT_MS) == b"x"
    mailbox.close()
    outbox.send(path, b"to the dead")
    outbox.send(path, bytes(1 << 20))
    outbox.forget(path)


def test_a_successor_on_the_same_path_takes_the_place_of_the_dead(tmp_path: Path, outbox: Outbox) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    mailbox = Mailbox(path, WAKE)
    outbox.send(path, b"x")
    assert mailbox.receive(WAIT_MS) == b"x"
    mailbox.close()


def test_a_mailbox_that_is_opened_again_gets_its_mail(tmp_path: Path, outbox: Outbox) -> None:
    path = tmp_path / "a.sock"
    for text in (b"first life", b"second life"):
        mailbox = Mailbox(path, WAKE)
        outbox.send(path, text)
        assert mailbox.receive(WAIT_MS) == text
        mailbox.close()


def test_many_threads_share_an_outbox(mailbox: Mailbox, outbox: Outbox) -> None:
    def send(sender: int) -> None:
        for number in range(200):
            outbox.send(mailbox.path, bytes((sender, number)) * (sender * 500 + 1))

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(4)]
    for thread in threads:
        thread.start()
    got = [mailbox.receive(WAIT_MS) for _ in range(800)]
    for thread in threads:
        thread.join()
    for sender in range(4):
        assert [frame[1] for frame in got if frame is not None and frame[0] == sender] == list(range(200))


def test_a_reader_that_waits_is_woken(mailbox: Mailbox) -> None:
    waking = threading.Timer(0.01, mailbox.wake)
    waking.start()
    assert mailbox.receive(WAIT_MS) == WAKE
    mailbox.wake()
    mailbox.wake()
    assert mailbox.receive_nowait() == WAKE
    assert mailbox.receive_nowait() is None


def test_connections_wait_while_there_are_no_descriptors(mailbox: Mailbox, outbox: Outbox) -> None:
    outbox.send(mailbox.path, b"x")
    with no_descriptors():
        assert mailbox.receive(50) is None
    assert mailbox.receive(WAIT_MS) == b"x"


def test_mail_waits_while_there_is_no_descriptor_for_a_connection(mailbox: Mailbox, outbox: Outbox) -> None:
    outbox.send(mailbox.path.with_name("nobody.sock"), b"to nobody")
    frames = [b"a", b"b", bytes(1 << 20)]
    with no_descriptors():
        for frame in frames:
            outbox.send(mailbox.path, frame)
        assert mailbox.receive(50) is None
    assert [mailbox.receive(WAIT_MS) for _ in frames] == frames
    with no_descriptors():
        outbox.send(mailbox.path, b"directly")
        assert mailbox.receive(WAIT_MS) == b"directly"


def test_what_waits_for_a_descriptor_is_forgotten_with_its_peer(mailbox: Mailbox, outbox: Outbox) -> None:
    outbox.send(mailbox.path.with_name("nobody.sock"), b"to nobody")
    with no_descriptors():
        outbox.send(mailbox.path, b"lost")
        outbox.forget(mailbox.path)
    outbox.send(mailbox.path, b"new")
    assert mailbox.receive(WAIT_MS) == b"new"
    assert mailbox.receive(0) is None


def test_who_cannot_even_begin_to_send_says_so(mailbox: Mailbox, outbox: Outbox) -> None:
    with no_descriptors(), pytest.raises(PeerFull, match=r"^a.sock$"):
        outbox.send(mailbox.path, b"x")
    outbox.send(mailbox.path, b"y")
    assert mailbox.receive(WAIT_MS) == b"y"


def test_a_peer_that_too_many_want_to_talk_to_gets_its_mail_later(tmp_path: Path, outbox: Outbox) -> None:
    path = tmp_path / "busy.sock"
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as others:
        listener.bind(str(path))
        listener.listen(0)
        full = False
        while not full:
            other = others.enter_context(socket.socket(socket.AF_UNIX))
            other.setblocking(False)
            full = other.connect_ex(str(path)) == errno.EAGAIN
        outbox.send(path, b"x")
        mailbox = Mailbox(path, WAKE)
    assert mailbox.receive(WAIT_MS) == b"x"
    mailbox.close()


def test_waiting_ends_in_time(mailbox: Mailbox) -> None:
    start = time.monotonic()
    assert mailbox.receive(20) is None
    assert time.monotonic() - start >= 0.02


@pytest.mark.parametrize(
    "noise",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        zmtp.opening("PULL"),
        zmtp.opening("PUSH")[:64] + zmtp.frame(b"before READY"),
        zmtp.opening("PUSH") + b"\x01\x01a\x00\x01b",
        zmtp.opening("PUSH") + b"\x02" + (1 << 62).to_bytes(8, "big"),
    ],
)
def test_who_does_not_speak_the_protocol_is_cut_off(mailbox: Mailbox, outbox: Outbox, noise: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.settimeout(WAIT_MS / 1_000)
        stranger.connect(str(mailbox.path))
        stranger.sendall(noise)
        outbox.send(mailbox.path, b"ours")
        assert mailbox.receive(WAIT_MS) == b"ours"
        assert mailbox.receive(0) is None
        assert stranger.recv(1_000) == zmtp.opening("PULL")
        assert is_closed(stranger)


def test_after_close_nothing_is_sent(mailbox: Mailbox) -> None:
    outbox = Outbox()
    outbox.close()
    outbox.send(mailbox.path, b"late")
    assert mailbox.receive_nowait() is None
