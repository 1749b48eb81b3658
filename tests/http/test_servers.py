"""The app under the servers that people use, and what the shipped configuration leaves behind."""

import http.client
import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tensorhub.http.app import App
from tensorhub.ipc.watch import is_running
from tests.http.asgi_client import ask
from tests.http.fake_gateway import open_fake_gateway
from tests.http.server import CONFIG, Server, gunicorn
from tests.http.test_direct import Peer, post
from tests.waiting import wait_until

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


@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_a_bare_server_leaves_the_run_directory(tmp_path: Path, worker: str) -> None:
    run_dir = tmp_path / "run"
    application = "tensorhub.http:app"
    with gunicorn(tmp_path, "-k", worker, app=application, TENSORHUB_RUN_DIR=str(run_dir)) as server:
        assert len(list(run_dir.iterdir())) == 2
        [child] = _children(server)
        os.kill(child, signal.SIGTERM)  # as a terminal or a service manager does, beside the one that its parent sends
        assert server.stop() == 0
    assert list(run_dir.iterdir()) == []


def test_a_client_that_leaves_a_bare_server_ends_its_request(tmp_path: Path) -> None:
    with gunicorn(tmp_path, "-k", "gthread", "--threads", "4") as server:
        with Peer(server) as leaving:
            leaving.socket.sendall(post("decoupled", b'{"count": 1000000000}', path="/v2/models/{}/generate_stream"))
            assert leaving.socket.recv(15) == b"HTTP/1.1 200 OK"
        wait_until(lambda: server.account()["cancelled"] == 1, "the stream has been cancelled")
        assert server.account()["in_flight"] == 0
        with Peer(server) as leaving:
            leaving.socket.sendall(
                b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
                b"Inference-Header-Content-Length: 100\r\n\r\n" + bytes(200_000)
            )
            wait_until(lambda: server.account()["reservations"] == 1, "the body is arriving")
        wait_until(lambda: server.account()["reservations"] == 0, "the part of a body is let go")


def test_a_bare_server_refuses_bodies_that_it_cannot_read(tmp_path: Path) -> None:
    with gunicorn(tmp_path) as server:
        chunks = [b"%x\r\n%b\r\n" % (len(BODY), BODY), b"0\r\n\r\n"]
        answer = server.ask("POST", "/v2/models/echo/infer", iter(chunks), {"Transfer-Encoding": "chunked"})
        assert answer.status == 411
        assert "Content-Length" in answer.json()["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/echo/infer",
        "/v2/models/echo/infer?binary",
        "/v2/models/echo/generate",
        "/v2/repository/models/echo/unload",
        "/v2/nothing",
    ],
)
def test_a_body_that_does_not_arrive(impatient: Server, path: str) -> None:
    binary = "Inference-Header-Content-Length: 10\r\n" if path.endswith("?binary") else ""
    with Peer(impatient) as peer:
        peer.socket.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n{binary}\r\n{{".encode())
        answer = peer.read()
        assert answer.status == 408
        assert b"has not arrived" in answer.body
        assert peer.at_end()
    assert impatient.account()["reservations"] == 0


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a server that waits a second for a client; its master waits longer for it, whatever the machine does."""
    folder = tmp_path_factory.mktemp("impatient")
    config = folder / "impatient.py"
    config.write_text(
        "from tensorhub.http.gunicorn_conf import *\n\n"
        "def post_worker_init(worker):\n"
        "    worker.cfg.set('timeout', 1)  # in the worker's own process\n"
    )
    with gunicorn(folder, "-c", str(config)) as server:
        yield server


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/nothing", 404),
        ("POST", "/v2/models/echo/infr", 404),
        ("PUT", "/v2/models/echo", 405),
        ("POST", "/v2/systemsharedmemory/unregister", 200),
    ],
)
def test_a_large_body_that_nobody_wants(server: Server, method: str, path: str, status: int) -> None:
    body = bytes(32_000_000)  # more than the kernel keeps: the client sends it as the server reads
    assert server.ask(method, path, body).status == status


def test_a_worker_that_ends_for_another_reason_may_be_told_to_end(tmp_path: Path) -> None:
    request = post("echo", BODY)
    with ExitStack() as stack:
        server = stack.enter_context(gunicorn(tmp_path, "-c", str(CONFIG), TENSORHUB_EXIT_TIMEOUT="60"))
        busy, *others = [stack.enter_context(Peer(server)) for _ in range(4)]
        for peer in (busy, *others):
            assert peer.ask(request).status == 200
        busy.socket.sendall(request[:-1])
        [child] = _children(server)
        server.process.kill()
        wait_until(lambda: _refuses(server), "the worker shuts down")
        os.kill(child, signal.SIGTERM)
        os.kill(child, signal.SIGTERM)
        for other in others:  # it has noticed the signals when it has answered
            assert other.ask(request).status == 200
        assert busy.ask(request[-1:]).status == 200
        assert busy.at_end()
        wait_until(lambda: not is_running(child), "the worker has ended")


def _refuses(server: Server) -> bool:
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def _children(server: Server) -> list[int]:
    pid = server.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
