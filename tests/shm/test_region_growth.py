"""Regions that outputs make larger, under --shm-max-byte-size: whichever worker does it, and whoever dies meanwhile."""

import json
import os
import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.service_pb2 as pb
import tritonclient.http as triton_http

from tensorhub.client.shared_memory import FileRegion, SharedMemoryError, SharedMemorySocket, allocate
from tests.safety.client import Grpc, Http
from tests.safety.processes import pids
from tests.serving import RunningServer, serving
from tests.shm.repositories import with_sequences
from tests.waiting import wait_until

LIMIT_BYTES = 60_000
PAGE = 4096
WORKERS = 2


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, str]]:
    """Yield a server of two workers that shares little memory, and its socket."""
    place = f"/tmp/tensorhub-test-growth-{os.getpid()}.sock"
    options = [f"--shm-socket={place}", f"--workers={WORKERS}", f"--shm-max-byte-size={LIMIT_BYTES}"]
    repository = with_sequences(tmp_path_factory.mktemp("models"), WORKERS, "max_sequence_idle_microseconds: 600000000")
    with serving(tmp_path_factory.mktemp("limited"), options, repository=repository) as running:
        yield running, place


def _grow(rpc: Grpc, region: str, size: int, *, offset: int = 0, sequence: int = 0) -> tuple[str, str]:
    """Have an output of so many bytes make a region larger; return code and text."""
    request = pb.ModelInferRequest(model_name="sequences" if sequence else "identity")
    request.raw_input_contents.append(b"\7" * size)
    request.inputs.add(name="INPUT0", datatype="UINT8", shape=[size])
    if sequence:
        request.parameters["sequence_id"].int64_param = sequence
    parameters = request.outputs.add(name="OUTPUT0").parameters
    parameters["shared_memory_region"].string_param = region
    parameters["shared_memory_offset"].int64_param = offset
    parameters["shared_memory_byte_size"].int64_param = 0
    parameters["shared_memory_grow"].bool_param = True
    code, answer = rpc.ask("ModelInfer", request)
    return code, str(answer)


def _home(server: RunningServer, memory: SharedMemorySocket, sequence: int) -> str:
    """Begin a sequence, and return the worker that has it."""
    with triton_http.InferenceServerClient(server.http) as client:
        given = triton_http.InferInput("INPUT0", [1], "UINT8")
        given.set_data_from_numpy(np.zeros(1, np.uint8))
        output = allocate(triton_http.InferRequestedOutput("OUTPUT0"))
        result = client.infer("sequences", [given], outputs=[output], sequence_id=sequence, sequence_start=True)
    with memory.take(result.get_output("OUTPUT0")) as region:
        return region.name.rpartition("-")[2]


def _refused(need: int, more: int, region: str = "a") -> tuple[str, str]:
    return (
        "UNAVAILABLE",
        f"shared memory region '{region}' cannot be made larger: the output needs {need} bytes at offset 0, which are "
        f"{more} more than there are; {LIMIT_BYTES} bytes are registered, grown or handed out, and --shm-max-byte-size "
        f"allows {LIMIT_BYTES} together; unregister or release what is not used",
    )


