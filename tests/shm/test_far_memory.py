"""Memory of a GPU that a process does not see: the halves of two workers, each with a fake GPU of its own."""

import os
import random
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tensorhub.errors import InvalidArgument, NotFound, TensorhubError, Unavailable
from tensorhub.ipc.arena_memory import Arena
from tensorhub.ipc.cuda_regions import HandleTable
from tensorhub.ipc.far_memory import CopyServer, FarMemory, _Peer, _PeerGone, _PeerStuck
from tensorhub.ipc.regions import RegionTable
from tensorhub.ipc.rundir import RunDir
from tensorhub.protocol import messages
from tests.shm.fake_device import ENVIRON, GPUS, FakePort, handle_of
from tests.shm.segments import Segment, open_fds, opened_since, segment
from tests.shortage import no_descriptors
from tests.waiting import wait_until

SIZE = 1 << 16
_REQUEST_BYTES = 97
CONTENT = bytes(range(256)) * (SIZE // 256)


class Worker(NamedTuple):
    """What a GPU worker has."""

    port: FakePort
    arena: Arena
    table: RegionTable
    far: FarMemory
    server: CopyServer
    failures: list[TensorhubError]


def _worker(run_dir: RunDir, number: int, monkeypatch: pytest.MonkeyPatch, others: list[int]) -> Worker:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", GPUS[number])
    port, arena = FakePort(), Arena(1 << 20)
    handles = HandleTable(lambda: port)
    failures: list[TensorhubError] = []
    server = CopyServer(run_dir.copies(number), handles, failures.append)
    server.start()
    far = FarMemory(run_dir, arena, lambda owner, name: others, timeout_s=60)
    return Worker(port, arena, RegionTable((), handles, GPUS[number], far=far), far, server, failures)


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Worker, Worker]]:
    """Yield the workers 0 and 1 of two GPUs."""
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    run_dir = RunDir(tmp_path)
    made = (_worker(run_dir, 0, monkeypatch, [1]), _worker(run_dir, 1, monkeypatch, [0]))
    yield made
    for worker in made:
        worker.far.close()
        worker.server.close()
        worker.arena.close()


def _message(made: Segment, gpu: int, name: str = "r", byte_size: int = SIZE) -> Any:
    return messages.CudaRegion(name=name, raw_handle=handle_of(made.key, gpu), byte_size=byte_size)


def _register(workers: tuple[Worker, Worker], message: Any, gpu: int) -> None:
    """As the hub does: all try, and one succeeds."""
    assert workers[gpu].table.open_cuda(message) == GPUS[gpu]
    with pytest.raises(InvalidArgument):
        workers[1 - gpu].table.open_cuda(message)


def test_reading_and_writing(workers: tuple[Worker, Worker]) -> None:
    near, far = workers
    with segment(CONTENT) as made:
        _register(workers, _message(made, gpu=0), 0)
        lease = far.table.lease("r", 3, 1000, writable=False)
        assert lease.device is None
        assert bytes(lease.view) == CONTENT[3:1003]
        assert lease.copy_to_host() == CONTENT[3:1003]
        lease.release()
        lease.release()
        lease = far.table.lease("r", 256, 100, writable=True)
        lease.fill(memoryview(b"\xee" * 100))
        assert made.content == CONTENT
        lease.commit(60)
        lease.release()
        assert made.content == CONTENT[:256] + b"\xee" * 60 + CONTENT[316:]
        assert (near.table.device_copies, far.table.device_copies) == (0, 2)
        assert far.arena.blocks == 0
        with pytest.raises(InvalidArgument, match="cannot be made larger for an output"):
            far.table.lease("r", 0, 0, writable=True, grow=True)
        for offset, byte_size in ((SIZE, 1), (0, SIZE + 1), (2**64 - 1, 1), (0, 0)):
            with pytest.raises(InvalidArgument):
                far.table.lease("r", offset, byte_size, writable=False)
        for worker in workers:
            worker.table.close("r")
        with pytest.raises(NotFound):
            far.table.lease("r", 0, 1, writable=False)
        assert near.port.opened == near.port.closed
        assert not near.failures


