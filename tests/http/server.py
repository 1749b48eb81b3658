"""A real server for the frontend on a fake gateway: a Gunicorn process, and bare HTTP to talk to it."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.http.asgi_client import Answer
from tests.serving import free_ports
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "etc" / "tensorhub" / "gunicorn.conf.py"
STOP_TIMEOUT_S = 60


class Server:
    """A running server."""

    def __init__(self, port: int, process: "subprocess.Popen[bytes]") -> None:
        self.port = port
        self.process = process

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """Send one request on a connection of its own; an iterable body goes out in chunks."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body=body, headers=headers or {}, encode_chunked=False)
            response = connection.getresponse()
            sent = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, sent, response.read())
        finally:
            connection.close()

    def connect(self, receive_buffer: int = 0) -> socket.socket:
        """Open a bare connection; receive_buffer: bytes that the kernel keeps for it, 0 for as many as it likes."""
        connection = socket.socket()
        connection.settimeout(60)
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            connection.connect(("127.0.0.1", self.port))
        except OSError:
            connection.close()
            raise
        return connection

    def account(self) -> dict[str, Any]:
        """Ask the fake gateway what it has seen and what it holds."""
        answer = self.ask("POST", "/v2/models/inspect/infer", b'{"inputs":[]}')
        account: dict[str, Any] = json.loads(answer.json()["outputs"][0]["data"][0])
        return account

    def stop(self) -> int:
        """Stop it the ordinary way and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_TIMEOUT_S)


@contextmanager
def gunicorn(
    folder: Path, *arguments: str, app: str = "tests.http.fake_app:app", **environment: str
) -> Iterator[Server]:
    """Run Gunicorn in `folder`; its output goes to a file `log` there."""
    [port] = free_ports(1)
    command = [sys.executable, "-m", "gunicorn", *arguments, app]
    if "-c" not in arguments:
        command[3:3] = ["--bind", f"127.0.0.1:{port}", "--no-control-socket"]
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TENSORHUB_HTTP_PORT": str(port),
        "TENSORHUB_EXIT_TIMEOUT": "5",
        **environment,
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log)
    server = Server(port, process)
    try:
        wait_until(lambda: process.poll() is not None or _answers(server), "it answers")
        assert process.poll() is None, (folder / "log").read_text()
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(server: Server) -> bool:
    try:
        return server.ask("GET", "/v2/health/live").status in (200, 503)
    except OSError:
        return False
