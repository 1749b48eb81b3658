"""Noticing deaths of real processes, and timers."""

import itertools
import os
import queue
import select
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tensorhub.ipc.watch import Watcher, is_running, runs_in_group, start_ticks
from tests.shm.segments import open_fds, opened_since
from tests.shortage import no_descriptors

WAIT_S = 60.0


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    before = open_fds()
    watcher = Watcher()
    watcher.start()
    yield watcher
    watcher.close()
    assert not opened_since(before)


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as child:
        yield child
        child.kill()


def test_who_has_ended_does_not_run_though_nobody_asks_for_the_status() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as child:
        assert is_running(child.pid)
        assert runs_in_group(child.pid)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert start_ticks(child.pid)  # it is still in /proc
        assert not is_running(child.pid)
        assert not runs_in_group(child.pid)
    assert not is_running(child.pid)
    assert not runs_in_group(child.pid)
    with pytest.raises(ProcessLookupError):
        start_ticks(child.pid)


def test_a_kill_is_noticed_before_the_child_is_reaped(watcher: Watcher, child: "subprocess.Popen[bytes]") -> None:
    deaths: queue.Queue[int] = queue.Queue()
    watcher.watch(child.pid, start_ticks(child.pid), deaths.put)
    assert deaths.empty()
    child.kill()
    assert deaths.get(timeout=WAIT_S) == child.pid
    watcher.later(0, lambda: deaths.put(0))
    assert deaths.get(timeout=WAIT_S) == 0


def test_whoever_watches_hears_of_it(watcher: Watcher, child: "subprocess.Popen[bytes]") -> None:
    """A worker that calls models of another one is both a worker and a client there."""
    deaths: queue.Queue[str] = queue.Queue()
    for who in ("first", "second"):
        watcher.watch(child.pid, start_ticks(child.pid), lambda pid, who=who: deaths.put(who))  # type: ignore[misc]
    child.kill()
    assert [deaths.get(timeout=WAIT_S) for _ in range(2)] == ["first", "second"]


def test_an_exit_is_noticed(watcher: Watcher, child: "subprocess.Popen[bytes]") -> None:
    deaths: queue.Queue[int] = queue.Queue()
    watcher.watch(child.pid, start_ticks(child.pid), deaths.put)
    assert child.stdin is not None
    child.stdin.close()
    assert deaths.get(timeout=WAIT_S) == child.pid


def test_who_is_dead_already_is_reported(watcher: Watcher, child: "subprocess.Popen[bytes]") -> None:
    deaths: queue.Queue[int] = queue.Queue()
    ticks = start_ticks(child.pid)
    child.kill()
    child.wait(WAIT_S)
    watcher.watch(child.pid, ticks, deaths.put)
    assert deaths.get(timeout=WAIT_S) == child.pid
    with pytest.raises(ProcessLookupError):
        start_ticks(child.pid)


def test_another_process_with_the_same_pid_is_not_it(watcher: Watcher, child: "subprocess.Popen[bytes]") -> None:
    deaths: queue.Queue[int] = queue.Queue()
    watcher.watch(child.pid, start_ticks(child.pid) - 1, deaths.put)
    assert deaths.get(timeout=WAIT_S) == child.pid


def test_who_cannot_be_watched_for_lack_of_descriptors_is_not_dead(
    watcher: Watcher, child: "subprocess.Popen[bytes]"
) -> None:
    news: queue.Queue[int] = queue.Queue()
    ticks = start_ticks(child.pid)
    with no_descriptors():
        watcher.watch(child.pid, ticks, news.put)
        watcher.watch(os.getpid(), None, news.put)
        watcher.later(0, lambda: news.put(0))
        assert news.get(timeout=WAIT_S) == 0
        for ask in (is_running, start_ticks):
            with pytest.raises(OSError, match="Too many open files"):
                ask(child.pid)
    child.kill()
    assert news.get(timeout=WAIT_S) == child.pid
    watcher.forget(os.getpid())


def test_whoever_has_a_pid_is_watched(watcher: Watcher, child: "subprocess.Popen[bytes]") -> None:
    deaths: queue.Queue[int] = queue.Queue()
    watcher.watch(child.pid, None, deaths.put)
    child.kill()
    assert deaths.get(timeout=WAIT_S) == child.pid
    child.wait(WAIT_S)
    watcher.watch(child.pid, None, deaths.put)
    assert deaths.get(timeout=WAIT_S) == child.pid


def test_the_forgotten_are_not_reported(watcher: Watcher, child: "subprocess.Popen[bytes]") -> None:
    news: queue.Queue[int] = queue.Queue()
    watcher.watch(child.pid, start_ticks(child.pid), news.put)
    watcher.forget(child.pid)
    watcher.forget(child.pid)
    child.kill()
    child.wait(WAIT_S)
    watcher.later(0, lambda: news.put(-1))
    assert news.get(timeout=WAIT_S) == -1


def test_one_that_was_never_started_can_be_closed() -> None:
    before = open_fds()
    watcher = Watcher()
    watcher.watch(os.getpid(), None, lambda pid: None)
    watcher.close()
    assert not opened_since(before)


def test_after_close_nothing_is_written_to_what_has_its_descriptors() -> None:
    watcher = Watcher()
    watcher.start()
    watcher.close()
    pipes = [os.pipe() for _ in range(8)]
    watcher.later(0, lambda: None)
    reading = [pipe[0] for pipe in pipes]
    assert select.select(reading, [], [], 0)[0] == []
    for fd in itertools.chain(*pipes):
        os.close(fd)


def test_timers_run_in_order(watcher: Watcher) -> None:
    calls: queue.Queue[str] = queue.Queue()
    watcher.later(0.3, lambda: calls.put("second"))
    watcher.later(0.0, lambda: calls.put("first"))
    watcher.later(3_600, lambda: calls.put("never"))
    assert [calls.get(timeout=WAIT_S) for _ in range(2)] == ["first", "second"]
    assert calls.empty()
