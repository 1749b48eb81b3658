"""kill -9 of each process of a server, under load: who notices, what they are told, and what is left behind."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from tests.crash.load import Load, loaded
from tests.crash.processes import by_kind, only_the_living, owners, shared_memory_files
from tests.end_to_end.daemons import ask
from tests.serving import RunningServer, serving
from tests.shm.segments import Segment, segment
from tests.waiting import wait_until

_ARENA_BYTES = 16 << 20  # little, so that a handful of tensors that are not given back would fill it
_REGION = "crash_test"
_CONTENT = np.arange(16, dtype=np.float32).tobytes() + bytes(64)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    before = shared_memory_files()
    with serving(
        tmp_path_factory.mktemp("server"),
        ["--http-workers=2", f"--arena-byte-size={_ARENA_BYTES}", "--model-control-mode=explicit", "--load-model=*"],
    ) as running:
        yield running
    assert shared_memory_files() <= before


@pytest.fixture
def load(server: RunningServer) -> Iterator[Load]:
    with loaded(server.http, server.grpc) as running:
        wait_until(running.progress(), "all clients are served")
        yield running


def _kill(server: RunningServer, kind: str, others: tuple[str, ...]) -> int:
    """Kill one process; return its pid once another has taken its place and the others are who they were."""
    assert server.run_dir is not None
    before = by_kind(server)
    pid = before[kind][0]
    os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: pid not in by_kind(server)[kind] and len(by_kind(server)[kind]) == len(before[kind]),
        f"another {kind} process",
    )
    after = by_kind(server)
    assert {other: after[other] for other in others} == {other: before[other] for other in others}
    return pid


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _clean(server: RunningServer, dead: int) -> None:
    run_dir = server.run_dir
    assert run_dir is not None
    wait_until(lambda: dead not in owners(run_dir) and only_the_living(run_dir), "the sockets of the dead are removed")


def test_worker(server: RunningServer, load: Load) -> None:
    before = load.failures()
    dead = _kill(server, "worker", ("serve", "hub", "http", "gunicorn", "grpc"))
    wait_until(load.progress(), "all clients are served again", account=load)
    assert load.dropped == {}, "no connection is lost with a worker"
    assert load.failures().total() > before.total(), "somebody was told"
    _clean(server, dead)


def test_http_process(server: RunningServer, load: Load) -> None:
    dead = _kill(server, "http", ("serve", "hub", "worker", "gunicorn", "grpc"))
    wait_until(load.progress(), "all clients are served again", account=load)
    assert load.refused == {}, "nobody else is disturbed"
    assert set(load.dropped) <= {"http_json", "http_binary"}
    _clean(server, dead)


def test_grpc_process(server: RunningServer, load: Load) -> None:
    dead = _kill(server, "grpc", ("serve", "hub", "worker", "gunicorn", "http"))
    wait_until(load.progress(), "all clients are served again", account=load)
    assert load.failures().keys() <= {"grpc_small", "grpc_big"}, "nobody else is disturbed"
    _clean(server, dead)


def test_hub(server: RunningServer, load: Load) -> None:
    """Inference goes on; control calls fail and then work; models and regions stay."""
    port = _port(server.http)
    with segment(_CONTENT) as shared:
        registration = {"key": shared.key, "offset": 0, "byte_size": 128}
        status, body = ask(port, "POST", f"/v2/systemsharedmemory/region/{_REGION}/register", registration)
        assert status == 200, body
        assert ask(port, "POST", "/v2/repository/models/reverse_text/unload")[0] == 200
        models = _ready_models(port)
        assert "reverse_text" not in models
        dead = by_kind(server)["hub"][0]
        others = ("serve", "worker", "gunicorn", "http", "grpc")
        before = by_kind(server)
        os.kill(dead, signal.SIGKILL)
        control = [ask(port, "POST", "/v2/repository/models/image_statistics/load")[0]]
        wait_until(load.progress(), "inference goes on", account=load)
        assert ask(port, "GET", "/v2/models/add_sub")[0] == 200

        def loads() -> bool:
            control.append(ask(port, "POST", "/v2/repository/models/image_statistics/load")[0])
            return control[-1] == 200

        wait_until(loads, "control calls work again")
        assert set(control) <= {200, 503}
        wait_until(load.progress(), "inference goes on", account=load)
        assert load.failures() == {}, "nobody has noticed"
        after = by_kind(server)
        assert {kind: after[kind] for kind in others} == {kind: before[kind] for kind in others}
        wait_until(lambda: ask(port, "POST", "/v2/repository/index")[0] == 200, "the index is there")
        assert _ready_models(port) == models, "every model is in the state in which it was"
        _use_region(server, shared)
        assert ask(port, "POST", f"/v2/systemsharedmemory/region/{_REGION}/unregister")[0] == 200
        assert ask(port, "POST", "/v2/repository/models/reverse_text/load")[0] == 200
    _clean(server, dead)


def _ready_models(port: int) -> set[str]:
    status, body = ask(port, "POST", "/v2/repository/index", {"ready": True})
    assert status == 200, body
    return {model["name"] for model in json.loads(body)}


def _use_region(server: RunningServer, shared: Segment) -> None:
    """Run a request that reads the first half of the region and writes the second."""
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        assert [region.name for region in client.get_system_shared_memory_status().regions.values()] == [_REGION]
        given = tritonclient.grpc.InferInput("INPUT0", [16], "FP32")
        given.set_shared_memory(_REGION, 64)
        wanted = tritonclient.grpc.InferRequestedOutput("OUTPUT0")
        wanted.set_shared_memory(_REGION, 64, offset=64)
        client.infer("identity", [given], outputs=[wanted])
    assert shared.content[64:] == shared.content[:64]


def test_a_region_is_opened_by_the_next_worker(server: RunningServer) -> None:
    port = _port(server.http)
    with segment(_CONTENT) as shared:
        registration = {"key": shared.key, "offset": 0, "byte_size": 128}
        assert ask(port, "POST", f"/v2/systemsharedmemory/region/{_REGION}/register", registration)[0] == 200
        dead = _kill(server, "worker", ("hub", "http", "grpc"))
        wait_until(lambda: _identity_answers(server), "the next worker serves")
        _use_region(server, shared)
        assert ask(port, "POST", f"/v2/systemsharedmemory/region/{_REGION}/unregister")[0] == 200
        _clean(server, dead)


def _identity_answers(server: RunningServer, refused: set[str] | None = None) -> bool:
    """Whether identity answers over gRPC; if not, the status is noted.

    Unlike readiness, which is of what the frontend has heard: that may be from before the worker's death.
    """
    given = tritonclient.grpc.InferInput("INPUT0", [1], "FP32")
    given.set_data_from_numpy(np.zeros(1, np.float32))
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        try:
            client.infer("identity", [given], client_timeout=60)
        except InferenceServerException as exc:
            if refused is not None:
                refused.add(exc.status())
            return False
    return True


def test_grpc_says_unavailable_within_a_moment(server: RunningServer) -> None:
    """While the worker is away a request is refused at once, not when it is back."""
    refused: set[str] = set()

    def is_refused() -> bool:
        """Whether a worker's death is seen; a machine that stands still may bring the next one before anybody asks."""
        wait_until(lambda: _identity_answers(server), "the server is ready")
        for pid in by_kind(server)["worker"]:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: _identity_answers(server, refused), "served again")
        return bool(refused)

    wait_until(is_refused, "a request is refused")
    assert refused == {"StatusCode.UNAVAILABLE"}


def test_the_run_directory_holds_sockets_only(server: RunningServer) -> None:
    assert server.run_dir is not None
    assert all(Path(path).is_socket() for path in server.run_dir.iterdir())
