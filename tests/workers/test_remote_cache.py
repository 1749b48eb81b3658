"""The way to a cache that is a server: who is asked together, and what becomes of those who cannot be asked."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import pytest

from tensorhub.redis_link import RedisFault
from tensorhub.workers import outage, remote_cache
from tensorhub.workers.remote_cache import RemoteCache
from tests.waiting import wait_until

LIMIT = 100


class Server:
    """A server in this process: its links answer when they may, or fail."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.fault = ""
        self.refusal = ""
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.asked: SimpleQueue[list[str]] = SimpleQueue()
        self.stored: SimpleQueue[list[str]] = SimpleQueue()
        self.closed = 0

    def fetch(self, keys: Sequence[str], byte_limit: int) -> list[bytes | None]:
        self.asked.put(list(keys))
        self._work()
        return [self.values.get(key, b"")[: byte_limit + 1] for key in keys]

    def store(self, items: Sequence[tuple[str, bytes, int]]) -> str:
        self.stored.put([key for key, _, _ in items])
        self._work()
        self.values.update({key: value for key, value, _ in items})
        return self.refusal

    def close(self) -> None:
        self.closed += 1

    def _work(self) -> None:
        assert self.may_answer.wait(60)
        if self.fault:
            raise RedisFault(self.fault)


class Model:
    def __init__(self) -> None:
        self.polls = 0

    def poll(self) -> None:
        self.polls += 1


@dataclass(eq=False)
class Lookup:
    name: str
    model: Model | None = None
    raises: bool = False
    read_on: list[str] = field(default_factory=list)
    got: list[bytes | None] = field(default_factory=list)

    def key(self) -> str:
        if self.raises:
            raise RuntimeError("no key")
        return self.name

    def read(self, value: bytes | None) -> Callable[[], Model | None]:
        self.read_on.append(threading.current_thread().name)

        def go_on() -> Model | None:
            self.got.append(value)
            return self.model

        return go_on


@dataclass
class Entry:
    key: str
    byte_size: int = 10
    value: bytes = b"value"
    raises: bool = False

    def write(self) -> tuple[str, bytes, int]:
        if self.raises:
            raise ValueError("a parameter that no message can hold")
        return self.key, self.value, 0


class Worker:
    """The cache, and a loop that does what is posted when the test says so."""

    def __init__(self, server: Server, wait_ns: int = 20_000_000_000) -> None:
        self.posted: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.cache = RemoteCache(
            lambda: server, self.posted.put, lookup_links=1, wait_ns=wait_ns, byte_limit=LIMIT, place="here:1"
        )
        self.cache.start()

    def turn(self) -> None:
        self.posted.get(timeout=60)()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def worker(server: Server) -> Iterator[Worker]:
    made = Worker(server)
    yield made
    server.may_answer.set()
    made.cache.close()
    assert server.closed == 2


def ask(worker: Worker, *names: str, model: Model | None = None) -> list[Lookup]:
    lookups = [Lookup(name, model) for name in names]
    for lookup in lookups:
        assert worker.cache.ask(lookup)
    return lookups


def test_what_is_there_is_found_and_dealt_with_on_the_loop(server: Server, worker: Worker) -> None:
    server.values["a"] = b"A"
    (found,) = ask(worker, "a")
    worker.turn()
    assert found.got == [b"A"]
    assert found.read_on == ["cache-0"]


def test_those_who_wait_are_asked_together_and_their_models_polled_once(server: Server, worker: Worker) -> None:
    server.may_answer.clear()
    model = Model()
    (first,) = ask(worker, "first")
    assert server.asked.get(timeout=60) == ["first"]
    others = ask(worker, "a", "b", "c", model=model)
    server.may_answer.set()
    worker.turn()
    assert first.got == [b""]
    worker.turn()
    assert server.asked.get(timeout=60) == ["a", "b", "c"]
    assert [item.got for item in others] == [[b""]] * 3
    assert model.polls == 1


def test_a_request_without_a_key_is_a_miss_and_hinders_nobody(
    server: Server, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    server.values["a"] = b"A"
    server.may_answer.clear()
    ask(worker, "first")
    server.asked.get(timeout=60)
    broken, (none, found) = Lookup("x", raises=True), ask(worker, "", "a")
    assert worker.cache.ask(broken)
    server.may_answer.set()
    worker.turn()
    worker.turn()
    assert (none.got, found.got, broken.got) == ([b""], [b"A"], [b""])
    assert "no key" in caplog.text


def test_a_failure_is_told_once_and_nobody_waits_any_more(
    server: Server, worker: Worker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "FIRST_PAUSE_NS", 2_000_000_000)
    caplog.set_level(logging.INFO)
    server.may_answer.clear()
    (first,) = ask(worker, "first")
    server.asked.get(timeout=60)
    others = ask(worker, "a", "b")
    server.fault = "it is down"
    server.may_answer.set()
    worker.turn()
    assert [item.got for item in (first, *others)] == [[b""]] * 3
    assert not worker.cache.ask(Lookup("c")), "it is not asked at once again"
    server.fault = ""
    again = Lookup("d")
    wait_until(lambda: worker.cache.ask(again), "it is tried again after a pause")
    worker.turn()
    ask(worker, "e")
    worker.turn()
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "the response cache is not used until it answers again: it is down",
        "the response cache at here:1 answers again",
    ]


