"""What the threads of a process post to the one that reads its mailbox."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tensorhub.ipc import wire
from tensorhub.ipc.node import Node
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
