"""The hub's loop between its processes, which are the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from tensorhub import settings
from tensorhub.hub.catalogue import ModelCatalogue
from tensorhub.hub.loop import Hub
from tensorhub.ipc import wire
from tensorhub.ipc.node import Node
from tensorhub.ipc.rundir import RunDir
from tensorhub.protocol import messages

WAIT_S = 60.0


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    run_dir = RunDir(tmp_path / "run")
    run_dir.open()
    return run_dir


@pytest.fixture
def hub(run_dir: RunDir, tmp_path: Path) -> Iterator[Hub]:
    chosen = settings.load([f"--model-repository={tmp_path}", f"--run-dir={run_dir.path}"])
    node = Node(run_dir, wire.Role.HUB)
    hub = Hub(node, chosen, ModelCatalogue(chosen.repository))
    loop = threading.Thread(target=hub.run)
    loop.start()
    yield hub
    hub.stop()
    loop.join(WAIT_S)
    hub.close()
    node.close()


def test_metrics_wait_for_what_another_hub_has_left(hub: Hub, run_dir: RunDir) -> None:
    """Whoever asks before anybody has told it does not see counters go backwards."""
    page: Future[str] = Future()
    hub.make_page(page)
    left = messages.Bequest(hub_start_ns=1, revision=1, restarts={"worker": 3})
    process = messages.Process(role="TOOL", pid=1, name="serve")
    hello = messages.Hello(process=process, rejoining=True, bequest=left.SerializeToString())
    node = Node(run_dir, wire.Role.TOOL)
    node.start()
    node.send_hub(wire.Kind.HELLO, hello.SerializeToString())
    assert 'tensorhub_process_restarts{role="worker"} 3' in page.result(WAIT_S)
    node.close()
