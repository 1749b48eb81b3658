"""The servers of the tests of safety, on models of their own: started once for all of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tensorhub.restrictions import Category
from tests.safety.client import Grpc, Http, inline_request
from tests.safety.processes import FOREIGN_UID
from tests.safety.soak import FULL, FULL_TIMEOUT_S
from tests.serving import RunningServer, serving
from tests.shm.segments import segment

MODELS = Path(__file__).parent / "models"
ARENA_BYTES = 8 << 20  # little: what is not given back is soon missed


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the long forms of these tests the time that they need."""
    for item in items if FULL else ():
        if item.path.parent == Path(__file__).parent and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(FULL_TIMEOUT_S))


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


@pytest.fixture(scope="session")
def plain_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `plain` writes its log."""
    return tmp_path_factory.mktemp("plain") / "server.log"


@pytest.fixture(scope="session")
def plain(plain_log: Path) -> Iterator[RunningServer]:
    """Yield a server with no option but where its models are and where to listen; its worker may die."""
    with serving(plain_log.parent, [], repository=MODELS) as running:
        yield running


KEY, SECRET = "d10-key", "d10-secret"
"""What `closed` asks for."""


@pytest.fixture(scope="session")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Yield a server all of whose groups are restricted, but for the health over HTTP, by which its start is seen."""
    groups = [category.value for category in Category]
    options = [
        f"--grpc-restricted-protocol={','.join(groups)}:{KEY}={SECRET}",
        f"--http-restricted-api={','.join(group for group in groups if group != Category.HEALTH.value)}:{KEY}={SECRET}",
    ]
    with serving(tmp_path_factory.mktemp("closed"), options, repository=MODELS) as running:
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
