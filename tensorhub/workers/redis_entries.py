"""The answers of one load in a Redis server, which outlives loads and has entries of other models and servers too.

    key = tensorhub:1:<model>:<version>:<what the model is made of>:<digest of the inputs and the listed outputs>

What a model is made of is its fingerprint (`fingerprint`), or its load where that cannot be known; the 1 is the form of
keys and entries. So a changed model never finds the answers of the one before it, while processes and servers with the
same model share them. How long they are kept is up to Redis, which should have a limit and evict what has not been used
for longest. Answers to requests that list some of the outputs have keys of their own.

What is found is validated (`cache_entries`); rubbish is a miss.
"""

import hashlib
import logging

from tensorhub.protocol.model_spec import ModelSpec
from tensorhub.requests import InferRequest
from tensorhub.workers.cache import CacheEntry, maybe_digest
from tensorhub.workers.cache_entries import EntryFault, objection, read_entry, write_entry
from tensorhub.workers.caching import OnFound, Search
from tensorhub.workers.remote_cache import Found, RemoteCache
from tensorhub.workers.serving import ServingModel

log = logging.getLogger(__name__)

_PREFIX = "tensorhub:1"

LOAD_LIFETIME_S = 3_600
"""How long an entry is kept whose key ends with a load: when the load has gone, nobody will ask for it."""


class RedisEntries:
    """See the module, and caching.Entries.

    Args:
        made_of: what the model is made of.
        lifetime_s: of entries; 0: for ever.
    """

    elsewhere = True

    def __init__(self, cache: RemoteCache, spec: ModelSpec, made_of: str, lifetime_s: int = 0) -> None:
        self.cache = cache
        self.spec = spec
        self.prefix = f"{_PREFIX}:{spec.name}:{spec.version}:{made_of}:"
        self.lifetime_s = lifetime_s
        self.outputs = frozenset(spec.outputs)
        self._told = False

    def look(self, request: InferRequest, wanted: frozenset[str], on_found: OnFound) -> Search:
        """See Entries."""
        search = _RedisSearch(
            self, request, wanted if wanted and not wanted >= self.outputs else self.outputs, on_found
        )
        search.pending = self.cache.ask(search)
        return search

    def close(self) -> None:
        """See Entries: the entries stay."""

    def rubbish(self, key: str, fault: EntryFault) -> None:
        """What is there is no entry."""
        if not self._told:
            self._told = True
            log.warning("an entry of the response cache is ignored, '%s': %s (said once for the model)", key, fault)


class _RedisSearch:
    """See caching.Search; and remote_cache.Lookup, on whose thread the inputs are digested."""

    __slots__ = ("_entries", "_key", "_listed", "_on_found", "_request", "entry", "pending")

    def __init__(self, entries: RedisEntries, request: InferRequest, listed: frozenset[str], on_found: OnFound) -> None:
        self._entries = entries
        self._request: InferRequest | None = request
        self._listed = listed
        self._on_found = on_found
        self._key = ""
        self.entry: CacheEntry | None = None
        self.pending = False

    def key(self) -> str:
        """See Lookup."""
        assert self._request is not None
        digest = maybe_digest(self._request)
        if digest is None:
            return ""
        if self._listed is not self._entries.outputs:
            digest = hashlib.sha256(digest + repr(sorted(self._listed)).encode()).digest()
        self._key = self._entries.prefix + digest.hex()
        return self._key

    def read(self, value: bytes | None) -> Found:
        """See Lookup."""
        entries = self._entries
        try:
            if value is None:
                raise EntryFault("it is no string")
            if value:
                entry = read_entry(value, entries.spec)
                if not self._is_answer(entry):
                    raise EntryFault("an output is missing")
                self.entry = entry
        except EntryFault as fault:
            entries.rubbish(self._key, fault)
        self._request = None
        return self._go_on

    def _go_on(self) -> ServingModel | None:
        self.pending = False
        return self._on_found(self)

    def _is_answer(self, entry: CacheEntry) -> bool:
        return self._listed <= {tensor.name for tensor in entry.outputs}

    def keep(self, entry: CacheEntry) -> None:
        """See Search."""
        if self._key and self._is_answer(entry) and not objection(entry.outputs, self._entries.spec):
            self._entries.cache.keep(_RedisEntry(self._key, entry, self._entries.lifetime_s))


class _RedisEntry:
    """See remote_cache.Entry."""

    __slots__ = ("_entry", "_key", "_lifetime_s", "byte_size")

    def __init__(self, key: str, entry: CacheEntry, lifetime_s: int) -> None:
        self._key = key
        self._entry = entry
        self._lifetime_s = lifetime_s
        self.byte_size = entry.byte_size

    def write(self) -> tuple[str, bytes, int]:
        """See Entry."""
        return self._key, write_entry(self._entry), self._lifetime_s
