"""What the threads of a process post to the one that reads its mailbox."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tensorhub.ipc import wire
from tensorhub.ipc.mailbox import Mailbox
from tensorhub.ipc.node import Node
from tensorhub.ipc.outbox import QUEUE_LIMIT
from tensorhub.ipc.rundir import RunDir

WAIT_MS = 60_000


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(RunDir(tmp_path), wire.Role.TOOL)
    node.start()
    yield node
    node.close()


def test_a_call_that_fails_holds_up_nothing(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    def fail() -> None:
        raise ValueError("a fault")

    node.post(lambda: done.append("first"))
    node.post(fail)
    node.post(lambda: done.append("last"))
    frame = node.mailbox.receive(WAIT_MS)
    assert frame is not None
    node.run_posted()
    assert done == ["first", "last"]
    assert "a fault" in caplog.text


def test_without_a_hub_for_very_long_it_goes_on_to_say_hello(node: Node) -> None:
    for _ in range(QUEUE_LIMIT):
        node.acknowledge(1)
    node.join(lambda hello: None, lambda: None)
    node._hub_line.forget()
    hub = Mailbox(node.run_dir.hub, b"")
    while (frame := hub.receive_nowait()) is None:
        node.mailbox.receive(10)
        node.run_posted()
    assert wire.decode(frame).kind is wire.Kind.HELLO
    hub.close()
