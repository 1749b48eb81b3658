"""Handing files without a name to a peer: an arena, and the files of regions."""

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tensorhub.errors import InternalError
from tensorhub.ipc.arena_memory import Arena, PeerArena
from tensorhub.ipc.handles import HandleServer, fetch_handle
from tensorhub.ipc.peer_arenas import PeerArenas
from tensorhub.ipc.rundir import RunDir
from tests.shm.segments import open_fds, opened_since
from tests.shortage import no_descriptors
from tests.waiting import wait_until


def test_what_is_fetched_is_the_same_memory(tmp_path: Path) -> None:
    arena = Arena(1 << 20)
    server = HandleServer(tmp_path / "1.fds", arena.fd)
    server.start()
    fd = fetch_handle(tmp_path / "1.fds")
    assert os.fstat(fd).st_ino == os.fstat(arena.fd).st_ino
    assert not os.get_inheritable(fd)
    os.close(fd)
    server.close()
    assert not (tmp_path / "1.fds").exists()
    with pytest.raises(InternalError, match=r"^a peer's memory cannot be reached: No such file"):
        fetch_handle(tmp_path / "1.fds")
    arena.close()


def test_peers_that_leave_early_do_no_harm(tmp_path: Path) -> None:
    arena = Arena(1 << 20)
    server = HandleServer(tmp_path / "1.fds", arena.fd)
    server.start()
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(tmp_path / "1.fds"))
    os.close(fetch_handle(tmp_path / "1.fds"))
    server.close()
    arena.close()


def test_peers_wait_while_there_are_no_descriptors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arena = Arena(1 << 20)
    server = HandleServer(tmp_path / "1.fds", arena.fd)
    server.start()
    with socket.socket(socket.AF_UNIX) as early, no_descriptors():
        early.connect(str(tmp_path / "1.fds"))
        wait_until(lambda: "cannot accept a connection: [Errno 24]" in caplog.text, "it has tried")
        with pytest.raises(InternalError, match=r"^a peer's memory cannot be reached: Too many open files$"):
            fetch_handle(tmp_path / "1.fds")
    os.close(fetch_handle(tmp_path / "1.fds"))
    server.close()
    arena.close()


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "1.fds"))
    before = open_fds()
    with pytest.raises(InternalError, match="Connection refused"):
        fetch_handle(tmp_path / "1.fds")
    assert not opened_since(before)


def test_a_peer_that_gives_nothing(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as pool:
        listener.bind(str(tmp_path / "1.fds"))
        listener.listen()
        listener.settimeout(60)
        fetched = pool.submit(fetch_handle, tmp_path / "1.fds")
        connection, _ = listener.accept()
        assert connection.recv(8, socket.MSG_WAITALL) == bytes(8)
        connection.close()
        with pytest.raises(
            InternalError, match=r"^a peer's memory cannot be reached: it is not there, or was refused$"
        ):
            fetched.result(60)


def _file(content: bytes) -> int:
    fd = os.memfd_create("test", os.MFD_CLOEXEC)
    os.write(fd, content)
    return fd


def test_files_by_number(tmp_path: Path) -> None:
    before = open_fds()
    server = HandleServer(tmp_path / "1.fds")
    server.start()
    numbers = [server.add(_file(bytes([value]))) for value in range(3)]
    server.keep(77, _file(b"kept"))
    server.keep(77, _file(b"again"))
    assert len({0, 77, *numbers}) == 5
    for number, content in (*zip(numbers, (b"\0", b"\1", b"\2"), strict=True), (77, b"again")):
        fd = fetch_handle(tmp_path / "1.fds", number)
        assert os.pread(fd, 10, 0) == content
        os.close(fd)
    server.drop(numbers[0])
    server.drop(numbers[0])
    server.keep_only({77})
    assert [server.has(number) for number in (*numbers, 77)] == [False, False, False, True]
    for number in (numbers[0], numbers[1], 0, 2**64 - 1):
        with pytest.raises(InternalError, match="cannot be reached: it is not there"):
            fetch_handle(tmp_path / "1.fds", number)
    server.close()
    wait_until(lambda: not opened_since(before), "nothing is left open")


def test_a_file_that_is_given_once(tmp_path: Path) -> None:
    before = open_fds()
    server = HandleServer(tmp_path / "1.fds")
    server.start()
    for number in (5, 5, 6):  # a number that has been used up may be used again
        server.give_once(number, _file(b"once"))
        assert server.has(number)
        fd = fetch_handle(tmp_path / "1.fds", number)
        assert os.pread(fd, 10, 0) == b"once"
        os.close(fd)
        with pytest.raises(InternalError, match="cannot be reached: it is not there"):
            fetch_handle(tmp_path / "1.fds", number)
        assert not server.has(number)
    server.give_once(7, _file(b"dropped"))
    server.drop(7)
    server.keep(7, _file(b"kept"))
    for _ in range(2):
        os.close(fetch_handle(tmp_path / "1.fds", 7))
    server.close()
    wait_until(lambda: not opened_since(before), "nothing is left open")


def test_who_asks_for_what_is_expected_waits(tmp_path: Path) -> None:
    server = HandleServer(tmp_path / "1.fds")
    server.start()
    with ThreadPoolExecutor(1) as pool:
        for number in (5, 6):
            server.expect(number)
            server.expect(number)
            fetched = pool.submit(fetch_handle, tmp_path / "1.fds", number)
            server.settle(number)
            if number == 5:
                server.keep(number, _file(b"five"))
            server.settle(number)
            if number == 5:
                os.close(fetched.result(60))
            else:
                with pytest.raises(InternalError, match="not there"):
                    fetched.result(60)
    server.close()


def test_an_arena_that_cannot_be_mapped(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    arena = Arena(1 << 20)
    with (
        no_descriptors(),
        pytest.raises(InternalError, match=r"^a peer's arena cannot be mapped: Too many open files$"),
    ):
        PeerArena(arena.fd)
    server = HandleServer(run_dir.handles(7), arena.fd)
    server.start()
    peers = PeerArenas(run_dir)
    with no_descriptors(), pytest.raises(InternalError, match="Too many open files"):
        peers.view(7, 0, 2)
    assert len(peers.view(7, 0, 2)) == 2
    server.close()
    arena.close()


def test_peer_arenas_are_mapped_once_and_forgotten(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    arena = Arena(1 << 20)
    server = HandleServer(run_dir.handles(7), arena.fd)
    server.start()
    block = arena.allocate(64)
    block.view[:2] = b"hi"
    peers = PeerArenas(run_dir)
    view = peers.view(7, block.offset, 2)
    server.close()
    assert bytes(peers.view(7, 0, 2)) == b"hi"
    peers.forget(7)
    peers.forget(7)
    with pytest.raises(InternalError):
        peers.view(7, 0, 2)
    assert bytes(view) == b"hi"
    arena.close()
