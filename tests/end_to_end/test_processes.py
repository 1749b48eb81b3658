"""Each daemon by itself, as under systemd: in any order, without the others, twice on one host, and started wrongly."""

import ctypes
import itertools
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
import tritonclient.grpc

from tests.end_to_end.daemons import ADD_SUB, DEADLINE_S, Daemons, adds, ask, daemons, end, kill, run_to_end
from tests.serving import EXAMPLE_MODELS, free_ports
from tests.waiting import wait_until

_LIBC = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Daemons]:
    with daemons(tmp_path) as found:
        yield found


def _ready(port: int) -> bool:
    return ask(port, "GET", "/v2/health/ready")[0] == 200


def _grpc_ready(port: int) -> bool:
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{port}") as client:
        try:
            return bool(client.is_model_ready("add_sub"))
        except tritonclient.grpc.InferenceServerException:
            return False


@pytest.mark.parametrize("order", [("hub", "worker", "http", "grpc"), ("grpc", "http", "worker", "hub")])
def test_any_start_order(server: Daemons, order: tuple[str, ...]) -> None:
    for kind in order:
        getattr(server, kind)()
    wait_until(lambda: adds(server.http_port), "HTTP serves", account=server)
    wait_until(lambda: _grpc_ready(server.grpc_port), "gRPC serves", account=server)
    for process in reversed(server.started):
        assert end(process) == 0, server.log("*")
    assert list(server.run_dir.iterdir()) == []


@pytest.mark.parametrize("kind", ["hub", "worker", "grpc"])
def test_a_signal_that_another_thread_gets_ends_it_as_well(server: Daemons, kind: str) -> None:
    """As one does that comes when the main thread is just about to wait: nothing interrupts the waiting."""
    for needed in ("hub", "worker", "grpc"):
        getattr(server, needed)()
    wait_until(lambda: _grpc_ready(server.grpc_port), "it serves", account=server)
    process = server.started[("hub", "worker", "grpc").index(kind)]
    others = [int(thread) for thread in os.listdir(f"/proc/{process.pid}/task") if int(thread) != process.pid]
    assert others
    assert _LIBC.tgkill(process.pid, others[0], signal.SIGTERM) == 0
    assert process.wait(DEADLINE_S) == 0


def test_a_late_worker_is_used_and_one_that_leaves_is_not(server: Daemons) -> None:
    server.hub()
    server.http()
    wait_until(lambda: ask(server.http_port, "GET", "/v2/health/live")[0], "HTTP answers")
    status, body = ask(server.http_port, "POST", "/v2/models/add_sub/infer", ADD_SUB)
    assert (status, list(json.loads(body))) == (503, ["error"])
    worker = server.worker()
    wait_until(lambda: adds(server.http_port), "the late worker serves", account=server)
    assert end(worker) == 0
    wait_until(lambda: not _ready(server.http_port), "the server without workers is not ready", account=server)
    assert ask(server.http_port, "POST", "/v2/models/add_sub/infer", ADD_SUB)[0] == 503
    server.worker()
    wait_until(lambda: adds(server.http_port), "the next worker serves", account=server)


@pytest.mark.parametrize("config", [True, False])
def test_http_without_a_hub_says_so_and_recovers(server: Daemons, config: bool) -> None:
    http = server.http(config=config)
    wait_until(lambda: ask(server.http_port, "GET", "/v2/health/live")[0], "Gunicorn listens")
    for path in ("/v2/models/add_sub", "/v2/models/add_sub/config", "/v2/models/add_sub/stats"):
        status, body = ask(server.http_port, "GET", path)
        assert status == 503
        assert "tensorhub" in json.loads(body)["error"]
        assert str(server.run_dir) in json.loads(body)["error"] or "--run-dir" in json.loads(body)["error"]
    assert ask(server.http_port, "POST", "/v2/models/add_sub/infer", ADD_SUB)[0] == 503
    assert not _ready(server.http_port)
    server.hub()
    server.worker()
    wait_until(lambda: adds(server.http_port), "it recovers by itself", account=server)
    wait_until(lambda: _ready(server.http_port), "it is ready", account=server)
    assert ("-c etc/tensorhub/gunicorn.conf.py" in server.log("http")) is not config
    assert end(http) == 0


def test_grpc_without_a_hub_says_so_and_recovers(server: Daemons) -> None:
    server.grpc()
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        wait_until(lambda: _code(lambda: client.get_model_metadata("add_sub")) == "UNAVAILABLE", "gRPC listens")
        wait_until(lambda: "run" in _text(lambda: client.get_model_metadata("add_sub")), "the error says what to do")
        server.hub()
        server.worker()
        wait_until(lambda: _grpc_ready(server.grpc_port), "it recovers by itself", account=server)


def _code(call: object) -> str:
    try:
        call()  # type: ignore[operator]
    except tritonclient.grpc.InferenceServerException as exc:
        return str(exc.status()).removeprefix("StatusCode.")
    return grpc.StatusCode.OK.name


