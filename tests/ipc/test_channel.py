"""Mailboxes and outboxes over real sockets."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from tensorhub.ipc.channel import QUEUE_LIMIT, Mailbox, Outbox, PeerFull

WAIT_MS = 20_000


@pytest.fixture
def context() -> Iterator["zmq.Context[zmq.Socket[bytes]]"]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield context
    context.destroy(linger=0)


def test_frames_arrive_in_order(context: "zmq.Context[zmq.Socket[bytes]]", tmp_path: Path) -> None:
    mailbox = Mailbox(context, tmp_path / "a.sock")
    outbox = Outbox(context)
    frames = [b"", b"x", bytes(1 << 20)] + [str(number).encode() for number in range(100)]
    for frame in frames:
        outbox.send(mailbox.path, frame)
    assert [mailbox.receive(WAIT_MS) for _ in frames] == frames
    assert mailbox.receive_nowait() is None
    assert mailbox.receive(1) is None
    outbox.close()
    mailbox.close()
    assert not mailbox.path.exists()


def test_a_mailbox_may_come_after_its_first_frame(context: "zmq.Context[zmq.Socket[bytes]]", tmp_path: Path) -> None:
    outbox = Outbox(context)
    outbox.send(tmp_path / "a.sock", b"early")
    mailbox = Mailbox(context, tmp_path / "a.sock")
    assert mailbox.receive(WAIT_MS) == b"early"
    outbox.close()
    mailbox.close()


def test_a_peer_that_takes_nothing_is_full_and_can_be_forgotten(
    context: "zmq.Context[zmq.Socket[bytes]]", tmp_path: Path
) -> None:
    outbox = Outbox(context)
    path = tmp_path / "nobody.sock"
    for _ in range(QUEUE_LIMIT):
        outbox.send(path, b"x")
    with pytest.raises(PeerFull, match=r"^nobody.sock$"):
        outbox.send(path, b"x")
    outbox.forget(path)
    outbox.forget(path)
    outbox.send(path, b"new")
    mailbox = Mailbox(context, path)
    assert mailbox.receive(WAIT_MS) == b"new"  # and none of those before
    outbox.close()
    mailbox.close()


def test_many_threads_share_an_outbox(context: "zmq.Context[zmq.Socket[bytes]]", tmp_path: Path) -> None:
    mailbox = Mailbox(context, tmp_path / "a.sock")
    outbox = Outbox(context)

    def send(sender: int) -> None:
        for number in range(200):
            outbox.send(mailbox.path, bytes((sender, number)))

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(4)]
    for thread in threads:
        thread.start()
    got = [mailbox.receive(WAIT_MS) for _ in range(800)]
    for thread in threads:
        thread.join()
    for sender in range(4):
        assert [frame[1] for frame in got if frame is not None and frame[0] == sender] == list(range(200))
    outbox.close()
    mailbox.close()


def test_after_close_nothing_is_sent(context: "zmq.Context[zmq.Socket[bytes]]", tmp_path: Path) -> None:
    mailbox = Mailbox(context, tmp_path / "a.sock")
    outbox = Outbox(context)
    outbox.close()
    outbox.send(mailbox.path, b"late")
    assert mailbox.receive_nowait() is None
    mailbox.close()
