"""Finding the process at the other end of a connection."""

import os
import socket
import subprocess
import sys

import pytest

from tensorhub.ipc.tcp_peers import find_process
from tensorhub.ipc.watch import start_ticks

_CONNECT = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
sys.stdin.read()
"""


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_process_that_connects_is_found(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        listener.listen(1)
        port = listener.getsockname()[1]
        command = [sys.executable, "-c", _CONNECT, address, str(port)]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as client:
            connection, peer = listener.accept()
            with connection:
                found = find_process(f"{peer[0]}:{peer[1]}")
                assert found == (client.pid, start_ticks(client.pid))
                assert find_process(f"{address}:{port}") in ((os.getpid(), start_ticks(os.getpid())), None)
            client.kill()


@pytest.mark.parametrize("peer", ["", "x", "1.2.3.4", "1.2.3.4:x", "1.2.3.4:1", "name:80", "[::2]:1"])
def test_nobody_is_found(peer: str) -> None:
    assert find_process(peer) is None
