"""What a control call is answered with when something goes wrong that nobody has thought of."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tensorhub.errors import InvalidArgument
from tensorhub.hub.actions import Action, Answer, Asker
from tensorhub.hub.outgoing import Outgoing
from tensorhub.hub.state import HubState
from tensorhub.ipc import wire
from tensorhub.ipc.node import Node
from tensorhub.ipc.rundir import RunDir

ASKER = Asker("ITSELF", 0, 1, 1)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    run_dir = RunDir(tmp_path / "run")
    run_dir.open()
    node = Node(run_dir, wire.Role.HUB)
    node.start()
    yield node
    node.close()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (InvalidArgument("not this way"), "not this way"),
        (PermissionError(13, "Permission denied"), "PermissionError: [Errno 13] Permission denied"),
        (KeyError("cpu7"), "KeyError: 'cpu7'"),
    ],
)
def test_whatever_goes_wrong_is_the_answer(node: Node, fault: Exception, told: str) -> None:
    answers: list[Answer] = []
    outgoing = Outgoing(node, HubState(["cpu0"], 1), lambda delay_s, call: None)
    outgoing.hand_answers(ASKER.role, answers.append)

    def work() -> Sequence[Action]:
        raise fault

    outgoing.attempt(ASKER, work)
    (answer,) = answers
    assert answer.asker is ASKER
    assert answer.error is not None
    assert answer.error.message == told
