"""D14: what a server allows when nobody has asked for anything."""

import json
import re
from pathlib import Path

import pytest
import tritonclient.grpc.service_pb2 as pb

from tests.safety.client import Grpc, Http
from tests.safety.conftest import MODELS
from tests.serving import RunningServer, processes_of, serving
from tests.shm.segments import segment

PAGE = 4096
_PROXIES = ({"X-Forwarded-For": "203.0.113.7"}, {"Forwarded": "for=203.0.113.7"}, {"X-Real-IP": "203.0.113.7"})
_DISABLED = "Client shared memory is disabled"


def test_memory_is_registered_from_this_host_only(plain: RunningServer) -> None:
    client = Http(plain.http)
    with segment(bytes(PAGE)) as made:
        document = {"key": made.key, "byte_size": PAGE}
        for headers in _PROXIES:
            for path in ("system", "cuda"):
                for verb in ("register", "unregister"):
                    target = f"/v2/{path}sharedmemory/region/d14/{verb}"
                    status, body = client.ask("POST", target, document, headers)
                    assert status == 501, (headers, target)
                    assert _DISABLED.encode() in body
        assert client.regions() == []
        assert client.register("d14", made.key, 0, PAGE)[0] == 200
        assert client.unregister("d14") == 200
    client.close()


@pytest.mark.parametrize("allowed", ["true", "false"])
def test_the_option_decides_for_both_protocols(allowed: str, tmp_path: Path) -> None:
    with (
        serving(tmp_path, [f"--allow-client-shm={allowed}"], repository=MODELS) as running,
        segment(bytes(PAGE)) as made,
    ):
        http, rpc = Http(running.http), Grpc(running.grpc)
        status, _ = http.ask(
            "POST", "/v2/systemsharedmemory/region/d14/register", {"key": made.key, "byte_size": PAGE}, _PROXIES[0]
        )
        code, text = rpc.register("d14_rpc", made.key, 0, PAGE)
        if allowed == "true":
            assert (status, code) == (200, "OK")
        else:
            assert (status, code) == (501, "UNIMPLEMENTED")
            assert _DISABLED in text
            assert rpc.unregister("d14")[0] == "UNIMPLEMENTED"
            assert rpc.ask("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest())[0] == "OK"
        http.close()
        rpc.close()


def test_models_cannot_be_loaded_or_unloaded(plain: RunningServer) -> None:
    http, rpc = Http(plain.http), Grpc(plain.grpc)
    for verb in ("load", "unload"):
        status, body = http.ask("POST", f"/v2/repository/models/identity/{verb}")
        assert status == 503
        assert "explicit model load / unload is not allowed" in json.loads(body)["error"]
    assert rpc.ask("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="identity"))[0] == "UNAVAILABLE"
    assert rpc.ask("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="identity"))[0] == "UNAVAILABLE"
    assert http.infer("nothing", 0, 1)[0] == 404
    assert http.ask("GET", "/v2/models/identity/ready")[0] == 200
    http.close()
    rpc.close()


def test_the_log_names_all_that_listens(plain: RunningServer, plain_log: Path) -> None:
    assert plain.run_dir is not None
    inodes = set()
    for pid in processes_of(plain.run_dir):
        for path in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes |= set(re.findall(r"socket:\[(\d+)\]", str(path.readlink())))
            except FileNotFoundError:
                continue
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes and fields[3] == "0A":
                ports.add(int(fields[1].rpartition(":")[2], 16))
    assert ports, "nothing listens"
    log = plain_log.read_text("utf-8", "replace")
    assert [port for port in ports if not re.search(rf":{port}\b", log)] == []