def _text(call: object) -> str:
    try:
        call()  # type: ignore[operator]
    except tritonclient.grpc.InferenceServerException as exc:
        return exc.message()
    return ""


def test_two_servers_side_by_side(tmp_path: Path) -> None:
    with ExitStack() as stack:
        servers = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            servers.append(stack.enter_context(daemons(tmp_path / name)))
        for server in servers:
            for start in (server.hub, server.worker, server.http):
                start()
        for server in servers:
            wait_until(lambda port=server.http_port: adds(port) and _ready(port), "it serves all its models")
        kill(servers[0].started[1])  # the worker of the first
        assert adds(servers[1].http_port)
        wait_until(lambda: not _ready(servers[0].http_port), "the first has noticed")
        assert _ready(servers[1].http_port)


def test_a_second_hub_is_refused(server: Daemons) -> None:
    server.hub()
    wait_until(lambda: (server.run_dir / "hub.sock").exists(), "the hub runs")
    status, said = run_to_end(
        "tensorhub.hub.main", f"--model-repository={EXAMPLE_MODELS}", f"--run-dir={server.run_dir}"
    )
    assert status == 1
    assert said == (
        f"tensorhub-hub: the run directory {server.run_dir} is in use by a running server. Stop that one, or give this "
        "one another --run-dir\n"
    )


def test_a_second_server_on_the_run_directory_is_refused(server: Daemons) -> None:
    server.hub()
    wait_until(lambda: (server.run_dir / "hub.sock").exists(), "the hub runs")
    http_port, grpc_port, metrics_port = free_ports(3)
    status, said = run_to_end(
        *("tensorhub", "serve", f"--model-repository={EXAMPLE_MODELS}", f"--run-dir={server.run_dir}"),
        *(f"--http-port={http_port}", f"--grpc-port={grpc_port}", f"--metrics-port={metrics_port}"),
    )
    _one_line(status, said, str(server.run_dir), "in use")


@pytest.mark.parametrize("taken", ["http", "grpc"])
def test_a_port_in_use(tmp_path: Path, taken: str) -> None:
    ports = dict(zip(("http", "grpc", "metrics"), free_ports(3), strict=True))
    with socket.socket() as held, daemons(tmp_path) as server:
        held.bind(("127.0.0.1", ports[taken]))
        held.listen()
        status, said = run_to_end(
            *("tensorhub", "serve", f"--model-repository={EXAMPLE_MODELS}", f"--run-dir={server.run_dir}"),
            *itertools.chain.from_iterable(
                (f"--{name}-address=127.0.0.1", f"--{name}-port={port}") for name, port in ports.items()
            ),
        )
        _one_line(status, said, str(ports[taken]), f"--{taken}-port")
        assert not server.run_dir.exists() or list(server.run_dir.iterdir()) == []


def test_grpc_port_in_use(server: Daemons) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        status, said = run_to_end(
            "tensorhub.grpc.main",
            *("--grpc-address=127.0.0.1", f"--grpc-port={port}", f"--run-dir={server.run_dir}"),
        )
    _one_line(status, said, str(port))


@pytest.mark.parametrize("program", [("tensorhub", "serve"), ("tensorhub.hub.main",)])
class TestWrongCommandLine:
    def test_missing_repository(self, server: Daemons, program: tuple[str, ...]) -> None:
        status, said = run_to_end(*program, "--model-repository=/no/such/folder", f"--run-dir={server.run_dir}")
        _one_line(status, said, "/no/such/folder")

    def test_no_repository(self, server: Daemons, program: tuple[str, ...]) -> None:
        status, said = run_to_end(*program, f"--run-dir={server.run_dir}")
        _one_line(status, said, "--model-repository")

    def test_wrong_flag(self, server: Daemons, program: tuple[str, ...]) -> None:
        status, said = run_to_end(*program, "--model-repositry=x", f"--run-dir={server.run_dir}")
        _one_line(status, said, "--model-repositry", "did you mean --model-repository")

    def test_wrong_value(self, server: Daemons, program: tuple[str, ...]) -> None:
        status, said = run_to_end(
            *program, f"--model-repository={EXAMPLE_MODELS}", "--http-port=many", f"--run-dir={server.run_dir}"
        )
        _one_line(status, said, "--http-port", "many")


@pytest.mark.parametrize("program", ["tensorhub.workers.main", "tensorhub.grpc.main"])
def test_wrong_flag_of_a_daemon(program: str) -> None:
    status, said = run_to_end(program, "--run-dri=x")
    _one_line(status, said, "--run-dri", "--run-dir")


def _one_line(status: int, said: str, *parts: str) -> None:
    assert status == 1, said
    assert said.count("\n") == 1, said
    for part in parts:
        assert part in said


def test_a_daemon_ends_on_sigint(server: Daemons) -> None:
    processes = [server.hub(), server.worker(), server.http()]
    wait_until(lambda: adds(server.http_port), "it serves", account=server)
    for process in reversed(processes):
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(DEADLINE_S) == 0
        except subprocess.TimeoutExpired:
            pytest.fail(f"it did not end: {process.args!r}")
    assert list(server.run_dir.iterdir()) == []
