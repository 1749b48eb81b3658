"""The response cache that a worker uses, whichever it is."""

from collections.abc import Callable
from typing import Any, Protocol

from tensorhub.cache_options import LocalOptions, RedisOptions
from tensorhub.errors import InternalError
from tensorhub.protocol.model_spec import ModelSpec
from tensorhub.redis_link import RedisLink
from tensorhub.workers.cache_entries import ENTRY_LIMIT
from tensorhub.workers.caching import Entries, LocalEntries, SharedCache
from tensorhub.workers.fingerprint import model_fingerprint
from tensorhub.workers.redis_entries import LOAD_LIFETIME_S, RedisEntries
from tensorhub.workers.remote_cache import RemoteCache

Post = Callable[[Callable[[], None]], None]
"""Has something done on the worker's loop."""


class CacheStore(Protocol):
    """A response cache. Thread-safe."""

    def entries_of_model(self, load_id: int, spec: ModelSpec, folder: str, config: Any) -> Entries:
        """Return the part of a model whose answers follow from its folder and its configuration.

        Args:
            config: its `inference.ModelConfig`, completed.

        Raises:
            InternalError: a file of the model cannot be read.
        """

    def entries_of_load(self, load_id: int, spec: ModelSpec) -> Entries:
        """Return the part of a model whose answers depend on others as well, and so end with its load."""

    def fill_use(self, use: Any) -> None:
        """Tell in a `tensorhub.wire.CacheUse` how much of it is used."""

    def close(self) -> None:
        """The worker ends."""


def open_store(options: LocalOptions | RedisOptions, post: Post) -> CacheStore:
    """Return the cache that the options ask for, at work.

    Raises:
        RedisFault: its extra is not installed. A server that does not answer is asked again later.
    """
    return LocalStore(options) if isinstance(options, LocalOptions) else RedisStore(options, post)


class LocalStore:
    """A cache in this process."""

    def __init__(self, options: LocalOptions) -> None:
        self._cache = SharedCache(options.byte_size)

    def entries_of_model(self, load_id: int, spec: ModelSpec, folder: str, config: Any) -> Entries:
        """See CacheStore."""
        return LocalEntries(self._cache, load_id, spec.name)

    def entries_of_load(self, load_id: int, spec: ModelSpec) -> Entries:
        """See CacheStore."""
        return LocalEntries(self._cache, load_id, spec.name)

    def fill_use(self, use: Any) -> None:
        """See CacheStore."""
        use.byte_size, use.used = self._cache.byte_size, self._cache.used
        use.entries, use.evictions = len(self._cache), self._cache.evictions

    def close(self) -> None:
        """See CacheStore."""


class RedisStore:
    """A cache in a Redis server.

    Raises:
        RedisFault: the extra is not installed.
    """

    def __init__(self, options: RedisOptions, post: Post) -> None:
        RedisLink(options).close()
        self._cache = RemoteCache(
            lambda: RedisLink(options),
            post,
            lookup_links=options.pool_size,
            wait_ns=options.wait_timeout_ms * 1_000_000,
            byte_limit=ENTRY_LIMIT,
            place=f"{options.host}:{options.port}",
        )
        self._cache.start()

    def entries_of_model(self, load_id: int, spec: ModelSpec, folder: str, config: Any) -> Entries:
        """See CacheStore."""
        try:
            made_of = model_fingerprint(folder, spec.version, config)
        except OSError as exc:
            raise InternalError(
                f"model '{spec.name}' cannot be cached: its file {exc.filename} cannot be read: {exc.strerror}"
            ) from exc
        return RedisEntries(self._cache, spec, made_of)

    def entries_of_load(self, load_id: int, spec: ModelSpec) -> Entries:
        """See CacheStore."""
        return RedisEntries(self._cache, spec, f"load-{load_id}", LOAD_LIFETIME_S)

    def fill_use(self, use: Any) -> None:
        """See CacheStore: what Redis holds, Redis tells."""
        use.failures = self._cache.failures

    def close(self) -> None:
        """See CacheStore."""
        self._cache.close()
