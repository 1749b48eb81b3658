"""A server for all tests of safety but those that change it, on models of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.safety.client import Grpc, Http, inline_request
from tests.safety.processes import FOREIGN_UID
from tests.serving import RunningServer, serving
from tests.shm.segments import segment

MODELS = Path(__file__).parent / "models"
ARENA_BYTES = 8 << 20  # little: what is not given back is soon missed


@pytest.fixture(scope="session")
def safety_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server writes its log."""
    return tmp_path_factory.mktemp("safety") / "server.log"


@pytest.fixture(scope="session")
def guarded(safety_log: Path) -> Iterator[RunningServer]:
    """Yield a server that takes regions of one other user, with model control, and little memory to lose."""
    options = [
        "--model-control-mode=explicit",
        "--load-model=*",
        f"--shm-allowed-uids={FOREIGN_UID}",
        f"--arena-byte-size={ARENA_BYTES}",
    ]
    with serving(safety_log.parent, options, repository=MODELS) as running:
        _introduce(running)
        yield running


def _introduce(running: RunningServer) -> None:
    """Have every process meet every other, so that from now on none needs to open anything more."""
    client, rpc = Http(running.http), Grpc(running.grpc)
    with segment(bytes(1 << 20)) as made:
        assert client.register("first", made.key, 0, 1 << 20)[0] == 200
        for _ in range(20):
            assert client.infer("first", 0, 1 << 20)[0] == 200
            assert rpc.infer("first", 0, 1 << 20)[0] == "OK"
            assert rpc.ask("ModelInfer", inline_request(1 << 20))[0] == "OK"
            assert client.infer_inline(bytes(1 << 20))[0] == 200
        assert client.unregister("first") == 200
    client.close()
    rpc.close()


@pytest.fixture
def http(guarded: RunningServer) -> Iterator[Http]:
    client = Http(guarded.http)
    yield client
    client.close()


@pytest.fixture
def rpc(guarded: RunningServer) -> Iterator[Grpc]:
    client = Grpc(guarded.grpc)
    yield client
    client.close()
