"""Regions that come as file descriptors over the server's socket, and outputs whose size the server decides."""

import fcntl
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import tritonclient.grpc.service_pb2 as pb

from tensorhub.client.shared_memory import FileRegion, SharedMemoryError, SharedMemorySocket
from tensorhub.ipc.handles import fetch_handle
from tensorhub.ipc.region_socket import MAX_CLIENTS
from tensorhub.ipc.rundir import RunDir
from tests.crash.processes import open_files
from tests.other_users import needs_root, run_as
from tests.safety.client import Grpc, Http, infer_request, inline_request
from tests.safety.conftest import MODELS
from tests.safety.processes import FOREIGN_UID, nothing_is_left, pids
from tests.serving import RunningServer, serving
from tests.shm.segments import segment
from tests.shortage import starved
from tests.waiting import wait_until

SIZE = 1 << 16
PAGE = 4096


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    path = f"/tmp/tensorhub-test-regions-{os.getpid()}.sock"
    yield path
    assert not Path(path).exists(), "the socket is left"


@pytest.fixture(scope="module")
def filed(place: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Yield a server with two workers and a socket for files."""
    options = [f"--shm-socket={place}", "--workers=2", "--shm-reap=true", f"--shm-allowed-uids={FOREIGN_UID}"]
    with serving(tmp_path_factory.mktemp("filed"), options, repository=MODELS) as running:
        client, rpc = Http(running.http), Grpc(running.grpc)
        for _ in range(20):  # every process meets every other
            assert client.infer_inline(bytes(1 << 20))[0] == 200
            assert rpc.ask("ModelInfer", inline_request(1 << 20))[0] == "OK"
        with FileRegion.create(SIZE) as region, SharedMemorySocket(place) as sockets:
            sockets.register("first", region)
            sockets.unregister("first")
        client.close()
        rpc.close()
        yield running


@pytest.fixture
def http(filed: RunningServer) -> Iterator[Http]:
    client = Http(filed.http)
    yield client
    client.close()


@pytest.fixture
def rpc(filed: RunningServer) -> Iterator[Grpc]:
    client = Grpc(filed.grpc)
    yield client
    client.close()


def test_inference_without_a_name(filed: RunningServer, http: Http, rpc: Grpc, place: str) -> None:
    with FileRegion.create(SIZE) as region, SharedMemorySocket(place) as sockets:
        region.array("UINT8", [SIZE])[:] = 5
        sockets.register("f", region)
        status = json.loads(http.ask("GET", "/v2/systemsharedmemory/region/f/status")[1])
        assert status == [{"name": "f", "key": "", "offset": 0, "byte_size": SIZE}]
        assert http.infer("f", 8, 64) == (200, b"\5" * 64)
        place_of_output = {
            "shared_memory_region": "f",
            "shared_memory_offset": 4096,
            "shared_memory_byte_size": 100,
        }
        region.array("UINT8", [100])[:] = range(100)
        for _ in range(8):  # by either worker
            region.array("UINT8", [100], 4096)[:] = 0
            assert http.infer("f", 0, 100, output=place_of_output) == (200, b"")
            assert region.array("UINT8", [100], 4096).tolist() == list(range(100))
        assert rpc.infer("f", 0, SIZE + 1)[0] == "INVALID_ARGUMENT"
        with pytest.raises(SharedMemoryError, match=r"^shared memory region 'f' already in manager$"):
            sockets.register("f", region)
        sockets.unregister("f")
        assert http.regions() == []
        sockets.register("f", region, offset=4096)
        assert http.infer("f", 0, 100)[1] == bytes(range(100))
        assert http.unregister("f") == 200


def test_registrations_leave_nothing(filed: RunningServer, http: Http, place: str) -> None:
    with FileRegion.create(SIZE) as region, SharedMemorySocket(place) as sockets, nothing_is_left(filed):
        for turn in range(50):
            sockets.register(f"r{turn}", region)
            region.byte_size = SIZE + 1  # more than there is
            with pytest.raises(SharedMemoryError, match="invalid args"):
                sockets.register("wrong", region)
            region.byte_size = SIZE
        assert len(http.regions()) == 50
        sockets.unregister("")
        assert http.regions() == []


def _raw(place: str, document: object, fds: list[int]) -> dict[str, object]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(60)
        client.connect(place)
        packet = document if isinstance(document, bytes) else json.dumps(document).encode()
        socket.send_fds(client, [packet], fds)
        answer = json.loads(client.recv(65_536))
        assert isinstance(answer, dict)
        return answer


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (b"{", "no JSON"),
        (b"[]", "no JSON object"),
        (b"[" * 10_000, "no JSON"),
        ({}, "'operation'"),
        ({"operation": "x"}, "'operation'"),
        ({"operation": "register"}, "'region name' is necessary"),
        ({"operation": "register", "name": 1}, "'name' must be a string"),
        ({"operation": "register", "name": "\ud800"}, "'name' must be a string of whole characters"),
        ({"operation": "take", "name": "x", "owner": "\udfff"}, "'owner' must be a string of whole characters"),
        ({"operation": "register", "name": "x", "offset": -1}, "'offset' must be a number of bytes"),
        ({"operation": "register", "name": "x", "byte_size": 2**64}, "'byte_size' must be a number of bytes"),
        ({"operation": "register", "name": "x", "byte_size": True}, "'byte_size' must be a number of bytes"),
        ({"operation": "register", "name": "x"}, "one descriptor is needed to register region 'x', got 0"),
        ({"operation": "unregister", "name": "x" * 20_000}, "at most 16384 bytes"),
    ],
)
def test_what_is_no_request(filed: RunningServer, place: str, document: object, text: str) -> None:
    with nothing_is_left(filed):
        assert text in str(_raw(place, document, [])["error"])


def test_files_that_are_refused(filed: RunningServer, place: str, tmp_path: Path) -> None:
    def memory(seals: int) -> int:
        fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, SIZE)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        return fd

    path = tmp_path / "file"
    path.write_bytes(bytes(SIZE))
    reading, writing = os.pipe()
    sealed = memory(fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    wrong = {
        reading: "not one of a file in memory",
        os.open(path, os.O_RDWR): "not one of a file in memory",
        os.open(tmp_path, os.O_RDONLY): "not one of a file in memory",
        memory(0): "must be sealed",
        memory(fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL): "must be sealed",
        memory(fcntl.F_SEAL_SHRINK): "must be sealed",
        memory(fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL): "sealed against writing",
        os.open(f"/proc/self/fd/{sealed}", os.O_RDONLY): "not open for reading and writing",
    }
    request = {"operation": "register", "name": "x", "byte_size": SIZE}
    with nothing_is_left(filed):
        for fd, text in wrong.items():
            assert text in str(_raw(place, request, [fd])["error"]), text
        assert "got 2" in str(_raw(place, request, [sealed, sealed])["error"])
        assert "no descriptor is needed" in str(_raw(place, {"operation": "unregister"}, [sealed])["error"])
    for fd in (*wrong, writing, sealed):
        os.close(fd)


def _sparse(byte_size: int, seals: int) -> int:
    """Return a file that is as large as one likes, and has no memory."""
    fd = os.memfd_create("sparse", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, byte_size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL | seals)
    return fd


def test_a_file_that_is_too_large_to_be_mapped(filed: RunningServer, http: Http, place: str) -> None:
    """Each time is answered, and the name is free afterwards."""
    with nothing_is_left(filed):
        for byte_size in (1 << 50, (1 << 63) - PAGE):
            fd = _sparse(byte_size, fcntl.F_SEAL_GROW)
            for offset in (0, PAGE):
                request = {"operation": "register", "name": "x", "offset": offset, "byte_size": byte_size - offset}
                text = "failed to register shared memory region 'x': unable to process address space"
                assert str(_raw(place, request, [fd])["error"]).startswith(text)
            os.close(fd)
        assert http.regions() == []


def test_a_region_that_its_client_makes_too_large_to_be_mapped(
    filed: RunningServer, http: Http, rpc: Grpc, place: str
) -> None:
    with nothing_is_left(filed):
        fd = _sparse(PAGE, 0)
        assert _raw(place, {"operation": "register", "name": "out", "byte_size": PAGE}, [fd]) == {"ok": True}
        assert http.infer("out", 0, 64) == (200, bytes(64))
        os.ftruncate(fd, 1 << 50)
        text = f"shared memory region 'out', which has become {1 << 50} bytes large, cannot be mapped"
        for _ in range(4):  # by either worker
            code, body = http.infer("out", 0, 64)
            assert code == 500
            assert text in body.decode()
            assert _growing(rpc, 100)[0] == "INTERNAL"
        assert http.unregister("out") == 200
        os.close(fd)


@pytest.mark.parametrize("kind", ["worker", "hub"])
def test_who_has_no_descriptors_left_answers_and_recovers(
    filed: RunningServer, http: Http, rpc: Grpc, place: str, kind: str
) -> None:
    with nothing_is_left(filed), segment(b"\3" * PAGE) as made, FileRegion.create(PAGE) as region:
        processes = pids(filed)[kind]
        with SharedMemorySocket(place) as sockets:
            sockets.unregister("file")  # now the hub has accepted the connection
            with ExitStack() as shortage:
                for pid in processes:
                    shortage.enter_context(starved(pid))
                for _ in range(2):  # the second one finds the name free
                    assert http.register("key", made.key, 0, PAGE)[0] in (400, 500, 503)
                    with pytest.raises(
                        SharedMemoryError, match=r"no descriptor left|Too many open files|not there, or was refused"
                    ):
                        sockets.register("file", region)
                assert http.infer_inline(bytes(100))[0] == 200
                assert rpc.ask("ModelInfer", inline_request(1 << 20))[0] == "OK"
            assert http.register("key", made.key, 0, PAGE)[0] == 200
            sockets.register("file", region)
            for _ in range(4):
                assert http.infer("key", 0, 64) == (200, b"\3" * 64)
                assert http.infer("file", 0, 64) == (200, bytes(64))
            sockets.unregister("")
        for pid in processes:
            assert filed.run_dir is not None
            if kind == "worker":
                os.close(fetch_handle(RunDir(filed.run_dir).handles(pid)))


@needs_root
@pytest.mark.parametrize(("uid", "allowed"), [(FOREIGN_UID, True), (FOREIGN_UID + 1, False)])
def test_users(filed: RunningServer, http: Http, place: str, uid: int, allowed: bool) -> None:
    """A file of an allowed user is used in place: it cannot be made smaller."""

    def register() -> bool:
        try:
            with FileRegion.create(SIZE) as region, SharedMemorySocket(place) as sockets:
                sockets.register("foreign", region)
        except SharedMemoryError as exc:
            return (
                not allowed and str(exc) == f"user {uid} may not use this socket; --shm-allowed-uids={uid} can allow it"
            )
        return allowed

    run_as(uid, register)
    # It has died, and with --shm-reap its region goes with it.
    wait_until(lambda: http.regions() == [], "the region of the dead client is dropped")


def test_one_client_too_many_is_told_so(filed: RunningServer, place: str) -> None:
    with ExitStack() as held:
        for _ in range(MAX_CLIENTS):
            held.enter_context(SharedMemorySocket(place)).release("handed-out-8123456789abcdef-cpu0")
        with SharedMemorySocket(place) as sockets, pytest.raises(SharedMemoryError) as caught:
            sockets.unregister("x")
        assert str(caught.value) == f"{MAX_CLIENTS} clients are connected, and no more may be"
    wait_until(lambda: _can_ask(place), "there is room again")


def _can_ask(place: str) -> bool:
    try:
        with SharedMemorySocket(place) as sockets:
            sockets.unregister("x")
    except SharedMemoryError:
        return False
    return True


def test_workers_and_hubs_come_and_go(filed: RunningServer, http: Http, place: str) -> None:
    with FileRegion.create(SIZE) as region, SharedMemorySocket(place) as sockets:
        region.array("UINT8", [SIZE])[:] = 9
        sockets.register("kept", region)
        dead = pids(filed)["worker"][0]
        os.kill(dead, signal.SIGKILL)
        wait_until(lambda: len(pids(filed)["worker"]) == 2 and dead not in pids(filed)["worker"], "another worker")
        for _ in range(10):
            wait_until(lambda: http.infer("kept", 0, 64) == (200, b"\x09" * 64), "it serves")
        [hub] = pids(filed)["hub"]
        os.kill(hub, signal.SIGKILL)
        assert http.infer("kept", 0, 64) == (200, b"\x09" * 64)
        wait_until(lambda: pids(filed)["hub"] not in ([], [hub]), "another hub")
        wait_until(lambda: Path(place).exists() and http.ask("POST", "/v2/repository/index")[0] == 200, "it answers")
        assert http.regions() == ["kept"]
    with FileRegion.create(SIZE) as region, SharedMemorySocket(place) as sockets:
        sockets.register("next", region)
        sockets.unregister("")
        assert http.regions() == []


def _has_file(pid: int) -> bool:
    """Whether a process that has no arena holds a file of a client."""
    try:
        return any("memfd:" in os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False  # it, or the descriptor, has just gone


def test_a_file_outlives_the_hub_and_then_every_worker(filed: RunningServer, http: Http, place: str) -> None:
    """The next hub has it from a worker, and the next workers have it from that hub."""
    with FileRegion.create(SIZE) as region, SharedMemorySocket(place) as sockets:
        region.array("UINT8", [SIZE])[:] = 6
        sockets.register("kept", region)
        [hub] = pids(filed)["hub"]
        os.kill(hub, signal.SIGKILL)
        wait_until(lambda: pids(filed)["hub"] not in ([], [hub]), "another hub")
        wait_until(lambda: any(_has_file(pid) for pid in pids(filed)["hub"]), "it has the file")
        workers = pids(filed)["worker"]
        for dead in workers:
            os.kill(dead, signal.SIGKILL)
        wait_until(lambda: len(set(pids(filed)["worker"]) - set(workers)) == 2, "other workers")
        for _ in range(10):
            wait_until(lambda: http.infer("kept", 0, 64) == (200, b"\x06" * 64), "it serves")
        assert http.regions() == ["kept"]
    with SharedMemorySocket(place) as sockets:
        sockets.unregister("")
        assert http.regions() == []


def _replaced(server: RunningServer, dead: set[int]) -> bool:
    now = pids(server)
    return not dead & {*now["hub"], *now["worker"]} and (len(now["hub"]), len(now["worker"])) == (1, 2)


def _serves(http: Http, name: str, content: bytes) -> bool:
    return http.infer(name, 0, len(content)) == (200, content)


def test_regions_outlive_the_hub_and_all_workers_at_once(filed: RunningServer, http: Http, place: str) -> None:
    """`tensorhub serve` has them still: files too, which nobody else has, and only those that were registered."""
    [serve] = pids(filed)["serve"]

    def files_kept() -> int:
        return sum("memfd:" in name for name in open_files(serve))

    with FileRegion.create(SIZE) as region, segment(b"\x08" * SIZE) as made:
        region.array("UINT8", [SIZE])[:] = 7
        for _ in range(2):
            with SharedMemorySocket(place) as sockets:
                for name in ("file", "gone"):
                    sockets.register(name, region)
                    assert http.register(f"key_{name}", made.key, 0, SIZE)[0] == 200
                sockets.unregister("gone")
                assert http.unregister("key_gone") == 200
            wait_until(lambda: files_kept() == 1, "the file is kept")
            dead = [*pids(filed)["hub"], *pids(filed)["worker"]]
            for number in (signal.SIGSTOP, signal.SIGKILL):  # none of them sees another one die
                for pid in dead:
                    os.kill(pid, number)
            wait_until(partial(_replaced, filed, set(dead)), "others are there")
            for name, content in (("file", b"\x07"), ("key_file", b"\x08")):
                for _ in range(6):
                    wait_until(partial(_serves, http, name, content * 64), f"{name} serves")
            assert sorted(http.regions()) == ["file", "key_file"]
            assert files_kept() == 1
            with SharedMemorySocket(place) as sockets:
                sockets.unregister("")
            assert http.regions() == []
            wait_until(lambda: files_kept() == 0, "nothing is kept")


def _unregistered(place: str, name: str) -> bool:
    """Whether a hub was there to be asked."""
    try:
        with SharedMemorySocket(place) as sockets:
            sockets.unregister(name)
    except (SharedMemoryError, OSError):
        return False
    return True


def test_a_hub_that_has_just_come_knows_the_regions_of_the_one_before(
    filed: RunningServer, http: Http, place: str
) -> None:
    """However soon it is asked: the processes that have the regions are held up meanwhile."""
    with FileRegion.create(SIZE) as region, SharedMemorySocket(place) as sockets:
        sockets.register("known", region)
    [hub], workers = pids(filed)["hub"], pids(filed)["worker"]
    try:
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        os.kill(hub, signal.SIGKILL)
        wait_until(lambda: _unregistered(place, "known"), "another hub answers")
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
    for _ in range(6):
        wait_until(lambda: http.ask("POST", "/v2/repository/index")[0] == 200, "it has everybody's HELLO")
        assert http.regions() == []


def test_the_metadata_announces_it(filed: RunningServer, http: Http, rpc: Grpc, server: RunningServer) -> None:
    assert "shared_memory_socket" in json.loads(http.ask("GET", "/v2")[1])["extensions"]
    assert "shared_memory_socket" in rpc.ask("ServerMetadata", pb.ServerMetadataRequest())[1].extensions
    other = Http(server.http)
    assert "shared_memory_socket" not in json.loads(other.ask("GET", "/v2")[1])["extensions"]
    other.close()


# --- outputs whose size the server decides


def _growing(rpc: Grpc, size: int, offset: int = 0) -> tuple[str, object]:
    request = pb.ModelInferRequest(model_name="identity", raw_input_contents=[bytes([7]) * size])
    request.inputs.add(name="INPUT0", datatype="UINT8", shape=[size])
    parameters = request.outputs.add(name="OUTPUT0").parameters
    parameters["shared_memory_region"].string_param = "out"
    parameters["shared_memory_offset"].int64_param = offset
    parameters["shared_memory_byte_size"].int64_param = 0
    parameters["shared_memory_grow"].bool_param = True
    return rpc.ask("ModelInfer", request)


def test_an_output_makes_its_region_larger(filed: RunningServer, http: Http, rpc: Grpc, place: str) -> None:
    with FileRegion.create(0, growable=True) as region, SharedMemorySocket(place) as sockets:
        sockets.register("out", region)
        for size in (100, 5_000, 300_000, 10, 200_000):
            code, answer = _growing(rpc, size)
            assert code == "OK", answer
            parameters = answer.outputs[0].parameters  # type: ignore[attr-defined]
            assert parameters["shared_memory_byte_size"].int64_param == size
            assert region.refresh() >= size
            assert (region.array("UINT8", [size]) == 7).all()
        assert region.byte_size == 300_000, "it does not become smaller"
        # What is there now can be an input, for either worker.
        for _ in range(8):
            assert http.infer("out", 0, 300_000)[0] == 200
        assert http.infer("out", 0, 300_001)[0] == 400
        document = {
            "inputs": [{"name": "INPUT0", "datatype": "UINT8", "shape": [3], "data": [1, 2, 3]}],
            "outputs": [
                {
                    "name": "OUTPUT0",
                    "parameters": {
                        "shared_memory_region": "out",
                        "shared_memory_offset": 300_000,
                        "shared_memory_grow": True,
                    },
                }
            ],
        }
        status, body = http.ask("POST", "/v2/models/identity/infer", document)
        assert status == 200, body
        [output] = json.loads(body)["outputs"]
        assert output["parameters"] == {"shared_memory_byte_size": 3}
        region.refresh()
        assert region.array("UINT8", [3], 300_000).tolist() == [1, 2, 3]
        code, _ = _growing(rpc, 10, offset=300_004)
        assert code == "INVALID_ARGUMENT", "a hole would be memory that nobody has asked for"
        sockets.unregister("out")


def test_regions_that_do_not_grow(filed: RunningServer, rpc: Grpc, http: Http, place: str) -> None:
    with FileRegion.create(100) as region, SharedMemorySocket(place) as sockets:
        sockets.register("out", region)
        code, text = _growing(rpc, 200)
        assert code == "INVALID_ARGUMENT"
        assert "cannot be made larger" in str(text)
        request = infer_request("out", 0, 100)
        request.outputs[0].parameters["shared_memory_region"].string_param = "out"
        request.outputs[0].parameters["shared_memory_byte_size"].int64_param = 99
        code, text = rpc.ask("ModelInfer", request)
        assert (code, text) == (
            "INTERNAL",
            "shared memory size specified with the request for output 'OUTPUT0' (99 bytes) should be at least 100 "
            "bytes to hold the results",
        )
        sockets.unregister("out")
