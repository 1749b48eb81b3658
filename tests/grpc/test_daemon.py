"""The daemon as a process: its port, its end, TLS, and that it does not grow."""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc

from tensorhub.grpc.routes import INFERENCE
from tests.certificates import make_certificates
from tests.serving import free_ports
from tests.waiting import wait_until

from .test_inference import METHOD, SMALL, request

ROOT = Path(__file__).parents[2]
Start = Callable[..., "Daemon"]


class Daemon:
    """A running daemon with the fake gateway."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.log = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.grpc.daemon", "--grpc-address=127.0.0.1", *arguments],
                cwd=ROOT,
                stderr=stream,
            )

    @property
    def text(self) -> str:
        return self.log.read_text()

    def wait_until_started(self) -> None:
        wait_until(lambda: "Started GRPCInferenceService at " in self.text or self.process.poll() is not None)
        assert self.process.poll() is None, self.text

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def memory(self) -> int:
        """Resident bytes."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    daemons: list[Daemon] = []

    def run(*arguments: str) -> Daemon:
        daemons.append(Daemon(list(arguments), tmp_path / f"{len(daemons)}.log"))
        return daemons[-1]

    yield run
    for daemon in daemons:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()


@pytest.fixture
def port() -> int:
    """A port that is free now."""
    return free_ports(1)[0]


@pytest.fixture(params=["reactor", "threads"])
def engine(request: pytest.FixtureRequest) -> str:
    return f"--grpc-engine={request.param}"


def infer(target: str, **parameters: int) -> bytes:
    with grpc.insecure_channel(target) as channel:
        body = request("add_sub", *SMALL, **parameters).SerializeToString()
        return channel.unary_unary(METHOD)(body, timeout=60)


def test_serves_and_ends(start: Start, port: int, engine: str) -> None:
    daemon = start(f"--grpc-port={port}", engine)
    daemon.wait_until_started()
    assert f"Started GRPCInferenceService at 127.0.0.1:{port}" in daemon.text
    assert infer(f"127.0.0.1:{port}")
    assert daemon.terminate() == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def _begin(channel: grpc.Channel, **parameters: int) -> Any:
    """Make a call; another one, which comes behind it on the same connection, has been answered then."""
    grpc.channel_ready_future(channel).result(60)
    method = channel.unary_unary(METHOD)
    future = method.future(request("add_sub", *SMALL, **parameters).SerializeToString())
    assert method(request("add_sub", *SMALL).SerializeToString(), timeout=60)
    return future


def test_a_call_in_progress_is_finished(start: Start, port: int, engine: str) -> None:
    daemon = start(f"--grpc-port={port}", engine)
    daemon.wait_until_started()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        future = _begin(channel, delay_ms=1500)
        daemon.process.send_signal(signal.SIGTERM)
        assert future.result(60)
    assert daemon.process.wait(60) == 0


def test_a_call_that_does_not_finish_is_cancelled(start: Start, port: int, engine: str) -> None:
    daemon = start(f"--grpc-port={port}", engine, "--exit-timeout-secs=1")
    daemon.wait_until_started()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        future = _begin(channel, never=1)
        assert daemon.terminate() == 0
        assert future.exception(60) is not None


def test_a_port_that_is_taken(start: Start, port: int) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        daemon = start(f"--grpc-port={port}")
        assert daemon.process.wait(60) == 1
    assert daemon.text.count("\n") == 1
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in daemon.text


def test_processes_share_a_port_if_all_say_so(start: Start, port: int, engine: str) -> None:
    daemons = [start(f"--grpc-port={port}", "--reuse-grpc-port=true", engine) for _ in range(2)]
    for daemon in daemons:
        daemon.wait_until_started()
    for _ in range(10):
        assert infer(f"127.0.0.1:{port}")
    alone = start(f"--grpc-port={port}", engine)
    assert alone.process.wait(60) == 1
    assert daemons[0].terminate() == 0
    for _ in range(10):
        assert infer(f"127.0.0.1:{port}")
    assert daemons[1].terminate() == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--grpc-port=x"], "--grpc-port"),
        (["--grpc-use-ssl=1", "--grpc-server-cert=/nowhere", "--grpc-server-key=/nowhere"], "No such file"),
    ],
)
def test_a_wrong_option_is_one_line(start: Start, arguments: list[str], text: str) -> None:
    daemon = start(*arguments)
    assert daemon.process.wait(60) == 1
    assert text in daemon.text
    assert daemon.text.count("\n") == 1