def test_who_has_waited_too_long_is_not_asked_for(server: Server) -> None:
    worker = Worker(server, wait_ns=0)
    (late,) = ask(worker, "late")
    worker.turn()
    assert late.got == [b""]
    assert server.asked.empty()
    worker.cache.close()


def test_the_line_has_an_end(server: Server, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_cache, "LINE_LIMIT", 2)
    server.may_answer.clear()
    ask(worker, "first")
    server.asked.get(timeout=60)
    ask(worker, "a", "b")
    assert not worker.cache.ask(Lookup("c"))


def test_an_entry_is_written_and_found(server: Server, worker: Worker) -> None:
    worker.cache.keep(Entry("a"))
    assert server.stored.get(timeout=60) == ["a"]
    wait_until(lambda: "a" in server.values, "it is written")
    (found,) = ask(worker, "a")
    worker.turn()
    assert found.got == [b"value"]


def _keep_a_slow_one(server: Server, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have room for little that waits to be written, and something being written until the server may answer."""
    monkeypatch.setattr(remote_cache, "UNWRITTEN_BYTES", 30)
    server.may_answer.clear()
    worker.cache.keep(Entry("first"))
    assert server.stored.get(timeout=60) == ["first"]


def test_no_more_waits_to_be_written_than_there_is_room_for(
    server: Server, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    _keep_a_slow_one(server, worker, monkeypatch)
    for name in ("a", "b", "dropped"):
        worker.cache.keep(Entry(name))
    server.may_answer.set()
    assert server.stored.get(timeout=60) == ["a", "b"]
    wait_until(lambda: set(server.values) == {"first", "a", "b"}, "what had room is written")

    def kept() -> bool:
        worker.cache.keep(Entry("later"))
        return "later" in server.values

    wait_until(kept, "there is room again")


def test_what_is_too_large_to_be_read_is_not_written(server: Server, worker: Worker) -> None:
    worker.cache.keep(Entry("large", value=bytes(LIMIT + 1)))
    worker.cache.keep(Entry("fits", value=bytes(LIMIT)))
    wait_until(lambda: "fits" in server.values, "what fits is written")
    assert "large" not in server.values


def test_what_cannot_be_written_takes_no_room_and_hinders_nobody(
    server: Server, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    _keep_a_slow_one(server, worker, monkeypatch)
    for entry in (Entry("bad", raises=True), Entry("good")):
        worker.cache.keep(entry)
    server.may_answer.set()
    assert server.stored.get(timeout=60) == ["good"]
    for name in ("a", "b", "c", "d"):
        worker.cache.keep(Entry(name, raises=True))
        worker.cache.keep(Entry(name.upper()))
        wait_until(lambda name=name: name.upper() in server.values, "there is room")  # type: ignore[misc]


def test_a_refusal_to_write_is_told_once_and_no_reason_not_to_ask(
    server: Server, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    server.refusal = "OOM"
    for name in ("a", "b"):
        worker.cache.keep(Entry(name))
        wait_until(lambda name=name: name in server.values, "it was tried")  # type: ignore[misc]
    ask(worker, "a")
    worker.turn()
    assert [record.getMessage() for record in caplog.records] == [
        "the response cache at here:1 keeps nothing: OOM (said once)"
    ]


def test_a_writer_that_fails_lets_those_go_who_wait(server: Server, worker: Worker) -> None:
    server.may_answer.clear()
    worker.cache.keep(Entry("a"))
    server.stored.get(timeout=60)
    (first,) = ask(worker, "first")
    server.asked.get(timeout=60)
    (waits,) = ask(worker, "waits")
    server.fault = "gone"
    server.may_answer.set()
    worker.turn()
    while not (first.got and waits.got):
        worker.turn()
    assert (first.got, waits.got) == ([b""], [b""])


def test_after_the_end_nobody_is_asked(server: Server) -> None:
    worker: Any = Worker(server)
    worker.cache.close()
    assert not worker.cache.ask(Lookup("a"))
    worker.cache.keep(Entry("a"))
    assert server.asked.empty()
    assert server.stored.empty()
