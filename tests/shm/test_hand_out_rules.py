"""Regions that the server makes for outputs obey the options of those that clients register: limits, users, owners."""

import json
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from tensorhub.client.shared_memory import FileRegion, OutputRegion, SharedMemoryError, SharedMemorySocket, allocate
from tests.safety.client import Grpc, Http, inline_request
from tests.safety.conftest import MODELS
from tests.safety.processes import pids
from tests.serving import RunningServer, serving
from tests.shm.repositories import with_sequences
from tests.shm.segments import segment
from tests.waiting import wait_until

LIMIT = 6
LIMIT_BYTES = 60_000
PAGE = 4096
DISABLED = "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable."
PROTOCOLS = pytest.mark.parametrize("proto", [triton_http, triton_grpc], ids=["http", "grpc"])
_PROXIES = ({"X-Forwarded-For": "203.0.113.7"}, {"Forwarded": "for=203.0.113.7"}, {"X-Real-IP": "203.0.113.7"})


def _place(name: str) -> str:
    return f"/tmp/tensorhub-test-{name}-{os.getpid()}.sock"


def _ask(proto: Any, server: RunningServer, size: int, headers: Mapping[str, str] | None = None) -> Any:
    """Ask for an output in a region of the server's; return it."""
    with proto.InferenceServerClient(server.http if proto is triton_http else server.grpc) as client:
        given = proto.InferInput("INPUT0", [size], "UINT8")
        given.set_data_from_numpy(np.zeros(size, np.uint8))
        output = allocate(proto.InferRequestedOutput("OUTPUT0"))
        return client.infer("identity", [given], outputs=[output], headers=dict(headers or {})).get_output("OUTPUT0")


def _refusal(proto: Any, server: RunningServer, size: int, headers: Mapping[str, str] | None = None) -> str:
    with pytest.raises((triton_http.InferenceServerException, triton_grpc.InferenceServerException)) as caught:
        _ask(proto, server, size, headers)
    return str(caught.value.message())


# --- limits


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, str]]:
    """Yield a server of three workers that shares little memory, and its socket."""
    place = _place("limits")
    options = [
        f"--shm-socket={place}",
        "--workers=3",
        f"--shm-max-regions={LIMIT}",
        f"--shm-max-byte-size={LIMIT_BYTES}",
        "--shm-allocate-timeout-secs=600",
    ]
    repository = with_sequences(tmp_path_factory.mktemp("models"), 3)
    with serving(tmp_path_factory.mktemp("limited"), options, repository=repository) as running:
        yield running, place


def _fill(server: RunningServer, memory: SharedMemorySocket, count: int, size: int = 10) -> list[OutputRegion]:
    """Have so many regions made, by more than one worker, and take them."""
    regions = []
    for turn in range(count):
        with triton_http.InferenceServerClient(server.http) as client:
            given = triton_http.InferInput("INPUT0", [size], "UINT8")
            given.set_data_from_numpy(np.zeros(size, np.uint8))
            output = allocate(triton_http.InferRequestedOutput("OUTPUT0"))
            # Each sequence has its home at a worker.
            result = client.infer(
                "sequences", [given], outputs=[output], sequence_id=turn + 1, sequence_start=True, sequence_end=True
            )
            regions.append(memory.take(result.get_output("OUTPUT0")))
    assert len({region.name.rpartition("-")[2] for region in regions}) > 1, "more than one worker makes some"
    return regions


def _let_go(server: RunningServer, regions: Sequence[OutputRegion]) -> None:
    """Close regions, and wait until the server has heard of it."""
    for region in regions:
        region.close()
    assert server.run_dir is not None
    files = list(server.run_dir.glob("*.held"))
    wait_until(lambda: not any(any(path.read_bytes()) for path in files if path.exists()), "nothing counts any more")


@PROTOCOLS
def test_the_limit_of_count_is_the_servers(limited: tuple[RunningServer, str], proto: Any) -> None:
    server, place = limited
    with SharedMemorySocket(place) as memory:
        regions = _fill(server, memory, LIMIT)
        for _ in range(2 * 3):
            text = f"0 regions are registered and {LIMIT} handed out, and --shm-max-regions allows no more than {LIMIT}"
            assert text in _refusal(proto, server, 1)
        with segment(bytes(PAGE)) as made, closing(Http(server.http)) as http:
            status, body = http.register("one_more", made.key, 0, PAGE)
            assert (status, json.loads(body)["error"]) == (
                503,
                "failed to register shared memory region 'one_more': 0 regions are registered and 6 handed out, and "
                "--shm-max-regions allows no more; unregister those that are not used",
            )
            regions.pop().close()
            wait_until(lambda: http.register("one_more", made.key, 0, PAGE)[0] == 200, "there is room for one")
            text = f"1 regions are registered and {LIMIT - 1} handed out"
            for _ in range(2 * 3):
                assert text in _refusal(proto, server, 1), "by any worker"
            assert http.unregister("one_more") == 200
        memory.take(_ask(proto, server, 1)).close()
        _let_go(server, regions)


