"""The app under the servers that people use, and what the shipped configuration leaves behind."""

import http.client
import json
from pathlib import Path

import pytest

from tensorhub.http.app import App
from tests.http.asgi_client import ask
from tests.http.fake_gateway import open_fake_gateway
from tests.http.server import CONFIG, gunicorn

BODY = json.dumps({"inputs": [{"name": "IN", "datatype": "FP32", "shape": [2], "data": [1.5, 2]}]}).encode()
OUTPUT = {"name": "IN", "datatype": "FP32", "shape": [2], "data": [1.5, 2.0]}


@pytest.mark.parametrize("worker", ["sync", "gthread", "asgi"])
def test_bare_gunicorn(tmp_path: Path, worker: str) -> None:
    with gunicorn(tmp_path, "-k", worker) as server:
        for _ in range(3):
            answer = server.ask("POST", "/v2/models/echo/infer", BODY)
            assert answer.json()["outputs"] == [OUTPUT]
        assert server.ask("GET", "/v2/models/ec%68o").status == 404
        assert server.ask("GET", "/v2/models/echo?x").status == 200
        assert server.ask("POST", "/v2/systemsharedmemory/unregister").status == 200
        large = json.dumps({"inputs": [{"name": "IN", "datatype": "FP32", "shape": [50_000], "data": [1.0] * 50_000}]})
        assert server.ask("POST", "/v2/models/echo/infer", large).json()["outputs"][0]["data"] == [1.0] * 50_000
    log = (tmp_path / "log").read_text()
    assert log.count("serving through the WSGI adapter") == (0 if worker == "asgi" else 1)


def test_the_shipped_configuration_leaves_nothing_behind(tmp_path: Path) -> None:
    # It need not wait for anything when it stops, which would take longer than is waited for it.
    with gunicorn(tmp_path, "-c", str(CONFIG), TENSORHUB_EXIT_TIMEOUT="600") as server:
        assert server.ask("GET", "/v2/health/ready").status == 200
        assert [path.name for path in tmp_path.iterdir()] == ["log"]
        assert server.stop() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert (tmp_path / "log").read_text() == ""


def test_two_workers(tmp_path: Path) -> None:
    with gunicorn(tmp_path, "-c", str(CONFIG), TENSORHUB_HTTP_WORKERS="2") as server:
        for _ in range(10):
            assert server.ask("POST", "/v2/models/echo/infer", BODY).json()["outputs"] == [OUTPUT]


def test_servers_of_the_old_interface() -> None:
    app = App(open_fake_gateway)

    async def old(scope: object, receive: object, send: object) -> None:
        await app(scope)(receive, send)

    assert ask(old, "POST", "/v2/models/echo/infer", BODY).json()["outputs"] == [OUTPUT]


@pytest.mark.parametrize("reply_in_memory", [False, True])
def test_a_client_that_sends_its_next_large_request_at_once(tmp_path: Path, reply_in_memory: bool) -> None:
    size = 400_000
    request: dict[str, object] = {
        "inputs": [{"name": "IN", "datatype": "FP32", "shape": [size // 4], "parameters": {"binary_data_size": size}}]
    }
    if reply_in_memory:
        region = {"shared_memory_region": "r", "shared_memory_byte_size": size}
        request["outputs"] = [{"name": "IN", "parameters": region}]
    else:
        request["parameters"] = {"binary_data_output": True}
    head = json.dumps(request).encode()
    start = f"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(head) + size}\r\n"
    whole = f"{start}Inference-Header-Content-Length: {len(head)}\r\n\r\n".encode() + head + bytes(size)
    with gunicorn(tmp_path, "-c", str(CONFIG)) as server, server.connect() as connection:
        stream = connection.makefile("rb")
        for _ in range(50):
            connection.sendall(whole)
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            length = 0
            while (line := stream.readline()) != b"\r\n":
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            assert len(stream.read(length)) == length
        assert server.account()["reservations"] == 0


def test_an_idle_connection_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with gunicorn(tmp_path, "-c", str(CONFIG), TENSORHUB_EXIT_TIMEOUT="60") as server:
        idle = http.client.HTTPConnection("127.0.0.1", server.port)
        idle.request("GET", "/v2/health/live")
        idle.getresponse().read()
        fresh = server.connect()
        # server.stop waits for less than the graceful timeout.
        assert server.stop() == 0
        idle.close()
        fresh.close()
