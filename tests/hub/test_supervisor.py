"""The supervisor with real processes: what it refuses, what it starts again, and what it leaves behind."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import grpc
import pytest

from tensorhub.ipc.watch import is_running
from tests.crash.processes import by_kind
from tests.end_to_end.daemons import run_to_end
from tests.serving import EXAMPLE_MODELS, PROJECT, free_ports, is_ready, processes_of, run_dir_of, serving
from tests.waiting import DEADLINE_S, wait_until

_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


def test_whoever_is_killed_is_started_again(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        assert server.run_dir is not None
        run_dir, port = server.run_dir, int(server.http.rpartition(":")[2])
        for module in ("tensorhub.hub.main", "tensorhub.workers.main", "gunicorn", "tensorhub.grpc.main"):
            before = {pid for pid, command in processes_of(run_dir).items() if module in command}
            os.kill(min(before), signal.SIGKILL)

            def back(module: str = module, before: set[int] = before) -> bool:
                return any(module in text for pid, text in processes_of(run_dir).items() if pid not in before)

            wait_until(back)
            wait_until(lambda: is_ready(port))


@pytest.mark.usefixtures("heard_hangup")
def test_a_terminal_that_is_closed_ends_the_server_in_order(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        assert server.pid is not None
        pid = server.pid
        os.kill(pid, signal.SIGHUP)
        wait_until(lambda: not is_running(pid), "it ends, and leaves nothing, as `serving` sees to")


def test_a_second_server_is_refused_also_while_the_hub_is_dead(tmp_path: Path) -> None:
    """It would take the place of the hub that is to come, and the first one's processes would join it."""
    with serving(tmp_path) as server:
        assert server.pid is not None
        [hub] = by_kind(server)["hub"]
        os.kill(server.pid, signal.SIGSTOP)  # so that it starts no other hub meanwhile
        try:
            os.kill(hub, signal.SIGKILL)
            wait_until(lambda: not is_running(hub), "the hub is dead")
            ports = free_ports(3)
            names = ("http", "grpc", "metrics")
            status, said = run_to_end(
                *("tensorhub", "serve", f"--model-repository={EXAMPLE_MODELS}", f"--run-dir={server.run_dir}"),
                *(f"--{name}-port={port}" for name, port in zip(names, ports, strict=True)),
            )
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert (status, "in use by a running server" in said) == (1, True), said
        wait_until(lambda: by_kind(server)["hub"] not in ([], [hub]), "the first one goes on")


@pytest.mark.parametrize("closed", [False, True])
def test_a_server_needs_nobody_who_reads_what_it_says(tmp_path: Path, closed: bool) -> None:
    """Its output is a pipe whose reader has gone, or it was started without one."""
    ports = free_ports(3)
    run_dir = run_dir_of(ports[0])
    names = ("http", "grpc", "metrics")
    command = [
        *(sys.executable, "-m", "tensorhub", "serve", f"--model-repository={tmp_path}", f"--run-dir={run_dir}"),
        *(f"--{name}-port={port}" for name, port in zip(names, ports, strict=True)),
        *(f"--{name}-address=127.0.0.1" for name in names),
    ]
    reading, writing = os.pipe()
    os.close(reading)
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"] if closed else []
    process = subprocess.Popen([*shell, *command], stdin=subprocess.DEVNULL, stdout=writing, stderr=writing)
    os.close(writing)
    try:
        wait_until(lambda: is_ready(ports[0]) or process.poll() is not None)
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.wait()
    run_dir.rmdir()


@pytest.fixture
def parent_of_orphans() -> Iterator[None]:
    """This process becomes the parent of its descendants' orphans, as process 1 of a container does, and does nothing.

    An orphan that ends stays a zombie meanwhile.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0) == 0
    try:
        yield
    finally:
        assert libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(0), 0, 0, 0) == 0
        for pid in map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()):
            if not is_running(pid):
                os.waitpid(pid, 0)


@pytest.mark.usefixtures("parent_of_orphans")
def test_what_the_killed_leave_is_removed_though_they_stay_zombies(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        assert server.run_dir is not None
        found = by_kind(server)
        for pid in found["http"]:
            os.kill(pid, signal.SIGSTOP)  # so that it does not remove its files itself
        for pid in found["hub"] + found["gunicorn"]:
            os.kill(pid, signal.SIGKILL)  # the hub, so that nobody is left who knew the frontend
        wait_until(lambda: is_ready(int(server.http.rpartition(":")[2])))
    zombies = [pid for pid in found["http"] if Path(f"/proc/{pid}/stat").exists()]
    assert zombies, "nobody has become a zombie, so that nothing was shown"


def test_a_load_that_fails_before_all_frontends_are_there_does_not_end_the_server(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    (repository / "broken" / "1").mkdir(parents=True)
    (repository / "broken" / "config.pbtxt").write_text('backend: "python"')
    held: list[int] = []

    def loaded_too_early(port: int) -> bool:
        if not held:
            found = [pid for pid, text in processes_of(run_dir_of(port)).items() if "tensorhub.grpc.main" in text]
            for pid in found:
                os.kill(pid, signal.SIGSTOP)
            held.extend(found)
        if not held or not is_ready(port):
            return False
        connection = HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
        connection.request("POST", "/v2/repository/models/broken/load", "{}")
        assert connection.getresponse().status == 400
        connection.close()
        os.kill(held[0], signal.SIGCONT)
        return True

    explicit = ["--model-control-mode=explicit"]
    with (
        serving(tmp_path, explicit, repository, ready=loaded_too_early) as server,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        grpc.channel_ready_future(channel).result(DEADLINE_S)
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        assert live(b"", timeout=DEADLINE_S) == b"\x08\x01"


def test_a_run_directory_has_one_server(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        second = subprocess.run(
            [
                *(sys.executable, "-m", "tensorhub", "serve", "--model-repository=examples/models"),
                f"--run-dir={server.run_dir}",
            ],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert second.returncode == 1
        assert second.stderr.startswith(f"tensorhub serve: the run directory {server.run_dir} is in use")
        assert second.stderr.count("\n") == 1
