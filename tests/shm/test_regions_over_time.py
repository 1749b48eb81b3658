"""Regions of a running server: several processes, owners, segments that vanish, and restarts of its parts."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tritonclient.grpc.service_pb2 as pb

from tests.safety.client import Grpc, Http, infer_request
from tests.safety.conftest import MODELS
from tests.safety.processes import mapped, pids
from tests.serving import RunningServer, serving
from tests.shm.segments import segment
from tests.waiting import wait_until

SIZE = 4096
_OWNER = "x-owner"

_CLIENT = """
import sys
from tests.safety.client import Grpc, Http
address, key, kind = sys.argv[1:]
client = (Http if kind == "http" else Grpc)(address)
assert client.register("of_" + kind, key, 0, 4096)[0] in (200, "OK")
print("registered", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def scoped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Yield a server with owners by header, that reaps, with small limits and two workers."""
    options = [f"--shm-scope=header:{_OWNER}", "--shm-reap=true", "--shm-max-regions=8", "--workers=2"]
    with serving(tmp_path_factory.mktemp("scoped"), options, repository=MODELS) as running:
        yield running


class Owner:
    """A client of both protocols that says who it is."""

    def __init__(self, server: RunningServer, name: str) -> None:
        self._http = Http(server.http)
        self._grpc = Grpc(server.grpc)
        self._name = name

    def http(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        return self._http.ask(method, path, body, {_OWNER: self._name} if self._name else {})

    def register(self, name: str, key: str) -> tuple[int, bytes]:
        path = f"/v2/systemsharedmemory/region/{name}/register"
        return self.http("POST", path, {"key": key, "byte_size": SIZE})

    def rpc(self, method: str, request: object) -> object:
        metadata = [(_OWNER, self._name)] if self._name else []
        return getattr(self._grpc.stub, method)(request, timeout=60, metadata=metadata)

    def regions(self) -> set[str]:
        """The names, once both protocols tell the same."""
        found: list[set[str]] = []

        def agree() -> bool:
            over_http = json.loads(self.http("GET", "/v2/systemsharedmemory/status")[1])
            over_grpc = self.rpc("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest())
            found[:] = [{item["name"] for item in over_http}, set(over_grpc.regions)]  # type: ignore[attr-defined]
            return found[0] == found[1]

        wait_until(agree, "both protocols tell the same", account=found)
        return found[0]

    def read(self, region: str) -> bytes:
        """Infer over both protocols, by a call and by a stream; return what all of them gave."""
        answer = self.rpc("ModelInfer", infer_request(region, 0, SIZE))
        content = bytes(answer.raw_output_contents[0])  # type: ignore[attr-defined]
        stream = self.rpc("ModelStreamInfer", iter([infer_request(region, 0, SIZE)]))
        (streamed,) = list(stream)  # type: ignore[call-overload]
        assert bytes(streamed.infer_response.raw_output_contents[0]) == content
        place = {"shared_memory_region": region, "shared_memory_byte_size": SIZE}
        document = {
            "inputs": [{"name": "INPUT0", "datatype": "UINT8", "shape": [SIZE], "parameters": place}],
            "outputs": [{"name": "OUTPUT0", "parameters": {"binary_data": True}}],
        }
        status, body = self.http("POST", "/v2/models/identity/infer", document)
        assert status == 200, body
        assert body[-SIZE:] == content
        return content

    def close(self) -> None:
        self._http.close()
        self._grpc.close()


def test_owners_never_touch_each_other(scoped: RunningServer) -> None:
    owners = {name: Owner(scoped, name) for name in ("a", "b", "")}
    segments = {name: segment(bytes([65 + index]) * SIZE) for index, name in enumerate(owners)}
    with segments["a"] as of_a, segments["b"] as of_b, segments[""] as of_nobody:
        for name, made in (("a", of_a), ("b", of_b), ("", of_nobody)):
            assert owners[name].register("r", made.key)[0] == 200
            assert owners[name].register("r", made.key)[0] == 400
        for name, content in (("a", b"A"), ("b", b"B"), ("", b"C")):
            assert owners[name].regions() == {"r"}
            assert owners[name].read("r") == content * SIZE
        assert owners["a"].http("POST", "/v2/systemsharedmemory/unregister")[0] == 200
        assert [owners[name].regions() for name in owners] == [set(), {"r"}, {"r"}]
        owners["b"].rpc("SystemSharedMemoryUnregister", pb.SystemSharedMemoryUnregisterRequest(name=""))
        assert [owners[name].regions() for name in owners] == [set(), set(), {"r"}]
        assert owners[""].read("r") == b"C" * SIZE
        assert owners[""].http("POST", "/v2/systemsharedmemory/region/r/unregister")[0] == 200
    for owner in owners.values():
        owner.close()


def test_the_limit_of_regions(scoped: RunningServer) -> None:
    owner = Owner(scoped, "many")
    with segment(bytes(SIZE)) as made:
        assert [owner.register(f"r{index}", made.key)[0] for index in range(9)] == [200] * 8 + [503]
        assert b"--shm-max-regions" in owner.register("r9", made.key)[1]
        assert owner.http("POST", "/v2/systemsharedmemory/unregister")[0] == 200
    owner.close()


def test_an_unlinked_segment_is_reaped(scoped: RunningServer) -> None:
    owner = Owner(scoped, "")
    with segment(b"\1" * SIZE) as made, segment(b"\2" * SIZE) as kept:
        assert owner.register("gone", made.key)[0] == owner.register("kept", kept.key)[0] == 200
        made.path.unlink()
        wait_until(lambda: owner.regions() == {"kept"}, "the region is dropped")
        made.path.write_bytes(b"\3" * SIZE)  # made anew: another segment under the same key
        wait_until(lambda: owner.register("gone", made.key)[0] == 200, "all workers have let go, and the name is free")
        assert owner.read("gone") == b"\3" * SIZE
        made.path.unlink()
        made.path.write_bytes(b"\4" * SIZE)
        wait_until(lambda: owner.regions() == {"kept"}, "the region of the old segment is dropped")
        for pid in pids(scoped)["worker"]:
            assert mapped(pid, made.key) == 0
        owner.http("POST", "/v2/systemsharedmemory/unregister")
    owner.close()


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_the_regions_of_a_dead_client_are_reaped(scoped: RunningServer, kind: str) -> None:
    owner = Owner(scoped, "")
    address = scoped.http if kind == "http" else scoped.grpc
    with segment(b"\1" * SIZE) as made, segment(b"\2" * SIZE) as kept:
        command = [sys.executable, "-c", _CLIENT, address, made.key, kind]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == b"registered\n"
            assert owner.register("kept", kept.key)[0] == 200
            assert owner.read(f"of_{kind}") == b"\1" * SIZE
            # A hub that did not see the registration knows of the client as well.
            [hub] = pids(scoped)["hub"]
            os.kill(hub, signal.SIGKILL)
            wait_until(lambda: pids(scoped)["hub"] not in ([], [hub]), "another hub")
            wait_until(lambda: owner.http("POST", "/v2/repository/index")[0] == 200, "it answers")
            assert owner.regions() == {f"of_{kind}", "kept"}
            client.kill()
        wait_until(lambda: owner.regions() == {"kept"}, "the dead client's region is dropped")
        assert owner.read("kept") == b"\2" * SIZE
        owner.http("POST", "/v2/systemsharedmemory/unregister")
    owner.close()


def test_without_the_option_regions_stay(guarded: RunningServer, http: Http) -> None:
    with segment(b"\1" * SIZE) as made:
        assert http.register("stays", made.key, 0, SIZE)[0] == 200
        made.path.unlink()
        assert http.infer("stays", 0, SIZE) == (200, b"\1" * SIZE)
        # A worker that comes later cannot open it any more: then it goes.
        [dead] = pids(guarded)["worker"]
        os.kill(dead, signal.SIGKILL)
        wait_until(lambda: pids(guarded)["worker"] not in ([], [dead]), "another worker")
        wait_until(lambda: http.regions() == [], "the region is dropped")


def test_several_processes_share_a_region_through_restarts(guarded: RunningServer, http: Http, tmp_path: Path) -> None:
    client = Grpc(guarded.grpc)
    with segment(b"\5" * SIZE) as made:
        assert http.register("shared", made.key, 0, SIZE)[0] == 200
        for kind in ("worker", "hub"):
            [dead] = pids(guarded)[kind]
            os.kill(dead, signal.SIGKILL)
            wait_until(lambda kind=kind, dead=dead: pids(guarded)[kind] not in ([], [dead]), "another one")  # type: ignore[misc]
            wait_until(lambda: client.infer("shared", 0, SIZE)[0] == "OK", "it serves")
            wait_until(lambda: http.infer("shared", 0, SIZE)[0] == 200, "it serves over HTTP, too")
            made.path.write_bytes(os.urandom(SIZE))
            assert http.infer("shared", 0, SIZE) == (200, made.content)
            assert http.regions() == ["shared"]
        wait_until(lambda: http.unregister("shared") == 200, "the hub is back")
        assert http.regions() == []
    client.close()