def test_the_module_can_be_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tensorhub.grpc", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--grpc-keepalive-time" in done.stdout


def test_without_a_server_behind_it(tmp_path: Path, port: int) -> None:
    """The real gateway, and no hub: calls say so."""
    options = ["--grpc-address=127.0.0.1", f"--grpc-port={port}", f"--run-dir={tmp_path / 'run'}"]
    process = subprocess.Popen([sys.executable, "-m", "tensorhub.grpc", *options], cwd=ROOT)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            live = channel.unary_unary(f"/{INFERENCE}/ServerLive")
            with pytest.raises(grpc.RpcError) as caught:
                live(b"", timeout=60, wait_for_ready=True)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "no hub has answered" in caught.value.details()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    assert list((tmp_path / "run").iterdir()) == []


def test_tls(start: Start, port: int, engine: str, tmp_path: Path) -> None:
    files = make_certificates(tmp_path)
    certificate = [f"--grpc-server-cert={files.server}", f"--grpc-server-key={files.server_key}"]
    daemon = start(f"--grpc-port={port}", engine, "--grpc-use-ssl=true", *certificate)
    daemon.wait_until_started()
    authority = files.authority.read_bytes()
    body = request("add_sub", *SMALL).SerializeToString()
    with grpc.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(authority)) as channel:
        assert channel.unary_unary(METHOD)(body, timeout=60)
    with pytest.raises(grpc.RpcError):
        infer(f"127.0.0.1:{port}")
    _infer_with_tritonclient(port, files.authority)
    assert daemon.terminate() == 0

    mutual = ["--grpc-use-ssl-mutual=true", f"--grpc-root-cert={files.authority}", *certificate]
    daemon = start(f"--grpc-port={port}", engine, *mutual)
    daemon.wait_until_started()
    credentials = grpc.ssl_channel_credentials(authority, files.client_key.read_bytes(), files.client.read_bytes())
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
        assert channel.unary_unary(METHOD)(body, timeout=60)
    with (
        grpc.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(authority)) as channel,
        pytest.raises(grpc.RpcError),
    ):
        channel.unary_unary(METHOD)(body, timeout=60)
    _infer_with_tritonclient(port, files.authority, files.client_key, files.client)
    assert daemon.terminate() == 0


def _infer_with_tritonclient(port: int, authority: Path, key: Path | None = None, chain: Path | None = None) -> None:
    """Make a call and a stream with the stock client's own TLS options."""
    inputs = []
    for name, content in zip(("INPUT0", "INPUT1"), SMALL, strict=True):
        item = tritonclient.grpc.InferInput(name, [1, 16], "INT32")
        inputs.append(item.set_data_from_numpy(np.frombuffer(content, np.int32).reshape(1, 16)))
    answers: queue.Queue[Any] = queue.Queue()
    with tritonclient.grpc.InferenceServerClient(
        f"localhost:{port}",
        ssl=True,
        root_certificates=str(authority),
        private_key=None if key is None else str(key),
        certificate_chain=None if chain is None else str(chain),
    ) as client:
        assert client.infer("add_sub", inputs).as_numpy("OUTPUT0").shape == (16,)
        client.start_stream(lambda result, error: answers.put(error))
        client.async_stream_infer("add_sub", inputs)
        assert answers.get(timeout=60) is None
        client.stop_stream()


