"""Starts, watches and stops one server. Edge.

A server is a command with placeholders. It counts as started when `GET /v2/health/ready` answers 200. It is stopped
with SIGTERM, and with SIGKILL after a while; what it leaves behind (processes, names in /dev/shm) is removed and told.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.bench import leftovers, processes
from tools.bench.errors import BenchError, ServerError

HOST = "127.0.0.1"
READY_WITHIN_S = 120.0
STOP_WITHIN_S = 15.0
POLL_READY_S = 0.005
POLL_STOP_S = 0.02
LOG_TAIL_LINES = 20

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1

# Both servers run the same NumPy code; its thread pool would only add noise to a comparison of servers.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Ports:
    """The three ports of one server."""

    http: int
    grpc: int
    metrics: int


@dataclass(frozen=True, slots=True)
class Launch:
    """A server that can be started.

    Attributes:
        name: what the report calls it.
        command: words with the placeholders {repository}, {http_port}, {grpc_port}, {metrics_port} and {run_dir}.
        repository: its models.
        log: file that takes what it prints.
    """

    name: str
    command: Sequence[str]
    repository: Path
    log: Path

    def with_options(self, options: Iterable[str]) -> Launch:
        """Return the same with more options."""
        return replace(self, command=[*self.command, *options])

    def words(self, ports: Ports, run_dir: Path) -> list[str]:
        """Return the command with its placeholders filled in. Other text in braces stays as it is."""
        values = {
            "{repository}": str(self.repository),
            "{http_port}": str(ports.http),
            "{grpc_port}": str(ports.grpc),
            "{metrics_port}": str(ports.metrics),
            "{run_dir}": str(run_dir),
        }
        words = []
        for word in self.command:
            for placeholder, value in values.items():
                word = word.replace(placeholder, value)
            words.append(word)
        return words


def split_command(text: str) -> list[str]:
    """Split a command as a shell would.

    Raises:
        BenchError: it is empty, has an open quote, or does not say where {repository} and {http_port} go.
    """
    try:
        words = shlex.split(text)
    except ValueError as exc:
        raise BenchError(f"cannot read the command {text!r}: {exc}") from exc
    for placeholder in ("{repository}", "{http_port}"):
        if not any(placeholder in word for word in words):
            raise BenchError(f"the command {text!r} lacks {placeholder}")
    return words


class FreePorts:
    """Hands out ports of a range that nobody listens on, in turn, so that a port just given back rests for a while."""

    def __init__(self, first: int, count: int) -> None:
        self._first, self._count, self._next = first, count, 0

    def take(self) -> Ports:
        """Return three different free ports.

        Raises:
            BenchError: fewer than three of the range are free.
        """
        free: list[int] = []
        for _ in range(self._count):
            port = self._first + self._next % self._count
            self._next += 1
            if _is_free(port):
                free.append(port)
            if len(free) == 3:
                return Ports(*free)
        last = self._first + self._count - 1
        raise BenchError(f"fewer than three free ports in {self._first}-{last}; choose others with --first-port")


class Server:
    """A running server, while the `with` block lasts. Owns the processes, the run directory and the log file."""

    def __init__(self, launch: Launch, ports: Ports) -> None:
        self.name = launch.name
        self.ports = ports
        self.start_s = 0.0
        self._launch = launch
        self._run_dir = tempfile.TemporaryDirectory(prefix=leftovers.folder_prefix(), ignore_cleanup_errors=True)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it and wait until it is ready.

        Raises:
            ServerError: the command is not there, the server ended, or it is not ready in time; nothing is left.
        """
        words = self._launch.words(self.ports, Path(self._run_dir.name))
        self._launch.log.parent.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        try:
            with self._launch.log.open("ab") as log:
                self._process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **_ENVIRONMENT},
                    start_new_session=True,
                    preexec_fn=_die_with_parent,
                )
            self._wait_ready(began + READY_WITHIN_S)
        except OSError as exc:
            self._run_dir.cleanup()
            raise ServerError(self.name, f"cannot start {shlex.join(words)}: {exc}") from exc
        except BaseException:
            self._stop()
            raise
        self.start_s = time.perf_counter() - began
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def ended(self) -> bool:
        """Whether the process that was started is no more."""
        return self._process is not None and self._process.poll() is not None

    def last_words(self) -> str:
        """Return the end of its log."""
        return self._log_tail()

    def cpu_s(self) -> float:
        """Return the CPU time that all its processes have spent so far, in seconds."""
        return processes.cpu_s(processes.server(self._pid))

    def cpu_by_kind_s(self) -> dict[str, float]:
        """Return the same for each kind of its processes."""
        return {kind: processes.cpu_s(some) for kind, some in processes.kinds(processes.server(self._pid)).items()}

    def page_faults(self) -> int:
        """Return how many pages its processes have been given so far, without reading from a disk."""
        return sum(process.minor_faults for process in processes.server(self._pid))

    def pss_by_kind_bytes(self) -> dict[str, int]:
        """Return the proportional set size of each kind of its processes."""
        return {kind: processes.pss_bytes(some) for kind, some in processes.kinds(processes.server(self._pid)).items()}

    @property
    def _pid(self) -> int:
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def _wait_ready(self, deadline: float) -> None:
        assert self._process is not None
        while not _answers_ready(self.ports.http):
            if self._process.poll() is not None:
                raise ServerError(
                    self.name, f"ended with status {self._process.returncode} at start; {self._log_tail()}"
                )
            if time.perf_counter() > deadline:
                raise ServerError(self.name, f"not ready within {READY_WITHIN_S:.0f} s; {self._log_tail()}")
            time.sleep(POLL_READY_S)

    def _log_tail(self) -> str:
        lines = self._launch.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return f"the end of {self._launch.log}:\n  " + "\n  ".join(lines)

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        known = {member.pid: member for member in processes.server(process.pid)}
        names = processes.shared_memory_files(known.values())
        process.terminate()
        deadline = time.perf_counter() + STOP_WITHIN_S
        while (left := self._left(process, known)) and time.perf_counter() < deadline:
            time.sleep(POLL_STOP_S)
        if left:
            self._tell(f"{len(left)} processes outlived SIGTERM by {STOP_WITHIN_S:.0f} s and were killed: {left}")
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        process.wait()
        for name in sorted(names):
            if name.exists():
                self._tell(f"left {name} behind; removed")
                name.unlink(missing_ok=True)
        self._run_dir.cleanup()

    @staticmethod
    def _left(process: subprocess.Popen[bytes], known: dict[int, processes.Process]) -> list[int]:
        """Return the pids that still run, of those known and those that joined the session since."""
        process.poll()
        table = processes.read_table()
        members = {member.pid for member in processes.tree(process.pid, table) if member.state != "Z"}
        for pid, member in known.items():
            now = table.get(pid)
            if now is not None and now.state != "Z" and now.started_ticks == member.started_ticks:
                members.add(pid)
        return sorted(members)

    def _tell(self, text: str) -> None:
        print(f"{self.name}: {text}", file=sys.stderr)


def _die_with_parent() -> None:
    """Have SIGTERM sent to this process when the bench is killed. In the child; exec keeps it: prctl(2)."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _answers_ready(port: int) -> bool:
    connection = HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: connections that are still closing on the port do not make it taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
