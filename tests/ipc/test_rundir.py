"""The run directory: whose it is, who holds it, what the dead leave in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tensorhub.ipc.rundir import RunDir, RunDirError
from tensorhub.ipc.wire import Role

HOLDER = """
import sys
from pathlib import Path
from tensorhub.ipc.rundir import RunDir
with RunDir(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_it_is_made_for_one_user(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "a" / "b")
    run_dir.open()
    run_dir.open()
    assert run_dir.path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o755, 0o777, 0o704])
def test_open_to_others(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(RunDirError, match=f"mode {mode:04o}.*chmod 700"):
        RunDir(tmp_path).open()


def test_not_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunDirError, match="cannot use the run directory"):
        RunDir(tmp_path / "file").open()
    with pytest.raises(RunDirError, match="cannot use the run directory"):
        RunDir(tmp_path / "file" / "below").open()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_somebody_elses(tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    path.mkdir(mode=0o700)
    os.chown(path, 54_321, 54_321)
    with pytest.raises(RunDirError, match="belongs to uid 54321"):
        RunDir(path).open()


def test_paths_fit_a_socket_to_the_byte(tmp_path: Path) -> None:
    room = 107 - len("/worker-4194304.sock") - len(os.fsencode(tmp_path)) - 1
    RunDir(tmp_path / ("x" * room)).open()
    with pytest.raises(RunDirError, match="108 bytes with a socket's name, allowed are 107"):
        RunDir(tmp_path / ("x" * (room + 1))).open()


def test_one_hub_at_a_time_and_none_after_kill(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RunDirError, match="in use by a running server"), run_dir.lock():
            pass
        holder.kill()
        holder.wait(60)
    with run_dir.lock(), pytest.raises(RunDirError), RunDir(tmp_path).lock():
        pass
    with run_dir.lock():
        pass


def test_names(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    assert run_dir.mailbox(Role.HUB, 5) == run_dir.hub == tmp_path / "hub.sock"
    assert run_dir.mailbox(Role.WORKER, 5) == tmp_path / "worker-5.sock"
    assert run_dir.handles(5) == tmp_path / "5.fds"


def test_the_dead_are_forgotten(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(60)
    run_dir = RunDir(tmp_path)
    ours = [run_dir.hub, run_dir.mailbox(Role.HTTP, os.getpid()), run_dir.handles(os.getpid()), tmp_path / "notes.txt"]
    theirs = [run_dir.mailbox(Role.WORKER, gone.pid), run_dir.handles(gone.pid)]
    for path in ours + theirs:
        path.touch()
    run_dir.forget_the_dead()
    assert sorted(tmp_path.iterdir()) == sorted(ours)
    run_dir.forget(os.getpid())
    assert sorted(tmp_path.iterdir()) == sorted([run_dir.hub, tmp_path / "notes.txt"])
