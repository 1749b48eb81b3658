"""Regions that the server makes for outputs: asked for in a request, taken over the socket, and gone with their use."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.service_pb2 as pb
import tritonclient.http as triton_http

from tensorhub.client.shared_memory import FileRegion, OutputRegion, SharedMemoryError, SharedMemorySocket, allocate
from tensorhub.ipc.handed_out import TRIAL
from tests.crash.processes import open_files
from tests.other_users import needs_root, run_as
from tests.safety.client import Grpc, Http, inline_request
from tests.safety.conftest import MODELS
from tests.safety.processes import FOREIGN_UID, nothing_is_left, pids, resident_bytes
from tests.serving import EXAMPLE_MODELS, RunningServer, serving
from tests.waiting import wait_until

CYCLES = int(os.environ.get("TENSORHUB_HAND_OUT_CYCLES", "300"))
LIMIT = 4
LIMIT_BYTES = 1 << 20
TIMEOUT_S = 5

_CONFIG = """
    backend: "identity"
    input [ { name: "INPUT0" data_type: TYPE_UINT8 dims: [ -1 ] } ]
    output [ { name: "OUTPUT0" data_type: TYPE_UINT8 dims: [ -1 ] } ]
"""
_SCORES = """
    backend: "identity"
    input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
    output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
_ENSEMBLE = """
    platform: "ensemble"
    input [ { name: "INPUT0" data_type: TYPE_UINT8 dims: [ -1 ] } ]
    output [ { name: "OUTPUT0" data_type: TYPE_UINT8 dims: [ -1 ] } ]
    ensemble_scheduling { step [ {
        model_name: "identity" model_version: -1
        input_map { key: "INPUT0" value: "INPUT0" } output_map { key: "OUTPUT0" value: "OUTPUT0" }
    } ] }
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of models that give back what they get, each in its own way."""
    root = tmp_path_factory.mktemp("models")
    (root / "identity").symlink_to(MODELS / "identity")
    (root / "text").symlink_to(MODELS / "text")
    (root / "word_by_word").symlink_to(EXAMPLE_MODELS / "word_by_word")
    for name, config in {
        "cached": _CONFIG + "response_cache { enable: true }",
        "scores": _SCORES,
        "composed": _ENSEMBLE,
    }.items():
        (root / name / "1").mkdir(parents=True)
        (root / name / "config.pbtxt").write_text(config, encoding="utf-8")
    return root


def _place(name: str) -> str:
    return f"/tmp/tensorhub-test-{name}-{os.getpid()}.sock"


@pytest.fixture(scope="module")
def place() -> str:
    return _place("out")