def test_the_limit_holds_for_all_workers_and_outlives_them(limited: tuple[RunningServer, str]) -> None:
    server, place = limited
    with ExitStack() as stack:
        rpc = stack.enter_context(closing(Grpc(server.grpc)))
        http = stack.enter_context(closing(Http(server.http)))
        first, second = (stack.enter_context(FileRegion.create(PAGE, growable=True)) for _ in range(2))
        with SharedMemorySocket(place) as memory:
            homes: dict[str, int] = {}
            for sequence in range(1, 20):
                homes.setdefault(_home(server, memory, sequence), sequence)
                if len(homes) == WORKERS:
                    break
            one, other = homes.values()
            memory.register("a", first)
            memory.register("b", second)
            assert _grow(rpc, "a", 30_000, sequence=one)[0] == "OK"
            assert _grow(rpc, "b", 30_000, sequence=other)[0] == "OK"
            for sequence in (one, other):
                assert _grow(rpc, "a", 30_001, sequence=sequence) == _refused(30_001, 1)
            assert [first.refresh(), second.refresh()] == [30_000, 30_000], "nothing has changed"
            assert _grow(rpc, "a", 30_000, sequence=other)[0] == "OK", "it fits already"
            with (
                FileRegion.create(1) as small,
                pytest.raises(
                    SharedMemoryError,
                    match="it has 1 bytes, 8192 are registered and have become 51808 larger, and --shm-max-byte-size",
                ),
            ):
                memory.register("small", small)
            for proto, address in ((triton_http, server.http), (triton_grpc, server.grpc)):
                with proto.InferenceServerClient(address) as client:
                    given = proto.InferInput("INPUT0", [1], "UINT8")
                    given.set_data_from_numpy(np.zeros(1, np.uint8))
                    output = allocate(proto.InferRequestedOutput("OUTPUT0"))
                    with pytest.raises(proto.InferenceServerException, match="60000 bytes are registered or handed"):
                        client.infer("identity", [given], outputs=[output])
            _http_says_it_too(http)
            before = pids(server)["worker"]
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: len(set(pids(server)["worker"]) - set(before)) == WORKERS, "all workers are others")
            wait_until(lambda: _grow(rpc, "a", 30_000)[0] == "OK", "it serves again")
            for _ in range(2 * WORKERS):
                assert _grow(rpc, "a", 30_001) == _refused(30_001, 1), "by either"
        [hub] = pids(server)["hub"]
        os.kill(hub, signal.SIGKILL)
        wait_until(lambda: pids(server)["hub"] not in ([], [hub]), "another hub")
        wait_until(lambda: http.unregister("unknown") == 200 and Path(place).exists(), "it answers")
        assert _grow(rpc, "a", 30_001) == _refused(30_001, 1)
        with SharedMemorySocket(place) as memory:
            memory.unregister("b")
            assert _grow(rpc, "a", LIMIT_BYTES)[0] == "OK", "there is room again"
            memory.unregister("a")
            assert _grow(rpc, "a", 1)[0] == "NOT_FOUND"


def _http_says_it_too(http: Http) -> None:
    parameters = {"shared_memory_region": "a", "shared_memory_byte_size": 0, "shared_memory_grow": True}
    document = {
        "inputs": [{"name": "INPUT0", "datatype": "UINT8", "shape": [30_002], "data": [1] * 30_002}],
        "outputs": [{"name": "OUTPUT0", "parameters": parameters}],
    }
    status, body = http.ask("POST", "/v2/models/identity/infer", document)
    assert (status, json.loads(body)["error"]) == (503, _refused(30_002, 2)[1])


def test_many_grow_at_the_same_time(limited: tuple[RunningServer, str]) -> None:
    server, place = limited
    with ExitStack() as stack:
        memory = stack.enter_context(SharedMemorySocket(place))
        regions = [stack.enter_context(FileRegion.create(0, growable=True)) for _ in range(4)]
        for number, region in enumerate(regions):
            memory.register(f"r{number}", region)

        def work(seed: int) -> None:
            pick = random.Random(seed)
            with closing(Grpc(server.grpc)) as rpc:
                for _ in range(60):
                    size = pick.randrange(1, LIMIT_BYTES // 2)
                    code, text = _grow(rpc, f"r{pick.randrange(4)}", size)
                    assert code == "OK" or (code == "UNAVAILABLE" and f"needs {size} bytes" in text), text

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        # Files do not become smaller, so the limit has held all the time.
        total = sum(region.refresh() for region in regions)
        assert LIMIT_BYTES // 2 < total <= LIMIT_BYTES
        with closing(Grpc(server.grpc)) as rpc:
            rest = LIMIT_BYTES - total
            assert _grow(rpc, "r0", rest, offset=regions[0].byte_size)[0] == "OK"
            assert _grow(rpc, "r0", 1, offset=regions[0].refresh())[0] == "UNAVAILABLE"
        memory.unregister("")