@PROTOCOLS
def test_the_limit_of_bytes_is_the_servers(limited: tuple[RunningServer, str], proto: Any) -> None:
    server, place = limited
    with SharedMemorySocket(place) as memory, FileRegion.create(PAGE) as file:
        regions = _fill(server, memory, 3, 16_000)
        text = f"48000 bytes are registered or handed out, and --shm-max-byte-size allows {LIMIT_BYTES} together"
        for _ in range(2 * 3):
            assert text in _refusal(proto, server, 12_001)
        memory.register("file", file)
        assert f"{48_000 + PAGE} bytes are registered or handed out" in _refusal(proto, server, 12_000)
        with (
            FileRegion.create(12_000) as other,
            pytest.raises(SharedMemoryError, match=f"it has 12000 bytes, {PAGE} are registered and 48000 handed out"),
        ):
            memory.register("other", other)
        memory.unregister("file")
        regions.append(memory.take(_ask(proto, server, 12_000)))
        assert "60000 bytes are registered or handed out" in _refusal(proto, server, 1)
        _let_go(server, regions)


def test_what_clients_have_of_a_dead_worker_counts(limited: tuple[RunningServer, str]) -> None:
    """As long as they have it: it is memory that the server has made."""
    server, place = limited
    with SharedMemorySocket(place) as memory:
        regions = _fill(server, memory, LIMIT)
        before = pids(server)["worker"]
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(set(pids(server)["worker"]) - set(before)) == 3, "all workers are others")
        with closing(Http(server.http)) as http:
            wait_until(lambda: http.infer_inline(b"x")[0] == 200, "it serves again")
        for _ in range(2 * 3):
            assert f"{LIMIT} handed out" in _refusal(triton_http, server, 1)
        regions.pop().close()
        wait_until(lambda: _try(server, memory), "there is room for one")
        _let_go(server, regions)


def _try(server: RunningServer, memory: SharedMemorySocket) -> bool:
    try:
        memory.take(_ask(triton_http, server, 1)).close()
    except triton_http.InferenceServerException:
        return False
    return True


def test_all_that_is_shared_counts_for_a_new_hub(limited: tuple[RunningServer, str]) -> None:
    server, place = limited
    with segment(bytes(PAGE)) as made, closing(Http(server.http)) as http:
        for number in range(LIMIT - 1):
            assert http.register(f"r{number}", made.key, 0, PAGE)[0] == 200
        output = _ask(triton_http, server, 10)
        [hub] = pids(server)["hub"]
        os.kill(hub, signal.SIGKILL)
        assert f"{LIMIT - 1} regions are registered and 1 handed out" in _refusal(triton_http, server, 1)
        wait_until(lambda: pids(server)["hub"] not in ([], [hub]), "another hub")
        wait_until(lambda: http.unregister("unknown") == 200, "it answers")
        assert f"{LIMIT - 1} regions are registered and 1 handed out" in _refusal(triton_http, server, 1)
        assert http.register("one_more", made.key, 0, PAGE)[0] == 503
        wait_until(lambda: Path(place).exists(), "its socket")
        with SharedMemorySocket(place) as memory:
            region = memory.take(output)
            assert http.ask("POST", "/v2/systemsharedmemory/unregister")[0] == 200
            _let_go(server, [region])


# --- who may


@pytest.fixture(scope="module", params=["auto", "false", "true"])
def allowing(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningServer, str, str]]:
    """Yield a server, its socket and its --allow-client-shm."""
    place = _place("allow")
    options = [f"--shm-socket={place}", f"--allow-client-shm={request.param}"]
    with serving(tmp_path_factory.mktemp("allowing"), options, repository=MODELS) as running:
        yield running, place, request.param


