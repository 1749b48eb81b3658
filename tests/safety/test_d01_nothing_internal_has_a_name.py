"""D1: nothing of the server's own can be named, and no error text helps to find it."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.safety.client import Grpc, Http
from tests.safety.processes import FOREIGN_UID
from tests.serving import RunningServer, processes_of
from tests.shm.segments import segment

PAGE = 4096
_TELLTALE = re.compile(r"/proc|/tmp|/run|/home|/usr|memfd|0x[0-9a-f]{6,}|\.sock|\.py\b|pid \d|errno", re.IGNORECASE)


def _every_name(server: RunningServer) -> list[str]:
    """All that could be tried as the key of something that a process of the server has open or mapped."""
    assert server.run_dir is not None
    names = {f"{server.run_dir}/{path.name}" for path in server.run_dir.iterdir()}
    for pid in processes_of(server.run_dir):
        for path, target in _descriptors(pid):
            names |= {str(path), target, target.split(" ")[0], Path(target).name}
        for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines():
            if line.endswith("(deleted)"):
                names.add(line.split(maxsplit=5)[5])
    return sorted(names)


def _descriptors(pid: int) -> Iterator[tuple[Path, str]]:
    """Yield what a process has open and keeps open for as long as it takes to look."""
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            yield path, os.readlink(path)


def _says_nothing(server: RunningServer, text: str, key: str) -> None:
    assert server.run_dir is not None
    rest = text.replace(key, "<key>")
    assert not _TELLTALE.search(rest), text
    assert not any(re.search(rf"\b{pid}\b", rest) for pid in processes_of(server.run_dir)), text


def test_the_server_has_no_name_in_dev_shm(guarded: RunningServer) -> None:
    assert guarded.run_dir is not None
    for pid in processes_of(guarded.run_dir):
        links = [link for _, link in _descriptors(pid)]
        # Gunicorn's own mark of life has lost its name as soon as it was made.
        assert not [link for link in links if link.startswith("/dev/shm/") and not link.endswith(" (deleted)")]
        assert "/dev/shm/" not in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")


def test_every_descriptor_of_every_process_is_refused(guarded: RunningServer, http: Http, rpc: Grpc) -> None:
    names = _every_name(guarded)
    assert any("memfd:" in name for name in names), "the arenas are among them"
    for key in names:
        status, body = http.register("d01", key, 0, PAGE)
        assert status in (400, 500), (key, status, body)
        _says_nothing(guarded, body.decode(), key)
    for key in names[::7]:
        code, text = rpc.register("d01", key, 0, PAGE)
        assert code in ("INVALID_ARGUMENT", "INTERNAL"), (key, code)
        _says_nothing(guarded, text, key)
    assert http.regions() == []


@pytest.mark.parametrize(
    "key", ["", "/", "//x", "///x", "../x", "/../x", "a/b", "x\0y", "\0", "%2f", "%2e%2e", "..%2fx", "x" * 201, "a\n"]
)
def test_keys_that_are_no_names(http: Http, rpc: Grpc, guarded: RunningServer, key: str) -> None:
    with segment(bytes(PAGE)) as made:
        # What a lenient reader would make of them: the segment that is there.
        for tried in {key, key.replace("x", made.key[1:])}:
            status, body = http.register("d01", tried, 0, PAGE)
            assert status == 400, (tried, body)
            assert b"invalid shm key" in body
            assert rpc.register("d01", tried, 0, PAGE)[0] == "INVALID_ARGUMENT"
    assert http.regions() == []


def test_tritons_own_memory_is_refused_however_it_is_written(http: Http) -> None:
    for slashes in ("", "/", "//", "////"):
        status, body = http.register("d01", f"{slashes}triton_python_backend_shm_region_1", 0, PAGE)
        assert status == 400
        assert b"reserved prefix" in body


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_other_users_segments(http: Http) -> None:
    for uid, allowed in ((FOREIGN_UID, True), (FOREIGN_UID + 1, False)):
        with segment(bytes(PAGE)) as made:
            os.chown(made.path, uid, uid)
            status, body = http.register("d01", made.key, 0, PAGE)
            assert (status == 200) is allowed, body
            assert str(uid).encode() not in body
            http.unregister("d01")


def test_what_is_no_segment(http: Http, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(PAGE))
    with segment(b"") as made:
        made.path.unlink()
        for make in (
            lambda: made.path.symlink_to(tmp_path / "file"),
            lambda: os.mkfifo(made.path),
            lambda: os.mknod(made.path, 0o600 | 0o140000),
        ):
            make()
            status, body = http.register("d01", made.key, 0, PAGE)
            assert status == 500, body
            assert str(tmp_path).encode() not in body
            made.path.unlink()
