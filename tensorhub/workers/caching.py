"""One loaded model's use of the response cache: look before the queue, keep after a successful run.

A request that is not found is answered through a responder that takes the copy, before the answer leaves. Nothing that
a client can still write to may get into the cache: of a cached model, inputs in regions are copied before they are
looked at (`ModelSpec.copies_region_inputs`), and while the model runs, the request hides the regions of its outputs, so
that the outputs are in memory of our own until they have been copied.
"""

import logging
import threading
import time
from collections.abc import Callable

from tensorhub.backends.destinations import PlacedOutput
from tensorhub.requests import InferRequest, InferResponse, RequestedOutput, Responder
from tensorhub.workers.cache import CacheEntry, CacheKey, ResponseCache, maybe_entry, maybe_key

log = logging.getLogger(__name__)

ObserveMiss = Callable[[int, int], None]
"""(what looking and keeping took, now), in ns; thread-safe."""


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


class ModelCache:
    """The cache, as one load sees it. Thread-safe.

    Args:
        outputs: the names of the model's outputs.
        keeps_parameters: those of a response belong to the answer.
    """

    __slots__ = ("_cache", "_keeps_parameters", "_load_id", "_model", "_outputs", "_told")

    def __init__(
        self,
        cache: SharedCache,
        load_id: int,
        model: str,
        outputs: frozenset[str],
        *,
        keeps_parameters: bool = True,
    ) -> None:
        self._cache = cache
        self._load_id = load_id
        self._model = model
        self._outputs = outputs
        self._keeps_parameters = keeps_parameters
        self._told = False

    def maybe_answer(self, request: InferRequest, observe_miss: ObserveMiss) -> InferResponse | None:
        """Return the answer to a request if it is known; else see to it that the model's answer is kept."""
        started_ns = time.monotonic_ns()
        key = maybe_key(self._load_id, request)
        if key is None:
            return None
        wanted = frozenset([output.name for output in request.requested])
        entry = self._cache.maybe_find(key, wanted)
        if entry is not None:
            return entry.response()
        assert request.responder is not None
        _Keeping(self, key, wanted, request, time.monotonic_ns() - started_ns, observe_miss).install()
        return None

    def keep(self, key: CacheKey, response: InferResponse, wanted: frozenset[str]) -> None:
        """Put an answer into the cache, if it is one that can be kept."""
        entry = maybe_entry(response, wanted, self._outputs, keeps_parameters=self._keeps_parameters)
        if entry is not None and not self._cache.insert(key, entry) and not self._told:
            self._told = True
            log.warning(
                "a response of model '%s' takes %d bytes and is not cached: the response cache has %d (said once)",
                self._model,
                entry.byte_size,
                self._cache.byte_size,
            )

    def close(self) -> None:
        """Drop what was kept: the load has ended."""
        self._cache.forget(self._load_id)


class _Keeping:
    """The responder of a request that was looked for in vain."""

    __slots__ = ("_cache", "_key", "_lookup_ns", "_observe_miss", "_request", "_requested", "_responder", "_wanted")

    def __init__(
        self,
        cache: ModelCache,
        key: CacheKey,
        wanted: frozenset[str],
        request: InferRequest,
        lookup_ns: int,
        observe_miss: ObserveMiss,
    ) -> None:
        self._cache = cache
        self._key = key
        self._wanted = wanted
        self._request = request
        self._requested = request.requested
        self._responder: Responder | None = request.responder
        self._lookup_ns = lookup_ns
        self._observe_miss = observe_miss

    def install(self) -> None:
        request = self._request
        request.responder = self
        if any(type(output) is PlacedOutput for output in request.requested):
            request.requested = tuple([RequestedOutput(output.name) for output in request.requested])

    def __call__(self, request: InferRequest, response: InferResponse | None, final: bool) -> None:
        responder = self._responder
        assert responder is not None
        request.responder, request.requested = responder, self._requested
        started_ns = time.monotonic_ns()
        if final and response is not None:
            self._cache.keep(self._key, response, self._wanted)
        now_ns = time.monotonic_ns()
        self._observe_miss(self._lookup_ns + now_ns - started_ns, now_ns)
        responder(request, response, final)