def test_who_may_have_memory_may_have_regions_made(allowing: tuple[RunningServer, str, str]) -> None:
    """And nobody else, also not with a request that another client has been allowed before, word for word."""
    server, place, allowed = allowing
    with SharedMemorySocket(place) as memory, closing(Http(server.http)) as http:
        for headers in (None, *_PROXIES, None, *_PROXIES):
            for _ in range(4):
                if allowed == "true" or (allowed == "auto" and headers is None):
                    memory.take(_ask(triton_http, server, 10, headers)).close()
                else:
                    assert _refusal(triton_http, server, 10, headers) == DISABLED
        output: dict[str, Any] = {"name": "OUTPUT0", "parameters": {"shared_memory_allocate": True}}
        tensor = {"name": "INPUT0", "datatype": "UINT8", "shape": [1], "data": [1]}
        document = {"inputs": [tensor], "outputs": [output]}
        status, body = http.ask("POST", "/v2/models/identity/infer", document, _PROXIES[0])
        assert status == (200 if allowed == "true" else 501)
        if status == 200:
            memory.release(json.loads(body)["outputs"][0]["parameters"]["shared_memory_region"])
        output["parameters"] = {"shared_memory_allocate": False}
        for headers in (None, _PROXIES[0]):
            assert http.ask("POST", "/v2/models/identity/infer", document, headers)[0] == 200
        announced = json.loads(http.ask("GET", "/v2")[1])["extensions"]
        assert ("shared_memory_allocate" in announced) is ("shared_memory_socket" in announced) is (allowed != "false")


def test_grpc_asks_as_well(allowing: tuple[RunningServer, str, str]) -> None:
    server, place, allowed = allowing
    request = inline_request(10)
    request.outputs.add(name="OUTPUT0").parameters["shared_memory_allocate"].bool_param = True
    with SharedMemorySocket(place) as memory, closing(Grpc(server.grpc)) as rpc:
        for _ in range(3):
            code, answer = rpc.ask("ModelInfer", request)
            streamed = next(rpc.stub.ModelStreamInfer(iter([request]), timeout=30))
            if allowed == "false":
                assert (code, answer) == ("UNIMPLEMENTED", DISABLED)
                assert streamed.error_message == DISABLED
                continue
            for response in (answer, streamed.infer_response):
                memory.take(response.outputs[0]).close()
        request.outputs[0].parameters["shared_memory_allocate"].bool_param = False
        assert rpc.ask("ModelInfer", request)[0] == "OK"


@pytest.mark.parametrize("allowing", ["false"], indirect=True)
def test_the_socket_of_a_server_that_shares_nothing(allowing: tuple[RunningServer, str, str]) -> None:
    server, place, _ = allowing
    [hub] = pids(server)["hub"]
    before = len(os.listdir(f"/proc/{hub}/fd"))
    with SharedMemorySocket(place) as memory, FileRegion.create(PAGE) as file:
        attempts = (
            lambda: memory.register("r", file),
            lambda: memory.unregister("r"),
            lambda: memory.release("handed-out-8123456789abcdef-cpu0"),
            lambda: memory._ask({"operation": "take", "name": "handed-out-8123456789abcdef-cpu0"}, []),
        )
        for _ in range(20):
            for attempt in attempts:
                with pytest.raises(SharedMemoryError) as caught:
                    attempt()
                assert str(caught.value) == DISABLED
    # The hub may have opened one thing or the other of its own; of files that are kept there would be 20.
    wait_until(lambda: len(os.listdir(f"/proc/{hub}/fd")) < before + 10, "no file is kept")


# --- owners


def test_a_region_is_its_owners(tmp_path: Path) -> None:
    """With --shm-scope, a name that has become known is of no use to another owner."""
    place = _place("owners")
    options = [f"--shm-socket={place}", "--shm-scope=header:X-Tenant", "--workers=2"]
    with (
        serving(tmp_path, options, repository=MODELS) as server,
        SharedMemorySocket(place) as memory,
        SharedMemorySocket(place) as stranger,
    ):
        for owner in ("a", "", "b" * 200):
            headers = {"x-tenant": owner} if owner else None
            for proto in (triton_http, triton_grpc):
                output = _ask(proto, server, 10, headers)
                for other in {"a", "", "c"} - {owner}:
                    with pytest.raises(SharedMemoryError, match="there is no region"):
                        stranger.take(output, owner=other)
                    name = output["name"] if isinstance(output, dict) else output.name
                    assert name == "OUTPUT0"
                    stranger.release(_region_name(output), owner=other)
                with memory.take(output, owner=owner) as region:
                    assert region.byte_size == 10
                    stranger.release(region.name, owner="c")
                    with pytest.raises(SharedMemoryError, match="there is no region"):
                        stranger.take(output, owner=owner)
        _let_go(server, [])


def _region_name(output: Any) -> str:
    if isinstance(output, dict):
        return str(output["parameters"]["shared_memory_region"])
    return str(output.parameters["shared_memory_region"].string_param)


def test_by_address_everybody_on_the_socket_is_local(tmp_path: Path) -> None:
    place = _place("peers")
    with (
        ExitStack() as held,
        serving(tmp_path, [f"--shm-socket={place}", "--shm-scope=peer"], repository=MODELS) as server,
        SharedMemorySocket(place) as memory,
    ):
        for proto in (triton_http, triton_grpc):
            held.enter_context(memory.take(_ask(proto, server, 10), owner="says nothing"))
