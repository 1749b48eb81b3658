"""A model behind a cache: who answers, what is counted, and when it is over, with entries here and elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tensorhub.errors import Cancelled, InternalError, TensorhubError, Unavailable
from tensorhub.protocol.model_spec import ModelSpec, OutputSpec
from tensorhub.requests import InferRequest, InferResponse, RequestedOutput, Tensor
from tensorhub.tensors import DataType
from tensorhub.workers.cache import CacheEntry
from tensorhub.workers.caching import CachedModel, LocalEntries, OnFound, Search, SharedCache
from tensorhub.workers.serving import Retired

OUTPUTS = {name: OutputSpec(name, DataType.UINT8, (-1,)) for name in ("O", "P")}


class Model:
    """A model that keeps what it is given until it is told to answer."""

    load_id = 1
    news = decoder = encoder = readiness = None
    decoupled = False
    gathers = True
    quick = True
    spec = ModelSpec("m", 1, 0, {}, OUTPUTS)

    def __init__(self) -> None:
        self.taken: list[InferRequest] = []
        self.hits = self.misses = self.open = self.polls = 0
        self.refusal: TensorhubError | None = None
        self.on_drained: Callable[[], None] | None = None

    def submit(self, request: InferRequest, inline_runs: int = 0) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.open += 1
        self.taken.append(request)

    def poll(self, inline_runs: int = 0) -> None:
        self.polls += 1

    def observe_cache_hit(self, request: InferRequest, lookup_start_ns: int) -> None:
        self.hits += 1

    def observe_cache_miss(self, duration_ns: int, now_ns: int) -> None:
        assert duration_ns >= 0
        self.misses += 1

    def cancel(self, request: InferRequest) -> None:
        assert request.cancelled

    def closed(self) -> None:
        self.open -= 1
        self.drain(self.on_drained) if self.on_drained else None

    def drain(self, on_drained: Callable[[], None]) -> None:
        self.on_drained = on_drained
        if not self.open:
            on_drained()

    def answer(self, response: InferResponse) -> None:
        self.taken.pop().respond(response)


class _Pending:
    pending = True
    entry: CacheEntry | None = None

    def __init__(self, on_found: OnFound) -> None:
        self.on_found = on_found
        self.kept: list[CacheEntry] = []

    def keep(self, entry: CacheEntry) -> None:
        self.kept.append(entry)


class Elsewhere:
    """Entries that tell what they find when the test says so."""

    elsewhere = True

    def __init__(self) -> None:
        self.searches: list[_Pending] = []

    def look(self, request: InferRequest, wanted: frozenset[str], on_found: OnFound) -> Search:
        self.searches.append(_Pending(on_found))
        return self.searches[-1]

    def close(self) -> None:
        self.searches.clear()


class Client:
    """Asks, and closes what has been answered, as the worker's loop does."""

    def __init__(self, model: Any, entries: Any) -> None:
        self.cached = CachedModel(model, entries)
        self.answers: list[InferResponse] = []

    def ask(self, data: bytes = b"1234", requested: tuple[str, ...] = ()) -> InferRequest:
        listed = tuple(RequestedOutput(name) for name in requested)
        request = InferRequest("m", 1, "", {"A": Tensor("A", DataType.UINT8, (len(data),), data)}, listed)
        request.responder = self._respond
        self.cached.submit(request)
        return request

    def _respond(self, request: InferRequest, response: InferResponse | None, final: bool) -> None:
        assert response is not None
        self.answers.append(response)
        self.cached.closed()


def answer(*names: str) -> InferResponse:
    return InferResponse([Tensor(name, DataType.UINT8, (2,), name.encode() * 2) for name in names or ("O", "P")])


def local() -> tuple[Model, Client]:
    model = Model()
    return model, Client(model, LocalEntries(SharedCache(100_000), 1, "m"))


def test_a_miss_is_counted_and_kept_and_a_hit_is_answered_without_the_model() -> None:
    model, client = local()
    client.ask()
    model.answer(answer())
    client.ask()
    assert [bytes(item.data) for item in client.answers[1].outputs] == [b"OO", b"PP"]
    assert (model.hits, model.misses, model.open, model.taken) == (1, 1, 0, [])
    assert client.cached.quick


def test_an_error_is_a_miss_each_time() -> None:
    model, client = local()
    for _ in range(2):
        client.ask()
        model.answer(InferResponse(error=InternalError("no")))
    assert (model.hits, model.misses, model.open) == (0, 2, 0)


def test_a_request_that_the_model_refuses_is_not_taken() -> None:
    model, client = local()
    model.refusal = Unavailable("full")
    with pytest.raises(Unavailable):
        client.ask()
    drained: list[bool] = []
    client.cached.drain(lambda: drained.append(True))
    assert drained == [True]


def test_it_is_drained_when_the_model_has_answered_and_takes_nothing_more() -> None:
    model, client = local()
    client.ask()
    drained: list[bool] = []
    client.cached.drain(lambda: drained.append(True))
    with pytest.raises(Retired):
        client.ask()
    assert not drained
    model.answer(answer())
    assert drained == [True]


def elsewhere() -> tuple[Model, Client, Elsewhere]:
    model, entries = Model(), Elsewhere()
    return model, Client(model, entries), entries


def test_a_request_waits_for_what_is_elsewhere_and_is_open_meanwhile() -> None:
    model, client, entries = elsewhere()
    client.ask()
    drained: list[bool] = []
    client.cached.drain(lambda: drained.append(True))
    assert not client.answers
    assert not drained
    search = entries.searches[0]
    search.entry = CacheEntry(tuple(answer().outputs), {}, complete=True)
    assert search.on_found(search) is None
    assert len(client.answers) == 1
    assert drained == [True]
    assert (model.hits, model.misses, model.taken) == (1, 0, [])
    assert not client.cached.quick


def test_what_is_not_elsewhere_goes_to_the_model_also_while_it_is_drained_and_is_kept() -> None:
    model, client, entries = elsewhere()
    client.ask()
    drained: list[bool] = []
    client.cached.drain(lambda: drained.append(True))
    search = entries.searches[0]
    assert search.on_found(search) is model
    assert not drained
    model.answer(answer())
    assert len(search.kept) == 1
    assert drained == [True]
    assert (model.hits, model.misses, model.open) == (0, 1, 0)


def test_a_refusal_after_the_search_is_the_answer() -> None:
    model, client, entries = elsewhere()
    client.ask()
    model.refusal = Unavailable("full")
    search = entries.searches[0]
    assert search.on_found(search) is None
    assert isinstance(client.answers[0].error, Unavailable)
    drained: list[bool] = []
    client.cached.drain(lambda: drained.append(True))
    assert drained == [True]


def test_a_request_that_is_cancelled_meanwhile_is_not_run() -> None:
    model, client, entries = elsewhere()
    request = client.ask()
    client.cached.cancel(request)
    search = entries.searches[0]
    assert search.on_found(search) is None
    assert isinstance(client.answers[0].error, Cancelled)
    assert not model.taken
