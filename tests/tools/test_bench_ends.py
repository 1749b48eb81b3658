"""Whatever ends a bench in the middle of a run, nothing of it is left: no process, no segment, no folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.waiting import DEADLINE_S, wait_until
from tools.bench import h2load, leftovers, processes, table

ROOT = Path(__file__).resolve().parents[2]
MODELS = Path(table.__file__).parent / "models"
SERVE = (
    f"{sys.executable} -m tensorhub serve --model-repository={{repository}} --http-port={{http_port}} "
    "--grpc-port={grpc_port} --metrics-port={metrics_port} --run-dir={run_dir} --log-info=false"
)


class Bench:
    """A bench in a run: two servers are up, segments are registered, and h2load sends."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(MODELS / "identity_fp32", folder / "models" / "identity_fp32")
        options = ["--workloads=shm_64k", "--seconds=60", f"--repository={folder / 'models'}", f"--output={folder}"]
        command = [sys.executable, "-m", "tools.bench", *options, f"--server-cmd={SERVE}", f"--peer-cmd={SERVE}"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.servers: list[processes.Process] = []
        self.everything: list[processes.Process] = []

    def await_run(self) -> None:
        """Wait until it measures, and note what it has started."""
        wait_until(lambda: self.generators() or self.process.poll() is not None, "h2load sends", 2 * DEADLINE_S)
        assert self.process.poll() is None, self.wait()
        self.servers = [child for child in self._children() if child.session == child.pid]
        self.everything = [member for child in self.servers for member in processes.server(child.pid)]
        assert len(self.servers) == 2
        assert len(self.everything) > 6
        assert len(self.names()) >= 5, "four segments and the servers' folders"

    def generators(self) -> list[int]:
        """Return the pids of h2load."""
        return [pid for pid, kind in self._kinds() if kind == "h2load"]

    def kill_generators(self) -> None:
        """Kill h2load until the bench ends: between two of its runs there is none, and one may just have finished."""

        def ended() -> bool:
            for pid in self.generators():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return self.process.poll() is not None

        wait_until(ended)

    def names(self) -> list[Path]:
        """Return what has the bench's mark on it."""
        marked = f"tensorhub?bench?{self.process.pid}?*"
        return [path for where in (tempfile.gettempdir(), "/dev/shm") for path in Path(where).glob(marked)]

    def wait(self) -> str:
        """Return what it said at the end."""
        _, errors = self.process.communicate(timeout=60)
        return errors

    def is_gone(self) -> bool:
        """Return whether none of its processes runs any more."""
        table = processes.read_table()
        return not any(
            old.pid in table and table[old.pid].started_ticks == old.started_ticks and table[old.pid].state != "Z"
            for old in self.everything
        )

    def _children(self) -> list[processes.Process]:
        return [process for process in processes.read_table().values() if process.parent == self.process.pid]

    def _kinds(self) -> list[tuple[int, str]]:
        found = processes.kinds(self._children())
        return [(process.pid, kind) for kind, some in found.items() for process in some]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    try:
        made.await_run()
        yield made
    finally:
        made.process.kill()
        made.process.communicate()


pytestmark = pytest.mark.skipif(not h2load.installed(), reason=f"needs h2load: apt install {h2load.PACKAGE}")


def test_interrupt(bench: Bench) -> None:
    bench.process.send_signal(signal.SIGINT)
    assert "interrupted; the servers are stopped" in bench.wait()
    assert bench.process.returncode == 130
    assert (bench.is_gone(), bench.names()) == (True, [])


def test_the_load_generator_is_killed(bench: Bench) -> None:
    bench.kill_generators()
    assert "h2load failed with status -9" in bench.wait()
    assert bench.process.returncode == 1
    assert (bench.is_gone(), bench.names()) == (True, [])


def test_the_bench_is_killed(bench: Bench) -> None:
    bench.process.kill()
    bench.process.wait()
    wait_until(bench.is_gone)
    told = leftovers.remove()
    assert any(str(bench.process.pid) in line for line in told), "its folders, which the next bench removes"
    assert bench.names() == []


def test_only_what_the_dead_have_left_is_removed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    dead = tmp_path / f"tensorhub-bench-{gone.pid}-x"
    (dead / "inside").mkdir(parents=True)
    segment = tmp_path / f"tensorhub_bench_{gone.pid}_name_bench_in"
    segment.touch()
    kept = [tmp_path / name for name in (f"{leftovers.folder_prefix()}y", f"other-{gone.pid}-x", "tensorhub-bench-x")]
    for path in kept:
        path.mkdir()
    assert len(leftovers.remove((tmp_path,))) == 2
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_what_an_interrupt_left_without_an_owner_is_removed(tmp_path: Path) -> None:
    (tmp_path / f"{leftovers.folder_prefix()}x" / "half").mkdir(parents=True)
    (tmp_path / f"{leftovers.segment_prefix()}y").touch()
    kept = tmp_path / "tensorhub-bench-1-x"
    kept.mkdir()
    leftovers.remove_own((tmp_path,))
    assert list(tmp_path.iterdir()) == [kept]
