"""Start the server as a user does, and stop it: real processes on free ports, with a run directory of their own."""

from __future__ import annotations

import http.client
import itertools
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import grpc

PROJECT = Path(__file__).parent.parent
EXAMPLE_MODELS = PROJECT / "examples" / "models"
_START_DEADLINE_S = 120.0
_GRPC_DEADLINE_S = 60.0
_STOP_DEADLINE_S = 60.0
_POLL_S = 0.05
_PORTS = range(10_000, 20_000)
"""Below those that the kernel gives to clients' connections, any of which might take a port that was free just now."""
_PORT_BLOCK = 200


@dataclass(frozen=True, slots=True)
class RunningServer:
    """Where a server is; `run_dir` and `pid` are None for one that the tests did not start."""

    http: str
    grpc: str
    metrics: str
    run_dir: Path | None = None
    pid: int | None = None


class NotStarted(Exception):
    """The server ended, or was not ready in time; the text has the end of its log."""


@contextmanager
def serving(
    work: Path,
    options: Sequence[str] = (),
    repository: Path | None = EXAMPLE_MODELS,
    *,
    files: Sequence[Path] = (),
    ready: Callable[[int], bool] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Iterator[RunningServer]:
    """Run `tensorhub serve` until the block ends, then stop it and check that nothing is left of it.

    Args:
        work: a folder for the log; the run directory is made in a place of its own, as the path of a socket is short.
        options: more of the command line.
        repository: its models; None for none.
        files: of decorated functions.
        ready: whether it is ready, by its HTTP port; None: `is_ready`.
        environ: added to our own.

    Raises:
        NotStarted: it is not ready after a minute.
        AssertionError: it did not end with 0 on SIGTERM, or left a process or a file.
    """
    http_port, grpc_port, metrics_port = free_ports(3)
    run_dir = run_dir_of(http_port)
    command = [
        *(sys.executable, "-m", "tensorhub", "serve", *map(str, files)),
        *([] if repository is None else [f"--model-repository={repository}"]),
        f"--run-dir={run_dir}",
        *("--http-address=127.0.0.1", f"--http-port={http_port}"),
        *("--grpc-address=127.0.0.1", f"--grpc-port={grpc_port}"),
        *("--metrics-address=127.0.0.1", f"--metrics-port={metrics_port}"),
        *options,
    ]
    log = work / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=PROJECT,
            env={**os.environ, **(environ or {})},
        )
    try:
        _await_ready(process, http_port, log, ready or is_ready)
        if ready is None and not any("ssl" in item or "allow-grpc" in item for item in options):
            await_grpc(grpc_port, "ServerReady")
        yield RunningServer(
            http=f"127.0.0.1:{http_port}",
            grpc=f"127.0.0.1:{grpc_port}",
            metrics=f"127.0.0.1:{metrics_port}",
            run_dir=run_dir,
            pid=process.pid,
        )
        _stop(process, run_dir, log)
    finally:
        _clean_up(process, run_dir)


def run_dir_of(http_port: int) -> Path:
    """Return the run directory of a server that these tests start on this port."""
    return Path(f"/tmp/tensorhub-test-{os.getpid()}-{http_port}")


def free_ports(count: int) -> list[int]:
    """Return ports on which nobody listens, all different.

    They are of a block that belongs to this process until it ends, so that tests that run at the same time do not meet,
    and each is given out again as late as possible.
    """
    return _own_ports().take(count)


class _PortBlock:
    """Ports that no other test process uses: a socket without a file, which ends with this process, claims them."""

    def __init__(self) -> None:
        self._claim = socket.socket(socket.AF_UNIX)
        starts = list(range(_PORTS.start, _PORTS.stop, _PORT_BLOCK))
        random.shuffle(starts)
        for start in starts:
            with suppress(OSError):
                self._claim.bind(f"\0tensorhub-test-ports-{start}")
                self._round = itertools.cycle(range(start, start + _PORT_BLOCK))
                return
        raise NotStarted(f"other tests have all ports of {_PORTS}")

    def take(self, count: int) -> list[int]:
        found: list[int] = []
        for port in itertools.islice(self._round, _PORT_BLOCK):
            with socket.socket() as probe, suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                return found
        raise NotStarted(f"{count} of these tests' ports are not free")


@cache
def _own_ports() -> _PortBlock:
    return _PortBlock()


def processes_of(run_dir: Path) -> dict[int, str]:
    """Return the processes whose arguments or environment name the run directory: pid to command line."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        try:
            command, environ = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
        except OSError:
            continue
        if command and os.fsencode(run_dir) in command + environ:
            found[int(folder.name)] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


def is_ready(port: int, context: ssl.SSLContext | None = None) -> bool:
    """Whether a server on this port says that it is ready; with a context, over HTTPS."""
    connection = (
        http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        if context is None
        else http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context)
    )
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def await_grpc(port: int, method: str = "ServerLive") -> None:
    """Give the gRPC frontend, which hears of everything by itself, a moment to answer yes to this method too."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        deadline = time.monotonic() + _GRPC_DEADLINE_S
        while time.monotonic() < deadline:
            try:
                if ask(b"", timeout=_GRPC_DEADLINE_S) == b"\x08\x01":
                    return
            except grpc.RpcError as exc:
                if exc.code() is not grpc.StatusCode.UNAVAILABLE or "is restricted" in (exc.details() or ""):
                    return  # it is there, and does not let everybody ask
            time.sleep(_POLL_S)


def _await_ready(process: subprocess.Popen[bytes], port: int, log: Path, ready: Callable[[int], bool]) -> None:
    deadline = time.monotonic() + _START_DEADLINE_S
    while time.monotonic() < deadline:
        if ready(port):
            return
        try:
            code = process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            continue
        raise NotStarted(f"the server ended with {code}:\n{_tail(log)}")
    raise NotStarted(f"the server was not ready after {_START_DEADLINE_S:.0f} s:\n{_tail(log)}")


def _stop(process: subprocess.Popen[bytes], run_dir: Path, log: Path) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(_STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"the server did not stop:\n{_tail(log)}") from None
    assert code == 0, f"the server ended with {code}:\n{_tail(log)}"
    assert processes_of(run_dir) == {}, f"processes are left\n{_tail(log)}"
    left = [path.name for path in run_dir.iterdir()] if run_dir.exists() else []
    assert left == [], f"files are left in the run directory: {left}\n{_tail(log)}"


def _clean_up(process: subprocess.Popen[bytes], run_dir: Path) -> None:
    """End what is left of the server, whatever became of it."""
    if process.poll() is None:
        process.kill()
        process.wait()
    for pid in processes_of(run_dir):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    if run_dir.is_dir():
        shutil.rmtree(run_dir, ignore_errors=True)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-30:])
