"""D7: nothing that is received is run or looked up, and the sockets are in a directory of one user."""

import ast
import os
import random
import stat
from pathlib import Path

import pytest
import tritonclient.grpc.service_pb2 as pb
import zmq

from tensorhub.ipc import wire
from tests.safety.client import Grpc, Http
from tests.safety.processes import pids
from tests.safety.soak import turns
from tests.serving import RunningServer, processes_of
from tests.shm.segments import segment
from tests.waiting import wait_until
from tools import forbidden, layers

FRAMES = turns(3_000, 1_000_000)


def test_no_module_turns_bytes_into_code() -> None:
    """No pickle and its kin, no eval or exec but for the operator's own models, no ZeroMQ socket but ipc."""
    for path in layers.modules().values():
        name = path.relative_to(layers.ROOT).as_posix()
        assert list(forbidden.in_module(name, path.read_text())) == []


@pytest.mark.parametrize("part", ["ipc/*.py", "frontend/*.py", "hub/state.py", "hub/[lr]*.py", "hub/*control.py"])
def test_no_received_name_is_looked_up(part: str) -> None:
    """No getattr with a name that is not written there stands in what receives messages."""
    paths = list((layers.ROOT / "tensorhub").glob(part))
    assert paths
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
                assert isinstance(node.args[1], ast.Constant), f"{path}:{node.lineno}"


def test_the_sockets_are_files_of_one_user(guarded: RunningServer) -> None:
    run_dir = guarded.run_dir
    assert run_dir is not None
    found = run_dir.stat()
    assert stat.S_IMODE(found.st_mode) == 0o700
    assert found.st_uid == os.geteuid()
    assert all(stat.S_ISSOCK(path.stat().st_mode) for path in run_dir.iterdir())
    inodes = {
        link[8:-1]
        for pid in processes_of(run_dir)
        for link in os.listdir(f"/proc/{pid}/fd")
        for link in [_link(Path(f"/proc/{pid}/fd/{link}"))]
        if link.startswith("socket:[")
    }
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[6] in inodes and len(fields) > 7:
            assert not fields[7].startswith("@"), "an abstract socket has no permissions"
            assert Path(fields[7]).parent == run_dir
    asked = {int(address.rpartition(":")[2]) for address in (guarded.http, guarded.grpc, guarded.metrics)}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes and fields[3] == "0A":
                assert int(fields[1].rpartition(":")[2], 16) in asked, "a port that nobody asked for"


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""


def _frames(chance: random.Random) -> list[bytes]:
    """Noise, damaged frames, and whole frames with noise for a body."""
    kinds = list(wire.Kind)
    roles = list(wire.Role)
    body = chance.randbytes(chance.randrange(200))
    good = bytearray(
        wire.encode(
            # WAKE and SNAPSHOT do nothing; INFER, RELEASE and CANCEL name what is not there.
            chance.choice(kinds),
            chance.choice(roles),
            chance.randrange(1, 2**22),
            request_id=chance.getrandbits(64),
            generation=chance.getrandbits(32),
            flags=chance.getrandbits(8),
            number=chance.getrandbits(64),
            head=body,
            tail=body[::-1] if chance.random() < 0.5 else b"",
        )
    )
    damaged = bytearray(good)
    damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return [body, bytes(good), bytes(damaged), bytes(good[: chance.randrange(len(good))]), b""]


@pytest.mark.timeout(1800)
def test_random_frames_at_every_mailbox(guarded: RunningServer, http: Http, rpc: Grpc) -> None:
    """Whoever may write here commands the server; but what is damaged on the way must not crash it."""
    run_dir = guarded.run_dir
    assert run_dir is not None
    before = pids(guarded)
    mailboxes = sorted(path for path in run_dir.iterdir() if path.suffix == ".sock")
    assert len(mailboxes) >= 4
    chance = random.Random(7)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    for path in mailboxes:
        socket = context.socket(zmq.PUSH)
        socket.connect(f"ipc://{path}")
        sent = 0
        while sent < FRAMES:
            for frame in _frames(chance):
                if not _commands(frame):
                    socket.send(frame)
                    sent += 1
        socket.close(linger=20_000)
    context.term()
    assert http.ask("GET", "/v2/health/live")[0] == 200
    # The worker reads all that before it is asked.
    wait_until(lambda: http.ask("GET", "/v2/models/identity/ready")[0] == 200, "the worker is ready")
    assert rpc.ask("ServerLive", pb.ServerLiveRequest())[1].live
    _serves_regions(http)
    assert pids(guarded) == before


def _commands(frame: bytes) -> bool:
    """Whether a frame is a whole, well-formed order of the kinds that are there to change the server."""
    try:
        message = wire.decode(frame)
    except wire.WireError:
        return False
    return message.kind in (wire.Kind.CONTROL, wire.Kind.ORDER, wire.Kind.SNAPSHOT, wire.Kind.HELLO)


def _serves_regions(http: Http) -> None:
    """Register, infer, unregister."""
    with segment(b"\7" * 4096) as made:
        assert http.register("d07", made.key, 0, 4096)[0] == 200
        assert http.infer("d07", 0, 4096) == (200, b"\7" * 4096)
        assert http.unregister("d07") == 200
