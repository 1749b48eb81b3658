"""Many deaths in a row: those who live on hold no more after the last than after the first.

The daemons run without a supervisor, which would wait longer before each restart of what keeps dying.
"""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash.load import loaded
from tests.crash.processes import arenas_mapped, only_the_living, open_files, shared_memory_files
from tests.end_to_end.daemons import Daemons, Process, adds, ask, daemons, kill
from tests.waiting import wait_until

_ARENA = f"--arena-byte-size={16 << 20}"  # little, so that a handful of tensors that are not given back would fill it
_WORKER_DEATHS = 50
_OTHER_DEATHS = 5

Holdings = dict[int, Counter[str]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Daemons]:
    before = shared_memory_files()
    with daemons(tmp_path) as found:
        yield found
    assert shared_memory_files() <= before


def _holdings(survivors: list[int]) -> Holdings:
    """What each process holds: descriptors by what they are, and mappings of arenas."""
    return {pid: Counter(open_files(pid)) + Counter({"arena": arenas_mapped(pid)}) for pid in survivors}


def _more(now: Holdings, then: Holdings) -> Holdings:
    return {pid: more for pid in now if (more := now[pid] - then[pid])}


def _work(server: Daemons, between: Callable[[], object] = lambda: None) -> None:
    """Serve all clients, do something meanwhile, serve them again, and let them go."""
    with loaded(f"127.0.0.1:{server.http_port}", f"127.0.0.1:{server.grpc_port}") as load:
        wait_until(load.progress(2), "all clients are served", account=load)
        between()
        wait_until(load.progress(2), "all clients are served again", account=load)


def _stays(survivors: list[int], before: Holdings) -> None:
    def more() -> Holdings:
        return _more(_holdings(survivors), before)

    wait_until(lambda: not more(), "the dead have been let go", account=more)


def _serves_all(server: Daemons) -> bool:
    """Whether every model is served: one during whose load its worker is killed twice is given up.

    In this order: what is said of readiness may be from before the worker's death.
    """
    return adds(server.http_port) and ask(server.http_port, "GET", "/v2/health/ready")[0] == 200


def test_workers(server: Daemons) -> None:
    hub, grpc, http = server.hub(), server.grpc(), server.http()
    worker = server.worker("cpu0", _ARENA)
    wait_until(lambda: adds(server.http_port), "it serves")

    def again() -> None:
        nonlocal worker
        kill(worker)
        worker = server.worker("cpu0", _ARENA)

    _work(server, again)
    survivors = [hub.pid, grpc.pid, http.pid, *_children(http)]
    before = _holdings(survivors)
    for _ in range(_WORKER_DEATHS - 2):
        again()
        wait_until(lambda: _serves_all(server), "the next worker serves")
    _work(server, again)
    _stays(survivors, before)
    wait_until(lambda: only_the_living(server.run_dir), "the sockets of the dead are removed")


def test_frontends_and_hubs(server: Daemons) -> None:
    """The worker's arena is little: it serves on only if it gets back what the dead had not released."""
    hub, worker = server.hub(), server.worker("cpu0", _ARENA)
    grpc, http = server.grpc(), server.http()
    before: Holdings = {}
    for number in range(_OTHER_DEATHS):

        def again() -> None:
            nonlocal grpc, hub
            kill(grpc)
            _kill_child(http)
            grpc = server.grpc(server.grpc_port)
            kill(hub)
            hub = server.hub()

        wait_until(lambda: adds(server.http_port), "it serves")
        _work(server, again)
        if number == 0:
            # The last request of a dead client may still be referred to, and its arena with it: one, and never more.
            one = Counter({"/memfd:tensorhub-arena (deleted)": 1, "arena": 1})
            before = {pid: held + one for pid, held in _holdings([worker.pid]).items()}
    _stays([worker.pid], before)
    wait_until(lambda: only_the_living(server.run_dir), "the sockets of the dead are removed")


def _children(process: Process) -> list[int]:
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in path.read_text(encoding="ascii").split()]


def _kill_child(master: Process) -> None:
    """Kill Gunicorn's worker; the master starts another."""
    [pid] = _children(master)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: _children(master) not in ([pid], []), "another HTTP process")