_CLIENT = """
import json, sys
import numpy as np
import tritonclient.grpc as triton
client = triton.InferenceServerClient(sys.argv[1])
data = np.arange(16, dtype=np.int32).reshape(1, 16)
inputs = [triton.InferInput(name, [1, 16], "INT32") for name in ("INPUT0", "INPUT1")]
for item in inputs:
    item.set_data_from_numpy(data)
result = client.infer("add_sub", inputs, request_id="42", client_timeout=60)
try:
    client.infer("nobody", inputs)
    error = None
except triton.InferenceServerException as exc:
    error = [exc.status(), exc.message()]
print(json.dumps({
    "live": client.is_server_live(),
    "ready": client.is_server_ready(),
    "model": [client.is_model_ready("add_sub"), client.is_model_ready("nobody")],
    "metadata": client.get_model_metadata("add_sub", as_json=True)["platform"],
    "config": client.get_model_config("add_sub").config.max_batch_size,
    "sum": result.as_numpy("OUTPUT0").reshape(-1).tolist(),
    "id": result.get_response().id,
    "error": error,
    "memory": len(client.get_system_shared_memory_status().regions),
    "compressed": client.infer("add_sub", inputs, compression_algorithm="gzip").as_numpy("OUTPUT1").sum().item(),
}))
"""


def test_a_stock_client(start: Start, port: int, engine: str) -> None:
    """In a process of its own, so that its messages and ours do not meet."""
    daemon = start(f"--grpc-port={port}", engine)
    daemon.wait_until_started()
    done = subprocess.run(
        [sys.executable, "-c", _CLIENT, f"127.0.0.1:{port}"], capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout) == {
        "live": True,
        "ready": True,
        "model": [True, False],
        "metadata": "python",
        "config": 8,
        "sum": [2 * value for value in range(16)],
        "id": "42",
        "error": ["StatusCode.NOT_FOUND", "Request for unknown model: 'nobody' is not found"],
        "memory": 0,
        "compressed": 0,
    }


def _calls(channel: grpc.Channel, count: int) -> None:
    infer_method = channel.unary_unary(METHOD)
    body = request("add_sub", *SMALL).SerializeToString()
    for _ in range(count // 50):
        for future in [infer_method.future(body) for _ in range(50)]:
            assert future.result(60)


def test_memory_is_flat_over_twenty_thousand_calls(start: Start, port: int, engine: str) -> None:
    daemon = start(f"--grpc-port={port}", engine)
    daemon.wait_until_started()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        _calls(channel, 4_000)
        before = daemon.memory()
        _calls(channel, 16_000)
        assert daemon.memory() < before + 6 * 1024 * 1024  # 400 bytes a call would be more
    assert daemon.terminate() == 0


def test_memory_is_flat_over_large_calls(start: Start, port: int) -> None:
    daemon = start(f"--grpc-port={port}", "--grpc-engine=reactor")
    daemon.wait_until_started()
    options = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        body = request("identity", bytes(4_000_000), apart=1).SerializeToString()
        method = channel.unary_unary(METHOD)
        for _ in range(10):
            method(body, timeout=60)
        before = daemon.memory()
        for _ in range(60):
            method(body, timeout=60)
        assert daemon.memory() < before + 40 * 1024 * 1024  # ten messages; sixty would be 240 MB
    assert daemon.terminate() == 0


def test_clients_that_are_killed_leave_a_serving_daemon(start: Start, port: int, engine: str) -> None:
    daemon = start(f"--grpc-port={port}", engine, "--exit-timeout-secs=600")
    daemon.wait_until_started()
    client = (
        "import grpc, sys\n"
        "channel = grpc.insecure_channel(sys.argv[1])\n"
        "calls = [channel.unary_unary(sys.argv[2]).future(bytes.fromhex(sys.argv[3])) for _ in range(20)]\n"
        "print('sent', flush=True)\n"
        "[call.result() for call in calls]\n"
    )
    body = request("add_sub", *SMALL, never=1).SerializeToString().hex()
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", client, f"127.0.0.1:{port}", METHOD, body], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"sent\n"
        process.kill()
        process.wait()
        process.stdout.close()
    # Calls that nobody waits for are over: the daemon serves, and ends without waiting for them.
    assert infer(f"127.0.0.1:{port}")
    assert daemon.terminate() == 0
