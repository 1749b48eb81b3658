"""The socket over which clients hand files over, where it is short of descriptors."""

import json
import socket
import time
from pathlib import Path

import pytest

from tensorhub.ipc.descriptors import ACCEPT_AGAIN_S
from tensorhub.ipc.region_socket import FileRequest, RegionSocket
from tests.shortage import no_descriptors
from tests.waiting import wait_until

WAIT_S = 60.0


def test_clients_wait_while_there_are_no_descriptors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[str] = []

    def answer(request: FileRequest) -> None:
        asked.append(request.name)
        request.answer(None)

    sockets = RegionSocket(tmp_path / "s.sock", (), answer)
    sockets.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(WAIT_S)
        began_s = time.monotonic()
        with no_descriptors():
            client.connect(str(tmp_path / "s.sock"))
            client.send(json.dumps({"operation": "unregister", "name": "r"}).encode())
            wait_until(lambda: caplog.text.count("trying again") >= 2, "it has tried twice")
            assert time.monotonic() - began_s >= ACCEPT_AGAIN_S, "it is idle in between"
        assert json.loads(client.recv(1_000)) == {"ok": True}
    assert asked == ["r"]
    sockets.close()