def test_askers_wait_while_there_are_no_descriptors(
    workers: tuple[Worker, Worker], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, far = workers
    with socket.socket(socket.AF_UNIX) as early, no_descriptors():
        early.connect(str(RunDir(tmp_path).copies(0)))
        wait_until(lambda: "cannot accept a connection: [Errno 24]" in caplog.text, "it has tried")
    with segment(CONTENT) as made:
        _register(workers, _message(made, gpu=0), 0)
        lease = far.table.lease("r", 0, 1000, writable=False)
        assert bytes(lease.view) == CONTENT[:1000]
        lease.release()


def test_what_a_request_has_pinned_outlives_its_registration(workers: tuple[Worker, Worker]) -> None:
    """Its name may be another region's by then: the answer goes to the memory that the request was about."""
    near, far = workers
    with segment(CONTENT) as old, segment(CONTENT) as new:
        _register(workers, _message(old, gpu=0), 0)
        lease = far.table.lease("r", 0, 16, writable=True)
        for worker in workers:
            worker.table.close("r")
        _register(workers, _message(new, gpu=0), 0)
        lease.fill(memoryview(b"x" * 16))
        lease.commit(16)
        lease.release()
        assert old.content == b"x" * 16 + CONTENT[16:]
        assert new.content == CONTENT
        for worker in workers:
            worker.table.close("r")
        assert near.port.opened == near.port.closed


def test_memory_that_has_been_freed(workers: tuple[Worker, Worker]) -> None:
    near, far = workers
    with segment(CONTENT) as made:
        _register(workers, _message(made, gpu=0), 0)
        near.table.close("r")
        made.path.unlink()
        for _ in range(20):
            with pytest.raises(InvalidArgument, match=r"^shared memory region 'r' cannot be copied to where the model"):
                far.table.lease("r", 0, 1, writable=False)
        assert len(near.failures) == 20
        assert far.arena.blocks == 0
        assert near.port.opened == near.port.closed


def test_a_region_that_is_larger_than_its_allocation(workers: tuple[Worker, Worker]) -> None:
    """What the asker says is checked once more by the one who has the memory."""
    _, far = workers
    with segment(CONTENT) as made:
        with pytest.raises(InvalidArgument):
            far.table.open_cuda(_message(made, gpu=0, byte_size=SIZE * 2))
        with pytest.raises(InvalidArgument, match=f"its allocation has {SIZE} bytes"):
            far.table.lease("r", 0, SIZE + 1, writable=False)
        assert far.arena.blocks == 0


def test_two_workers_that_ask_each_other(workers: tuple[Worker, Worker]) -> None:
    with segment(CONTENT) as first, segment(CONTENT[::-1]) as second, ThreadPoolExecutor(8) as pool:
        _register(workers, _message(first, gpu=0, name="on0"), 0)
        _register(workers, _message(second, gpu=1, name="on1"), 1)

        def read(turn: int) -> bool:
            name, content = (("on1", CONTENT[::-1]), ("on0", CONTENT))[turn % 2]
            lease = workers[turn % 2].table.lease(name, turn, 5000, writable=False)
            found = bytes(lease.view)
            lease.release()
            return found == content[turn : turn + 5000]

        assert all(pool.map(read, range(400)))
    assert [worker.arena.blocks for worker in workers] == [0, 0]


def test_a_full_arena(workers: tuple[Worker, Worker]) -> None:
    _, far = workers
    with segment(CONTENT) as made:
        _register(workers, _message(made, gpu=0), 0)
        leases = [far.table.lease("r", 0, SIZE, writable=False) for _ in range(16)]
        with pytest.raises(Unavailable, match="transfer memory is full"):
            far.table.lease("r", 0, SIZE, writable=False)
        for lease in leases:
            lease.release()
        assert far.arena.blocks == 0


def test_a_worker_that_is_gone(tmp_path: Path) -> None:
    arena = Arena(1 << 20)
    for pids, text in (([], "no worker of another GPU is running"), ([7], "its GPU's worker is being restarted")):
        far = FarMemory(RunDir(tmp_path), arena, lambda owner, name, pids=pids: pids)
        region = messages.CudaRegion(name="r", raw_handle=bytes(64), byte_size=10)
        before = open_fds()
        with pytest.raises(Unavailable, match=text):
            far.lease(region, 0, 10, writable=False, copied=lambda: None, released=lambda: None)
        assert not opened_since(before)
    assert arena.blocks == 0
    arena.close()


def test_a_worker_that_does_not_answer(tmp_path: Path) -> None:
    """It may copy at any time later: its block is lost, rather than that another request gets it."""
    arena = Arena(1 << 20)
    far = FarMemory(RunDir(tmp_path), arena, lambda owner, name: [7], timeout_s=0.05)
    region = messages.CudaRegion(name="r", raw_handle=bytes(64), byte_size=10)
    released: list[int] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stuck:
        stuck.bind(os.fspath(tmp_path / "7.copies"))
        stuck.listen()
        with pytest.raises(Unavailable, match="does not answer"):
            far.lease(region, 0, 10, writable=False, copied=lambda: None, released=lambda: released.append(1))
        assert (arena.blocks, released) == (1, [])
        lease = far.lease(region, 0, 10, writable=True, copied=lambda: None, released=lambda: released.append(2))
        with pytest.raises(Unavailable, match="does not answer"):
            lease.commit(10)
        lease.release()
        assert (arena.blocks, released) == (2, [2])
    far.close()
    arena.close()


def test_an_answer_that_comes_too_late_is_nobodys(tmp_path: Path) -> None:
    """Who waits for the connection meanwhile would take it for his own, and what is in his block for the memory."""
    arena = Arena(1 << 20)
    question = bytes(_REQUEST_BYTES)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stuck:
        stuck.bind(os.fspath(tmp_path / "7.copies"))
        stuck.listen()
        peer = _Peer(tmp_path / "7.copies", arena.fd, timeout_s=0.05)
        connection, _ = stuck.accept()
        with connection:
            with pytest.raises(_PeerStuck):
                peer.ask(question)
            with suppress(BrokenPipeError):
                connection.sendall(struct.pack("<BI", 0, 0))
            with pytest.raises(_PeerGone):
                peer.ask(question)
        assert peer.closed
    arena.close()


def test_who_hears_last_that_a_peer_is_gone_does_not_hang_up_its_successor(tmp_path: Path) -> None:
    arena = Arena(1 << 20)
    far = FarMemory(RunDir(tmp_path), arena, lambda owner, name: [7])
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(os.fspath(tmp_path / "7.copies"))
        listener.listen()
        first = far._peer(7)
        assert far._peer(7) is first
        listener.accept()[0].close()
        with pytest.raises(_PeerGone):
            first.ask(bytes(_REQUEST_BYTES))
        second = far._peer(7)
        with pytest.raises(_PeerGone):
            first.ask(bytes(_REQUEST_BYTES))
        assert (far._peer(7) is second, second.closed) == (True, False)
    far.close()
    assert second.closed
    arena.close()


def test_random_requests(workers: tuple[Worker, Worker], tmp_path: Path) -> None:
    """Each is answered, nothing is written but where it may be, and the next one is served."""
    near, far = workers
    chance = random.Random(6)
    numbers = (0, 1, SIZE, SIZE + 1, 1 << 20, (1 << 20) + 1, 2**31, 2**32, 2**63, 2**64 - 1)
    with segment(CONTENT) as made, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        _register(workers, _message(made, gpu=0), 0)
        peer.settimeout(60)
        peer.connect(os.fspath(tmp_path / "0.copies"))
        socket.send_fds(peer, [b"\0"], [far.arena.fd])
        outcomes = set()
        for turn in range(2_000):
            what = 1 if turn % 2 else chance.choice((0, 1, 3, 255))  # never write
            handle = handle_of(made.key) if turn % 3 else chance.randbytes(64)
            offset, byte_size, place = (chance.choice(numbers) for _ in range(3))
            peer.sendall(struct.pack("<B64sqQQQ", what, handle, chance.randrange(-9, 9), offset, byte_size, place))
            code, length = struct.unpack("<BI", peer.recv(5, socket.MSG_WAITALL))
            text = peer.recv(length, socket.MSG_WAITALL) if length else b""
            outcomes.add(code)
            assert (code == 0) == (text == b"")
            inside = offset + byte_size <= SIZE and place + byte_size <= 1 << 20
            assert code or (what == 1 and inside)
        assert 0 in outcomes
        assert len(outcomes) > 1
        assert made.content == CONTENT
        assert far.table.lease("r", 0, 10, writable=False).view == CONTENT[:10]
        near.table.close("r")
    assert near.port.opened == near.port.closed


def _is_hung_up(peer: socket.socket) -> bool:
    peer.settimeout(60)
    try:
        return peer.recv(1) == b""
    except ConnectionResetError:
        return True


def test_peers_that_are_none(workers: tuple[Worker, Worker], tmp_path: Path) -> None:
    """No descriptor, one of a file that is not sealed, half a request, or places outside the arena."""
    before = open_fds()
    for packet in (b"x", b"x" * 500):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.connect(os.fspath(tmp_path / "0.copies"))
            peer.sendall(packet)
            assert _is_hung_up(peer)
    with (tmp_path / "file").open("w+b") as file, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.connect(os.fspath(tmp_path / "0.copies"))
        socket.send_fds(peer, [b"\0"], [file.fileno()])
        assert _is_hung_up(peer)
    with segment(CONTENT) as made:
        _register(workers, _message(made, gpu=0), 0)
        workers[1].arena.allocate(10)
        lease = workers[1].table.lease("r", 0, 10, writable=False)
        assert lease.view == CONTENT[:10]
        lease.release()
        for worker in workers:
            worker.table.close("r")
            worker.far.close()
    wait_until(lambda: not opened_since(before), "all connections are closed")
