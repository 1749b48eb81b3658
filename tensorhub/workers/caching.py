"""One loaded model's use of the response cache: look before the queue, keep after a successful run.

`CachedModel` stands in front of a model. What is found is answered without the model. A request that is not found is
given to it with a responder that takes the copy, before the answer leaves. Nothing that a client can still write to may
get into the cache: of a cached model, inputs in regions are copied before they are looked at
(`ModelSpec.copies_region_inputs`), and while the model runs, the request hides the regions of its outputs, so that the
outputs are in memory of our own until they have been copied.

Where entries are is the business of `Entries`: in this process (`LocalEntries`), where a look tells at once, or
elsewhere (`redis_entries`), in which case the request is open and waits until the loop hears of it.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from tensorhub.backends.destinations import PlacedOutput
from tensorhub.errors import Cancelled, InternalError, TensorhubError
from tensorhub.protocol.model_spec import ModelSpec
from tensorhub.requests import InferRequest, InferResponse, RequestedOutput, Responder
from tensorhub.workers.cache import CacheEntry, CacheKey, ResponseCache, maybe_digest, maybe_entry
from tensorhub.workers.decode import RequestDecoder
from tensorhub.workers.encode import ResponseEncoder
from tensorhub.workers.open_requests import OpenRequests
from tensorhub.workers.serving import ServingModel

log = logging.getLogger(__name__)

_NO_LIMIT = 1 << 62


class CacheableModel(ServingModel, Protocol):
    """A model that can stand behind a cache."""

    def observe_cache_hit(self, request: InferRequest, lookup_start_ns: int) -> None:
        """Count a request that was answered without it. Thread-safe."""

    def observe_cache_miss(self, duration_ns: int, now_ns: int) -> None:
        """Count a look-up in vain, with what looking and keeping took. Thread-safe."""


class Search(Protocol):
    """The look for the answer to one request.

    Attributes:
        pending: it goes on elsewhere.
        entry: what was found.
    """

    pending: bool
    entry: CacheEntry | None

    def keep(self, entry: CacheEntry) -> None:
        """Keep the answer that was looked for in vain."""


OnFound = Callable[[Search], ServingModel | None]
"""Goes on with a request when a pending search has ended, on the loop; returns the model if it is to be polled then."""


class Entries(Protocol):
    """The cache, as one load sees it. Thread-safe.

    Attributes:
        elsewhere: a look may take its time.
    """

    elsewhere: bool

    def look(self, request: InferRequest, wanted: frozenset[str], on_found: OnFound) -> Search:
        """Look for the answer to a request.

        Args:
            wanted: the outputs that the client listed; none: all.
            on_found: called later, exactly once, if the search is pending, and else not.
        """

    def close(self) -> None:
        """The load has ended."""


class SharedCache(ResponseCache):
    """The cache of a worker. Thread-safe."""

    def __init__(self, byte_size: int) -> None:
        super().__init__(byte_size)
        self._lock = threading.Lock()

    def maybe_find(self, key: CacheKey, wanted: frozenset[str]) -> CacheEntry | None:
        """See ResponseCache."""
        with self._lock:
            return super().maybe_find(key, wanted)

    def insert(self, key: CacheKey, entry: CacheEntry) -> bool:
        """See ResponseCache."""
        with self._lock:
            return super().insert(key, entry)

    def forget(self, load_id: int) -> None:
        """See ResponseCache."""
        with self._lock:
            super().forget(load_id)


class LocalEntries:
    """The entries of one load in the cache of its worker; see Entries."""

    elsewhere = False

    def __init__(self, cache: SharedCache, load_id: int, model: str) -> None:
        self.cache = cache
        self._load_id = load_id
        self._model = model
        self._told = False

    def look(self, request: InferRequest, wanted: frozenset[str], on_found: OnFound) -> Search:
        """See Entries."""
        digest = maybe_digest(request)
        if digest is None:
            return _LocalSearch(self, None, None)
        key = CacheKey(self._load_id, digest)
        return _LocalSearch(self, key, self.cache.maybe_find(key, wanted))

    def refused(self, entry: CacheEntry) -> None:
        """An entry is too large to be kept."""
        if not self._told:
            self._told = True
            log.warning(
                "a response of model '%s' takes %d bytes and is not cached: the response cache has %d (said once)",
                self._model,
                entry.byte_size,
                self.cache.byte_size,
            )

    def close(self) -> None:
        """See Entries."""
        self.cache.forget(self._load_id)


class _LocalSearch:
    """See Search."""

    __slots__ = ("_entries", "_key", "entry", "pending")

    def __init__(self, entries: LocalEntries, key: CacheKey | None, entry: CacheEntry | None) -> None:
        self._entries = entries
        self._key = key
        self.entry = entry
        self.pending = False

    def keep(self, entry: CacheEntry) -> None:
        """See Search."""
        if self._key is not None and not self._entries.cache.insert(self._key, entry):
            self._entries.refused(entry)


class CachedModel:
    """A model with the cache in front of it, which is a model like others; see the module.

    What has been taken and not yet answered is counted here, and once more by the model if it has been given to it.

    Args:
        keeps_parameters: those of a response belong to the answer.
    """

    def __init__(self, model: CacheableModel, entries: Entries, *, keeps_parameters: bool = True) -> None:
        self.load_id = model.load_id
        self.news = model.news
        self.decoder: RequestDecoder = model.decoder
        self.encoder: ResponseEncoder = model.encoder
        self.decoupled = model.decoupled
        self.spec: ModelSpec = model.spec
        self.readiness = model.readiness
        self.gathers = model.gathers
        self._model = model
        self._entries = entries
        self._keeps_parameters = keeps_parameters
        self._outputs = frozenset(model.spec.outputs)
        self._lock = threading.Lock()
        self._open = OpenRequests(self._lock)

    def __repr__(self) -> str:
        return f"<CachedModel {self._open.count} open, {self._model!r}>"

    @property
    def quick(self) -> bool:
        """See ServingModel."""
        return self._model.quick and not self._entries.elsewhere

    def start(self) -> None:
        """See ServingModel."""
        self._model.start()

    def has_place_for(self, request: InferRequest) -> bool:
        """See ServingModel: models of sequences have no cache."""
        return True

    def submit(self, request: InferRequest, inline_runs: int = _NO_LIMIT) -> None:
        """See ServingModel."""
        started_ns = time.monotonic_ns()
        with self._lock:
            self._open.check(request)
            self._open.add()
        wanted = frozenset([output.name for output in request.requested])
        try:
            search = self._entries.look(request, wanted, lambda found: self._found(found, request, wanted, started_ns))
        except BaseException:
            self._open.closed()
            raise
        if search.pending:
            return
        if search.entry is not None:
            self._answer(search.entry, request, started_ns)
            return
        try:
            self._run(search, request, wanted, started_ns, inline_runs)
        except TensorhubError:
            self._open.closed()
            raise

    def _found(
        self, search: Search, request: InferRequest, wanted: frozenset[str], started_ns: int
    ) -> ServingModel | None:
        """On the loop: a search elsewhere has ended."""
        if request.cancelled:
            request.fail(Cancelled(""))
            return None
        if search.entry is not None:
            self._answer(search.entry, request, started_ns)
            return None
        try:
            self._run(search, request, wanted, started_ns, _NO_LIMIT)
        except TensorhubError as exc:
            request.fail(exc)
            return None
        except Exception as exc:
            request.fail(InternalError(f"{type(exc).__name__}: {exc}"))
            raise
        return self._model if self.gathers else None

    def _answer(self, entry: CacheEntry, request: InferRequest, started_ns: int) -> None:
        self._model.observe_cache_hit(request, started_ns)
        request.respond(entry.response())

    def _run(
        self, search: Search, request: InferRequest, wanted: frozenset[str], started_ns: int, inline_runs: int
    ) -> None:
        keeping = _Keeping(self, search, wanted, request, time.monotonic_ns() - started_ns)
        try:
            self._model.submit(request, inline_runs)
        except TensorhubError:
            keeping.undo(request)
            raise

    def keep(self, search: Search, response: InferResponse, wanted: frozenset[str]) -> None:
        """Keep an answer, if it is one that can be kept."""
        entry = maybe_entry(response, wanted, self._outputs, keeps_parameters=self._keeps_parameters)
        if entry is not None:
            search.keep(entry)

    def ran(self, lookup_ns: int, kept_ns: int) -> None:
        """A request that was not found has been answered by the model, but for telling the one who asked."""
        self._model.observe_cache_miss(lookup_ns + kept_ns, time.monotonic_ns())

    def model_closed(self) -> None:
        """A request that the model was given is over."""
        self._model.closed()

    def poll(self, inline_runs: int = _NO_LIMIT) -> None:
        """See ServingModel."""
        self._model.poll(inline_runs)

    def poll_on_loop(self) -> int | None:
        """See ServingModel."""
        return self._model.poll_on_loop()

    def cancel(self, request: InferRequest) -> None:
        """See ServingModel."""
        request.cancelled = True
        self._model.cancel(request)

    def observe_response(
        self, request: InferRequest, response: InferResponse | None, output_start_ns: int, now_ns: int
    ) -> None:
        """See ServingModel."""
        self._model.observe_response(request, response, output_start_ns, now_ns)

    def statistics(self, now_ns: int, epoch_offset_ns: int) -> Any:
        """See ServingModel."""
        return self._model.statistics(now_ns, epoch_offset_ns)

    def report_all(self) -> None:
        """See ServingModel."""
        self._model.report_all()

    def closed(self) -> None:
        """See ServingModel."""
        self._open.closed()

    def hold(self) -> bool:
        """See ServingModel."""
        return self._open.hold()

    def release(self) -> None:
        """See ServingModel."""
        self._open.release()

    def drain(self, on_drained: Callable[[], None]) -> None:
        """See ServingModel."""
        self._open.drain(lambda: self._model.drain(on_drained))

    def unload(self) -> None:
        """See ServingModel."""
        self._model.unload()
        self._entries.close()


class _Keeping:
    """The responder of a request that was looked for in vain."""

    __slots__ = ("_cached", "_lookup_ns", "_requested", "_responder", "_search", "_wanted")

    def __init__(
        self, cached: CachedModel, search: Search, wanted: frozenset[str], request: InferRequest, lookup_ns: int
    ) -> None:
        assert request.responder is not None
        self._cached = cached
        self._search = search
        self._wanted = wanted
        self._requested = request.requested
        self._responder: Responder = request.responder
        self._lookup_ns = lookup_ns
        request.responder = self
        if any(type(output) is PlacedOutput for output in request.requested):
            request.requested = tuple([RequestedOutput(output.name) for output in request.requested])

    def undo(self, request: InferRequest) -> None:
        """The model has not taken the request."""
        request.responder, request.requested = self._responder, self._requested

    def __call__(self, request: InferRequest, response: InferResponse | None, final: bool) -> None:
        self.undo(request)
        started_ns = time.monotonic_ns()
        if final and response is not None:
            self._cached.keep(self._search, response, self._wanted)
        self._cached.ran(self._lookup_ns, time.monotonic_ns() - started_ns)
        try:
            self._responder(request, response, final)
        finally:
            self._cached.model_closed()
