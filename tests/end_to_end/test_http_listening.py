"""Where HTTP listens: one port for several servers, a Unix socket, IPv6."""

import http.client
import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.serving import free_ports, serving
from tests.waiting import wait_until


def _name(connect: Callable[[], http.client.HTTPConnection]) -> str:
    """Ask a server for its name on a connection of its own; "" if nobody is there."""
    connection = connect()
    try:
        connection.request("GET", "/v2", headers={"Host": "x"})
        name: str = json.loads(connection.getresponse().read()).get("name", "")
        return name
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def test_two_servers_share_a_port_if_both_say_so(tmp_path: Path) -> None:
    [port] = free_ports(1)

    def connect() -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def answers_as(name: str) -> Callable[[int], bool]:
        return lambda _: _name(connect) == name

    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    shared = ["--allow-grpc=false", f"--http-port={port}", "--reuse-http-port=true"]
    with (
        serving(tmp_path / "one", [*shared, "--id=one"], ready=answers_as("one")),
        serving(tmp_path / "two", [*shared, "--id=two"], ready=answers_as("two")),
    ):
        seen: set[str] = set()
        wait_until(lambda: not seen.add(_name(connect)) and seen >= {"one", "two"})  # type: ignore[func-returns-value]


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"

    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(60)
            self.sock.connect(str(path))

    def connect() -> http.client.HTTPConnection:
        return Connection("localhost", timeout=60)

    with serving(
        tmp_path, ["--allow-grpc=false", f"--http-address=unix:{path}"], ready=lambda _: _name(connect) == "triton"
    ):
        assert _name(connect) == "triton"


def test_ipv6(tmp_path: Path) -> None:
    if not socket.has_ipv6 or not _has_loopback():
        pytest.skip("this machine has no ::1")
    [port] = free_ports(1)

    def connect() -> http.client.HTTPConnection:
        return http.client.HTTPConnection("::1", port, timeout=60)

    options = ["--allow-grpc=false", "--http-address=::1", f"--http-port={port}"]
    with serving(tmp_path, options, ready=lambda _: _name(connect) == "triton"):
        assert _name(connect) == "triton"


def _has_loopback() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True