@pytest.fixture(scope="module")
def making(place: str, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Yield a server with two workers that makes regions."""
    options = [
        f"--shm-socket={place}",
        "--workers=2",
        f"--shm-allowed-uids={FOREIGN_UID}",
        "--cache-config=local,size=1048576",
    ]
    with serving(tmp_path_factory.mktemp("making"), options, repository=repository) as running:
        with closing(Http(running.http)) as client, closing(Grpc(running.grpc)) as rpc:
            for _ in range(20):  # every process meets every other
                assert client.infer_inline(bytes(1 << 20))[0] == 200
                assert rpc.ask("ModelInfer", inline_request(1 << 20))[0] == "OK"
        with SharedMemorySocket(place) as memory:
            for proto in (triton_http, triton_grpc):
                for _ in range(8):
                    _infer(proto, running, b"x" * 100_000, memory).close()
        yield running


@pytest.fixture
def memory(making: RunningServer, place: str) -> Iterator[SharedMemorySocket]:
    with SharedMemorySocket(place) as connection:
        yield connection


PROTOCOLS = pytest.mark.parametrize("proto", [triton_http, triton_grpc], ids=["http", "grpc"])


def _ask(proto: Any, server: RunningServer, data: bytes, model: str = "identity") -> Any:
    """Ask by tritonclient, for an output in a region of the server's; return that output."""
    with proto.InferenceServerClient(server.http if proto is triton_http else server.grpc) as client:
        given = proto.InferInput("INPUT0", [len(data)], "UINT8")
        given.set_data_from_numpy(np.frombuffer(data, np.uint8))
        result = client.infer(model, [given], outputs=[allocate(proto.InferRequestedOutput("OUTPUT0"))])
        return result.get_output("OUTPUT0")


def _infer(
    proto: Any, server: RunningServer, data: bytes, memory: SharedMemorySocket, model: str = "identity"
) -> OutputRegion:
    return memory.take(_ask(proto, server, data, model))


def _name(output: Any) -> str:
    if isinstance(output, dict):
        return str(output["parameters"]["shared_memory_region"])
    return str(output.parameters["shared_memory_region"].string_param)


def _files_made(server: RunningServer) -> int:
    """How many regions the workers hold."""
    return sum("handed out" in name for pid in pids(server)["worker"] for name in open_files(pid))


def _none_waits(server: RunningServer) -> None:
    """Wait until the workers have let go of everything: they do so just after it has been taken."""
    wait_until(lambda: _files_made(server) == 0, "the workers hold no region")


@PROTOCOLS
@pytest.mark.parametrize("model", ["identity", "cached", "composed"])
def test_an_output_comes_in_a_region_of_its_size(
    making: RunningServer, memory: SharedMemorySocket, proto: Any, model: str
) -> None:
    """Small and large, and at second and third sight, when requests and answers are recognised."""
    for size in (5, 5, 5, 6, 5, 100_000, 100_000, 100_000, 1 << 22):
        for content in (b"a", b"b"):
            with _infer(proto, making, content * size, memory, model) as region:
                assert region.byte_size == size
                assert (region.datatype, list(region.shape)) == ("UINT8", [size])
                assert (region.tensor() == content[0]).all()
    _none_waits(making)


def test_what_the_response_says(making: RunningServer, memory: SharedMemorySocket) -> None:
    output = _ask(triton_http, making, b"abc")
    parameters = output["parameters"]
    assert output.keys() == {"name", "datatype", "shape", "parameters"}, "no data"
    assert parameters == {
        "shared_memory_region": parameters["shared_memory_region"],
        "shared_memory_offset": 0,
        "shared_memory_byte_size": 3,
    }
    memory.release(_name(output))
    request = inline_request(3)
    request.outputs.add(name="OUTPUT0").parameters["shared_memory_allocate"].bool_param = True
    with closing(Grpc(making.grpc)) as rpc:
        code, answer = rpc.ask("ModelInfer", request)
        assert (code, list(answer.raw_output_contents)) == ("OK", [b""])
        assert answer.outputs[0].parameters["shared_memory_offset"].int64_param == 0
        assert answer.outputs[0].parameters["shared_memory_byte_size"].int64_param == 3
        memory.release(_name(answer.outputs[0]))
        request.outputs[0].parameters["shared_memory_allocate"].bool_param = False
        code, answer = rpc.ask("ModelInfer", request)
        assert (code, list(answer.raw_output_contents)) == ("OK", [bytes(3)])
        assert not answer.outputs[0].parameters


def test_requests_with_and_without_it_take_turns(making: RunningServer, memory: SharedMemorySocket) -> None:
    with triton_http.InferenceServerClient(making.http) as client:
        for turn in range(12):
            data = np.array([turn, 1, 2], np.uint8)
            given = triton_http.InferInput("INPUT0", [3], "UINT8")
            given.set_data_from_numpy(data, binary_data=turn % 4 < 2)
            output = triton_http.InferRequestedOutput("OUTPUT0", binary_data=turn % 4 < 2)
            if turn % 2:
                result = client.infer("identity", [given], outputs=[allocate(output)])
                with memory.take(result.get_output("OUTPUT0")) as region:
                    assert region.tensor().tolist() == data.tolist()
            else:
                assert client.infer("identity", [given], outputs=[output]).as_numpy("OUTPUT0").tolist() == data.tolist()


@PROTOCOLS
def test_texts_and_classes(making: RunningServer, memory: SharedMemorySocket, proto: Any) -> None:
    """Outputs whose size nobody can tell in advance."""
    with proto.InferenceServerClient(making.http if proto is triton_http else making.grpc) as client:
        given = proto.InferInput("INPUT0", [3], "BYTES")
        given.set_data_from_numpy(np.array([b"a", b"", b"long" * 1000], np.object_))
        result = client.infer("text", [given], outputs=[allocate(proto.InferRequestedOutput("OUTPUT0"))])
        with memory.take(result.get_output("OUTPUT0")) as region:
            assert region.tensor().tolist() == [b"a", b"", b"long" * 1000]
        given = proto.InferInput("INPUT0", [3], "FP32")
        given.set_data_from_numpy(np.array([0.5, 2, 1], np.float32))
        output = allocate(proto.InferRequestedOutput("OUTPUT0", class_count=2))
        with memory.take(client.infer("scores", [given], outputs=[output]).get_output("OUTPUT0")) as region:
            assert region.datatype == "BYTES"
            assert [text.split(b":")[1] for text in region.tensor().ravel()] == [b"1", b"2"]


def test_each_response_of_a_stream_has_its_own(making: RunningServer, memory: SharedMemorySocket) -> None:
    words = ["one", "two", "three" * 50_000]
    request = pb.ModelInferRequest(model_name="word_by_word")
    request.inputs.add(name="TEXT", datatype="BYTES", shape=[1]).contents.bytes_contents.append(
        " ".join(words).encode()
    )
    request.outputs.add(name="WORD").parameters["shared_memory_allocate"].bool_param = True
    with closing(Grpc(making.grpc)) as rpc:
        for _ in range(3):
            outputs = [
                response.infer_response.outputs[0]
                for response in rpc.stub.ModelStreamInfer(iter([request]), timeout=60)
                if response.infer_response.outputs
            ]
            assert len({_name(output) for output in outputs}) == len(words)
            for output, word in zip(outputs, words, strict=True):
                with memory.take(output) as region:
                    assert region.tensor().tolist() == [word.encode()]
    _none_waits(making)


def test_its_size_is_sealed_and_nothing_of_it_has_a_name(making: RunningServer, memory: SharedMemorySocket) -> None:
    with _infer(triton_http, making, b"x" * 5000, memory) as region:
        for size in (0, 4999, 5001, 1 << 20):
            with pytest.raises(PermissionError):
                os.ftruncate(region.fd, size)
        assert fcntl.fcntl(region.fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SEAL
        assert not os.get_inheritable(region.fd)
        # It is the client's to write: the server does not look at it any more.
        region.array("UINT8", [5000])[:] = 7
        device, file = os.stat("/dev/shm").st_dev, os.fstat(region.fd)
        assert (file.st_dev, file.st_ino) not in {(device, entry.inode()) for entry in os.scandir("/dev/shm")}
        with closing(Http(making.http)) as http:
            assert http.regions() == [], "it is no registered region"
            name = _name(_ask(triton_http, making, b"x"))
            assert name not in str(http.ask("GET", "/v2/systemsharedmemory/status"))
            assert http.ask("POST", "/v2/systemsharedmemory/unregister")[0] == 200
            assert _files_made(making) == 1, "to unregister all is of no concern to it"
            memory.release(name)


def test_what_was_taken_can_be_an_input(making: RunningServer, memory: SharedMemorySocket) -> None:
    with closing(Http(making.http)) as http, _infer(triton_http, making, b"abc", memory) as region:
        status, body = http.infer(region.name, 0, 3)
        assert status == 404 or status == 400, status
        assert json.loads(body)["error"] == (
            f"Unable to find shared memory region: '{region.name}': it was made for an output; take it and register it "
            "over --shm-socket first"
        )
        memory.register(region.name, region)
        for _ in range(4):  # by either worker
            assert http.infer(region.name, 0, 3) == (200, b"abc")
        memory.unregister(region.name)


def test_a_region_is_taken_once(making: RunningServer, memory: SharedMemorySocket, place: str) -> None:
    output = _ask(triton_grpc, making, b"abc")
    with SharedMemorySocket(place) as other, memory.take(output) as region:
        for connection in (memory, other):
            with pytest.raises(
                SharedMemoryError, match=r"^there is no region 'handed-out-.*' to take: it has been taken"
            ):
                connection.take(output)
        assert region.tensor().tolist() == [97, 98, 99]
    output = _ask(triton_grpc, making, b"abc")
    memory.release(_name(output))
    memory.release(_name(output))
    _none_waits(making)
    with pytest.raises(SharedMemoryError, match="there is no region"):
        memory.take(output)


@pytest.mark.parametrize(
    "name", ["", "x", "handed-out-", "handed-out-0123456789abcdef", "handed-out-0123456789abcdef-", "handed-out-_-cpu0"]
)
def test_names_that_are_none(memory: SharedMemorySocket, name: str) -> None:
    for ask in (memory.release, lambda name: memory._ask({"operation": "take", "name": name}, [])):
        with pytest.raises(SharedMemoryError, match="is no name of a region that was made for an output"):
            ask(name)


@pytest.mark.parametrize("worker", ["cpu0", "cpu9", "../hub", "gpu0", "own-x"])
def test_names_that_nobody_has(memory: SharedMemorySocket, worker: str) -> None:
    name = f"handed-out-8123456789abcdef-{worker}"
    memory.release(name)
    with pytest.raises(SharedMemoryError, match="there is no region"):
        memory._ask({"operation": "take", "name": name}, [])


def test_files_of_registered_regions_are_not_to_be_taken(making: RunningServer, memory: SharedMemorySocket) -> None:
    """The numbers of a hub's files are of another kind, and not even a right guess gets at them."""
    with FileRegion.create(100) as region:
        memory.register("mine", region)
        for number in (0, 1):  # 0: the worker's arena
            with pytest.raises(SharedMemoryError):
                memory._ask({"operation": "take", "name": f"handed-out-{number:016x}-cpu0"}, [])
        memory.unregister("mine")


def test_wrong_requests(making: RunningServer) -> None:
    request = inline_request(3)
    parameters = request.outputs.add(name="OUTPUT0").parameters
    parameters["shared_memory_allocate"].int64_param = 1
    with closing(Grpc(making.grpc)) as rpc, closing(Http(making.http)) as http:
        assert rpc.ask("ModelInfer", request) == (
            "INVALID_ARGUMENT",
            "invalid value type for 'shared_memory_allocate' parameter for tensor 'OUTPUT0', expected bool_param.",
        )
        parameters["shared_memory_allocate"].bool_param = True
        parameters["shared_memory_region"].string_param = "x"
        parameters["shared_memory_byte_size"].int64_param = 3
        code, text = rpc.ask("ModelInfer", request)
        assert (code, text) == (
            "INVALID_ARGUMENT",
            "output 'OUTPUT0' can't set both 'shared_memory_region' and 'shared_memory_allocate'",
        )
        document: dict[str, Any] = {
            "inputs": [{"name": "INPUT0", "datatype": "UINT8", "shape": [1], "data": [1]}],
            "outputs": [{"name": "OUTPUT0", "parameters": {"shared_memory_allocate": 1}}],
        }
        status, body = http.ask("POST", "/v2/models/identity/infer", document)
        assert status == 500, "as of other parameters that are of a wrong type"
        text = "Unable to parse 'shared_memory_allocate': attempt to access JSON non-boolean as boolean"
        assert json.loads(body) == {"error": text}
    _none_waits(making)


def test_without_a_socket(server: RunningServer) -> None:
    """On a server that could make regions and that nobody could take them from."""
    expected = (
        "'shared_memory_allocate' of output 'OUTPUT0' needs a server that is started with --shm-socket=PATH, over "
        "which its client takes the region, and this one is not"
    )
    request = pb.ModelInferRequest(model_name="add_sub", raw_input_contents=[bytes(64), bytes(64)])
    for name in ("INPUT0", "INPUT1"):
        request.inputs.add(name=name, datatype="INT32", shape=[1, 16])
    request.outputs.add(name="OUTPUT0").parameters["shared_memory_allocate"].bool_param = True
    document = {
        "inputs": [
            {"name": name, "datatype": "INT32", "shape": [1, 16], "data": [0] * 16} for name in ("INPUT0", "INPUT1")
        ],
        "outputs": [{"name": "OUTPUT0", "parameters": {"shared_memory_allocate": True}}],
    }
    with closing(Grpc(server.grpc)) as rpc, closing(Http(server.http)) as http:
        for _ in range(3):
            assert rpc.ask("ModelInfer", request) == ("INVALID_ARGUMENT", expected)
            status, body = http.ask("POST", "/v2/models/add_sub/infer", document)
            assert (status, json.loads(body)) == (400, {"error": expected})
        assert "shared_memory_allocate" not in json.loads(http.ask("GET", "/v2")[1])["extensions"]


def test_the_metadata_announces_it(making: RunningServer) -> None:
    with closing(Grpc(making.grpc)) as rpc, closing(Http(making.http)) as http:
        assert "shared_memory_allocate" in json.loads(http.ask("GET", "/v2")[1])["extensions"]
        assert "shared_memory_allocate" in rpc.ask("ServerMetadata", pb.ServerMetadataRequest())[1].extensions


# --- who comes and goes


def _handed_out_here() -> Counter[str]:
    """What this process holds of regions, some perhaps since an earlier test."""
    lines = [*open_files(os.getpid()), *Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()]
    return Counter(line for line in lines if "handed out" in line)


def test_many_cycles_leave_nothing(making: RunningServer, memory: SharedMemorySocket) -> None:
    ours = _handed_out_here()
    with nothing_is_left(making):
        before = {pid: resident_bytes(pid) for pid in pids(making)["worker"]}
        for turn in range(CYCLES):
            proto = (triton_http, triton_grpc)[turn % 2]
            output = _ask(proto, making, bytes([turn % 256]) * (1 << 18))
            if turn % 3 == 0:
                memory.release(_name(output))
            else:
                with memory.take(output) as region:
                    assert region.tensor()[-1] == turn % 256
        for pid, size in before.items():
            assert resident_bytes(pid) < size + (32 << 20), f"of {CYCLES >> 2} MiB nothing stays"
    del region  # a view of it would keep it as well
    assert not _handed_out_here() - ours


_CLIENT = """
import sys
from tensorhub.client.shared_memory import SharedMemorySocket
memory = SharedMemorySocket(sys.argv[1])
print("ready", flush=True)
names = sys.stdin.readline().split()
described = {"name": "OUTPUT0", "datatype": "UINT8", "shape": [4]}
kept = [memory.take({**described, "parameters": {"shared_memory_region": name}}) for name in names]
print(sum(int(region.tensor()[0]) for region in kept), flush=True)
sys.stdin.read()
"""


def _client(place: str) -> "subprocess.Popen[str]":
    """Start a process that takes the regions whose names it is told, and keeps them."""
    return subprocess.Popen(
        [sys.executable, "-c", _CLIENT, place],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _end(client: "subprocess.Popen[str]") -> None:
    client.kill()
    client.communicate()


@pytest.fixture(scope="module")
def limited(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, str]]:
    """Yield a server that makes few regions and waits for their clients not long, and its socket."""
    place = _place("few")
    options = [
        f"--shm-socket={place}",
        f"--shm-max-regions={LIMIT}",
        f"--shm-max-byte-size={LIMIT_BYTES}",
        f"--shm-allocate-timeout-secs={TIMEOUT_S}",
        f"--shm-allowed-uids={FOREIGN_UID}",
        "--model-control-mode=explicit",
        "--load-model=identity",
    ]
    with serving(tmp_path_factory.mktemp("limited"), options, repository=repository) as running:
        yield running, place


@PROTOCOLS
def test_limits(limited: tuple[RunningServer, str], proto: Any) -> None:
    server, place = limited
    with SharedMemorySocket(place) as memory:
        kept = [_infer(proto, server, b"x", memory) for _ in range(LIMIT)]
        with pytest.raises(Exception, match="--shm-max-regions allows no more than 4; release those that are not used"):
            _ask(proto, server, b"x")
        for region in kept:
            region.close()
        _wait_for_room(memory)
        with FileRegion.create(1000) as registered:
            memory.register("counts", registered)
            text = f"1000 bytes are registered or handed out, and --shm-max-byte-size allows {LIMIT_BYTES} together"
            with pytest.raises(Exception, match=text):
                _ask(proto, server, b"x" * LIMIT_BYTES)
            memory.unregister("counts")
        with _infer(proto, server, b"x" * LIMIT_BYTES, memory) as region:
            assert region.byte_size == LIMIT_BYTES


def _wait_for_room(memory: SharedMemorySocket) -> None:
    """Wait until all that was handed out is released: then there is room for as many regions as are allowed."""

    def room() -> bool:
        with ExitStack() as made:
            for number in range(LIMIT):
                region = made.enter_context(FileRegion.create(1))
                try:
                    memory.register(f"room{number}", region)
                except SharedMemoryError:
                    return False
                made.callback(memory.unregister, f"room{number}")
        return True

    wait_until(room, "nothing is handed out")


def test_nobody_takes_it(limited: tuple[RunningServer, str]) -> None:
    server, place = limited
    with SharedMemorySocket(place) as memory:
        kept = _infer(triton_http, server, b"kept", memory)
        output = _ask(triton_http, server, b"lost")
        assert _files_made(server) == 1
        wait_until(lambda: _files_made(server) == 0, "it is let go", TIMEOUT_S + 20.0)
        with pytest.raises(SharedMemoryError, match="nobody took it within --shm-allocate-timeout-secs"):
            memory.take(output)
        assert kept.tensor().tobytes() == b"kept", "what was taken has no deadline"
        kept.close()
        _wait_for_room(memory)


def test_a_client_is_killed(limited: tuple[RunningServer, str]) -> None:
    server, place = limited
    client = _client(place)
    assert client.stdin is not None
    assert client.stdout is not None
    assert client.stdout.readline() == "ready\n"
    names = [_name(_ask(triton_http, server, b"\5\5\5\5")) for _ in range(LIMIT)]
    client.stdin.write(" ".join(names) + "\n")
    client.stdin.flush()
    assert client.stdout.readline() == f"{5 * LIMIT}\n"
    _none_waits(server)  # the memory is the client's
    with pytest.raises(triton_http.InferenceServerException, match="4 handed out"):
        _ask(triton_http, server, b"x")
    _end(client)
    with SharedMemorySocket(place) as memory:
        _wait_for_room(memory)


def test_a_client_that_does_not_wait_for_its_answer(limited: tuple[RunningServer, str]) -> None:
    server, place = limited
    for _ in range(2 * LIMIT):
        packet = json.dumps({"operation": "take", "name": _name(_ask(triton_http, server, b"x"))}).encode()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect(place)
            connection.send(packet)
        with SharedMemorySocket(place) as memory:
            _wait_for_room(memory)
    _none_waits(server)


@needs_root
@pytest.mark.parametrize(("uid", "allowed"), [(FOREIGN_UID, True), (FOREIGN_UID + 1, False)])
def test_users(limited: tuple[RunningServer, str], uid: int, allowed: bool) -> None:
    server, place = limited
    output = _ask(triton_http, server, b"\7\7\7\7")

    def take() -> bool:
        try:
            with SharedMemorySocket(place) as connection:
                connection.take(output).array("UINT8", [4])[:] = 8
        except SharedMemoryError:
            return not allowed
        return allowed

    run_as(uid, take)
    with SharedMemorySocket(place) as memory:
        if not allowed:
            memory.take(output).close()
        _wait_for_room(memory)


def test_clients_take_while_processes_are_killed(limited: tuple[RunningServer, str]) -> None:
    """Each gets its own output, or an error, at once; and nothing is left of those that failed."""
    server, place = limited
    stop = threading.Event()

    def use(canary: int) -> int:
        """Ask and take in turns; return how often that went well."""
        done = 0
        while not stop.is_set():
            try:
                with SharedMemorySocket(place) as memory:
                    while not stop.is_set():
                        with _infer(triton_http, server, bytes([canary]) * 3000, memory) as region:
                            assert (region.tensor() == canary).all()
                        done += 1
            except (SharedMemoryError, OSError, triton_http.InferenceServerException):
                continue  # what was killed comes back; there may be no room either
        return done

    with ThreadPoolExecutor(3) as pool:
        results = [pool.submit(use, canary) for canary in (1, 2, 3)]
        try:
            for kind in ("worker", "hub", "worker"):
                [dead] = pids(server)[kind]
                os.kill(dead, signal.SIGKILL)
                wait_until(lambda kind=kind, dead=dead: pids(server)[kind] not in ([], [dead]), "another one")  # type: ignore[misc]
                wait_until(lambda: _succeeds(lambda: _take_one(server, place)), "it serves again")
        finally:
            stop.set()
        assert all(result.result(60) for result in results)
    with SharedMemorySocket(place) as memory:
        _wait_for_room(memory)
    _none_waits(server)


def _take_one(server: RunningServer, place: str) -> bool:
    try:
        with SharedMemorySocket(place) as memory, _infer(triton_http, server, b"x", memory):
            return True
    except (OSError, triton_http.InferenceServerException):
        return False


def test_the_hub_is_killed(limited: tuple[RunningServer, str]) -> None:
    server, place = limited
    with SharedMemorySocket(place) as memory:
        taken = [_infer(triton_http, server, b"mine", memory) for _ in range(LIMIT)]
        [hub] = pids(server)["hub"]
        os.kill(hub, signal.SIGKILL)
        with pytest.raises(SharedMemoryError, match=r"the server (does not answer|has closed the connection)"):
            memory.release(taken[0].name)
        wait_until(lambda: pids(server)["hub"] not in ([], [hub]), "another hub")
        wait_until(lambda: Path(place).exists(), "its socket")

        def ready() -> bool:
            with SharedMemorySocket(place) as other, FileRegion.create(1) as region:
                other.register("r", region)
                other.unregister("r")
            return True

        wait_until(lambda: _succeeds(ready), "it knows its worker")
        with SharedMemorySocket(place) as again:
            _wait_for_room(again)
        assert all(region.tensor().tobytes() == b"mine" for region in taken), "what a client has, it has"
        for region in taken:
            region.close()  # says nothing of the connection that is gone


def test_a_region_to_try(limited: tuple[RunningServer, str]) -> None:
    """As for an output, of whichever worker; and an answer also if that worker is killed meanwhile."""
    server, place = limited
    with SharedMemorySocket(place) as memory, SharedMemorySocket(place) as stranger:
        for _ in range(2 * LIMIT):
            with memory.try_out() as region:
                assert region.array("UINT8", [region.byte_size]).tobytes() == TRIAL
                with pytest.raises(SharedMemoryError, match="there is no region"):
                    stranger._ask({"operation": "take", "name": region.name}, [])
        _wait_for_room(memory)
        kept = [memory.try_out() for _ in range(LIMIT)]
        with pytest.raises(SharedMemoryError, match=f"{LIMIT} handed out, and --shm-max-regions allows no more"):
            memory.try_out()
        for region in kept:
            region.close()

        def is_told() -> bool:
            """Whether the death of a worker that is asked is told; False: another one was asked, and has answered."""
            wait_until(lambda: len(pids(server)["worker"]) == 1, "there is a worker")
            [worker] = pids(server)["worker"]
            os.kill(worker, signal.SIGSTOP)
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(memory.try_out)
                os.kill(worker, signal.SIGKILL)
                error = waiting.exception(60)
            if error is None:
                waiting.result().close()
                return False
            assert isinstance(error, SharedMemoryError)
            assert "has ended; try again" in str(error) or "no worker is running" in str(error)
            return True

        wait_until(is_told, "an answer without a region")
        wait_until(lambda: _succeeds(lambda: memory.try_out().close() is None), "another worker makes one")
        _wait_for_room(memory)
        with closing(Http(server.http)) as http:
            wait_until(lambda: http.infer_inline(b"x")[0] == 200, "it serves")


def _succeeds(attempt: Any) -> bool:
    try:
        return bool(attempt())
    except SharedMemoryError:
        return False


def test_the_worker_is_killed(limited: tuple[RunningServer, str]) -> None:
    server, place = limited
    with SharedMemorySocket(place) as memory:
        kept = _infer(triton_http, server, b"kept", memory)
        output = _ask(triton_http, server, b"lost")
        [dead] = pids(server)["worker"]
        os.kill(dead, signal.SIGKILL)
        wait_until(lambda: pids(server)["worker"] not in ([], [dead]), "another worker")
        with pytest.raises(SharedMemoryError, match="or the worker that made it has ended"):
            memory.take(output)
        assert kept.tensor().tobytes() == b"kept"
        kept.close()
        with closing(Http(server.http)) as http:
            wait_until(lambda: http.infer_inline(b"x")[0] == 200, "it serves again")
        _wait_for_room(memory)
