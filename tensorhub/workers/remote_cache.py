"""A worker's way to a response cache that is a server: who waits for it, and what happens while it fails.

Look-ups are asked by threads of their own, one for each connection, and the answers are dealt with on the worker's
loop, all that came together at once; so neither the loop nor a model ever waits for the server. Entries are written by
another thread, after their answers have left. What cannot be asked is a miss: while the server fails, nothing is asked
but for a try now and then (`outage`), a look-up that has waited too long for its turn is given up, and entries that
cannot be written quickly enough are dropped.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from tensorhub.redis_link import RedisFault
from tensorhub.workers.outage import Outage

log = logging.getLogger(__name__)

LINE_LIMIT = 4_096
"""Look-ups that may wait; more are misses."""

UNWRITTEN_BYTES = 64 << 20
"""What may wait to be written; more is dropped."""

_TOGETHER = 64
"""Keys, or values, in one round trip."""

_WRITTEN_TOGETHER_BYTES = 1 << 20

_JOIN_S = 1.0
"""How long the end of a worker waits for a reply; the threads do not hinder it."""


class Link(Protocol):
    """A connection; see `redis_link.RedisLink`, also for the RedisFault that both raise."""

    def fetch(self, keys: Sequence[str], byte_limit: int) -> list[bytes | None]: ...

    def store(self, items: Sequence[tuple[str, bytes, int]]) -> str: ...

    def close(self) -> None: ...


class Polled(Protocol):
    """A model that has been given requests and is to look at them together."""

    def poll(self) -> None: ...


Found = Callable[[], Polled | None]
"""Goes on with a request, on the loop; returns the model if it is to be polled when the others have gone on, too."""


class Lookup(Protocol):
    """One request that is looked for."""

    def key(self) -> str:
        """Return the key, "" if the request has none; on a thread of the cache."""

    def read(self, value: bytes | None) -> Found:
        """Take what is there, b"" if there is nothing, and say how to go on; on a thread of the cache."""


class Entry(Protocol):
    """One entry that is to be written."""

    @property
    def byte_size(self) -> int:
        """What it takes while it waits."""

    def write(self) -> tuple[str, bytes, int]:
        """Return key, value, and for how many seconds it is of use (0: for ever); on a thread of the cache."""


class _Waiting(NamedTuple):
    lookup: Lookup
    due_ns: int


class RemoteCache:
    """See the module. Thread-safe.

    Args:
        open_link: makes a connection; called by each thread that needs one.
        post: has something done on the worker's loop.
        lookup_links: connections for look-ups.
        wait_ns: how long a look-up may wait for its turn.
        byte_limit: of a value; of a larger one no more than this and a byte is fetched.
        place: the server, for the log.

    Attributes:
        failures: look-ups that it has not been asked for, or has not answered, and entries that it has not taken.
    """

    def __init__(
        self,
        open_link: Callable[[], Link],
        post: Callable[[Callable[[], None]], None],
        *,
        lookup_links: int,
        wait_ns: int,
        byte_limit: int,
        place: str,
    ) -> None:
        self._open_link = open_link
        self._post = post
        self._wait_ns = wait_ns
        self._byte_limit = byte_limit
        self._place = place
        self._outage = Outage()
        self._line: deque[_Waiting] = deque()
        self._unwritten: deque[Entry] = deque()
        self._unwritten_bytes = 0
        self._refused = False
        self.failures = 0
        self._closed = False
        self._lock = threading.Lock()
        self._asked = threading.Condition(self._lock)
        self._given = threading.Condition(self._lock)
        self._threads = [
            threading.Thread(target=self._serve, args=(step,), name=name, daemon=True)
            for step, name in [(self._look_up, f"cache-{index}") for index in range(lookup_links)]
            + [(self._write, "cache-writer")]
        ]

    def __repr__(self) -> str:
        state = "down" if self._outage.down else "up"
        return f"<RemoteCache {self._place}, {state}, {len(self._line)} waiting, {len(self._unwritten)} unwritten>"

    def start(self) -> None:
        """Start the threads; they connect when there is something to ask."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End; what has not been looked up or written is forgotten."""
        with self._lock:
            self._closed = True
            self._asked.notify_all()
            self._given.notify_all()
        for thread in self._threads:
            thread.join(_JOIN_S)

    def ask(self, lookup: Lookup) -> bool:
        """Look for a request; `lookup` hears of it, unless this returns False: nobody is asked, and it is a miss."""
        now_ns = time.monotonic_ns()
        with self._lock:
            if self._closed or len(self._line) >= LINE_LIMIT or not self._outage.may_ask(now_ns):
                self.failures += 1
                return False
            self._line.append(_Waiting(lookup, now_ns + self._wait_ns))
            self._asked.notify()
        return True

    def keep(self, entry: Entry) -> None:
        """Write an entry some time soon, if there is room for it to wait."""
        size = entry.byte_size
        with self._lock:
            if self._closed or self._outage.down or self._unwritten_bytes + size > UNWRITTEN_BYTES:
                self.failures += 1
                return
            self._unwritten_bytes += size
            self._unwritten.append(entry)
            self._given.notify()

    def _serve(self, step: Callable[[Link], bool]) -> None:
        """One thread: a connection, and one step after the other until the end."""
        link = self._open_link()
        while True:
            try:
                if not step(link):
                    break
            except Exception:
                log.exception("the response cache at %s", self._place)
        link.close()

    def _look_up(self, link: Link) -> bool:
        with self._lock:
            while not self._line and not self._closed:
                self._asked.wait()
            if self._closed:
                return False
            batch = [self._line.popleft() for _ in range(min(_TOGETHER, len(self._line)))]
        now_ns = time.monotonic_ns()
        found: list[Found] = []
        given_up: list[Lookup] = []
        asked: list[tuple[Lookup, str]] = []
        for waiting in batch:
            key = _key_of(waiting.lookup) if now_ns < waiting.due_ns else ""
            if key:
                asked.append((waiting.lookup, key))
            else:
                found.append(waiting.lookup.read(b""))
        values: list[bytes | None] = [b""] * len(asked)
        if asked:
            try:
                values = link.fetch([key for _, key in asked], self._byte_limit)
            except RedisFault as exc:
                given_up = self._failed(exc, len(asked))
            else:
                self._answered()
        else:
            with self._lock:
                self._outage.not_asked()
                self.failures += len(found)
        found += [_read(lookup, value) for (lookup, _), value in zip(asked, values, strict=True)]
        found += [lookup.read(b"") for lookup in given_up]
        self._post(lambda: _go_on(found))
        return True

    def _write(self, link: Link) -> bool:
        with self._lock:
            while not self._unwritten and not self._closed:
                self._given.wait()
            if self._closed:
                return False
            batch: list[Entry] = []
            size = 0
            while self._unwritten and len(batch) < _TOGETHER and size < _WRITTEN_TOGETHER_BYTES:
                batch.append(self._unwritten.popleft())
                size += batch[-1].byte_size
        items = [item for entry in batch if (item := _maybe_written(entry)) is not None]
        del batch
        try:
            refusal = link.store([item for item in items if len(item[1]) <= self._byte_limit])
        except RedisFault as exc:
            found = [lookup.read(b"") for lookup in self._failed(exc, len(items))]
            self._post(lambda: _go_on(found))
        else:
            if refusal and not self._refused:
                log.warning("the response cache at %s keeps nothing: %s (said once)", self._place, refusal)
            self._refused = bool(refusal)
            with self._lock:
                self.failures += self._refused
        finally:
            with self._lock:
                self._unwritten_bytes -= size
        return True

    def _failed(self, fault: RedisFault, asked: int) -> list[Lookup]:
        """Note that the server has failed; return the look-ups that waited for their turn: they shall not wait.

        Args:
            asked: look-ups or entries that have come to nothing.
        """
        with self._lock:
            self.failures += asked + len(self._line) + len(self._unwritten)
            news = self._outage.failed(time.monotonic_ns())
            given_up = [waiting.lookup for waiting in self._line]
            self._line.clear()
            self._unwritten_bytes -= sum(entry.byte_size for entry in self._unwritten)
            self._unwritten.clear()
        if news:
            log.warning("the response cache is not used until it answers again: %s", fault)
        return given_up

    def _answered(self) -> None:
        with self._lock:
            news = self._outage.answered()
        if news:
            log.info("the response cache at %s answers again", self._place)


def _key_of(lookup: Lookup) -> str:
    try:
        return lookup.key()
    except Exception:
        log.exception("the key of a request in the response cache")
        return ""


def _maybe_written(entry: Entry) -> tuple[str, bytes, int] | None:
    try:
        return entry.write()
    except Exception:
        log.exception("an answer cannot be written to the response cache")
        return None


def _read(lookup: Lookup, value: bytes | None) -> Found:
    try:
        return lookup.read(value)
    except Exception:
        log.exception("an entry of the response cache")
        return lookup.read(b"")


def _go_on(found: Sequence[Found]) -> None:
    """On the loop: go on with requests that were looked for together."""
    polled: dict[Polled, None] = {}
    for go_on in found:
        try:
            model = go_on()
        except Exception:
            log.exception("a request that was looked for in the response cache")
            continue
        if model is not None:
            polled[model] = None
    for model in polled:
        model.poll()
