"""The rate limiter at work: runs that wait for resources, of all models of this worker.

A run that may start is handed to the thread of its instance, by whoever has made room for it. With the limiter off,
nothing here is in the way of a run.
"""

import threading
from collections.abc import Callable, Mapping, Sequence

from tensorhub.option_kinds import Resource
from tensorhub.workers.schedulers.rate_limit import Needs, RateLimiter, ResourceKey

Start = Callable[[], None]


class Turns:
    """The limiter of a worker. Thread-safe."""

    def __init__(self, resources: Sequence[Resource] = ()) -> None:
        self._lock = threading.Lock()
        self._limiter = RateLimiter({ResourceKey(item.name, item.device): item.count for item in resources})
        self._waiting: dict[object, Start] = {}

    def join(self, needs: Mapping[object, Needs]) -> None:
        """Make the instances of a model known; see RateLimiter.add."""
        with self._lock:
            self._limiter.add(needs)

    def leave(self, keys: Sequence[object]) -> None:
        """Forget the instances of a model that is unloaded."""
        with self._lock:
            self._limiter.remove(keys)

    def take(self, key: object, start: Start) -> None:
        """Have `start` called when it is the turn of an instance; it must be short."""
        with self._lock:
            self._waiting[key] = start
            calls = [self._waiting.pop(found) for found in self._limiter.stage(key)]
        for call in calls:
            call()

    def done(self, key: object) -> None:
        """An instance has finished what it had started."""
        with self._lock:
            calls = [self._waiting.pop(found) for found in self._limiter.finished(key)]
        for call in calls:
            call()


class ModelTurns:
    """The part of one model: its instances by their number."""

    def __init__(self, turns: Turns, load_id: int, needs: Sequence[Needs]) -> None:
        self._turns = turns
        self._keys = [(load_id, number) for number in range(len(needs))]
        turns.join(dict(zip(self._keys, needs, strict=True)))

    def take(self, instance: int, start: Start) -> None:
        """See Turns."""
        self._turns.take(self._keys[instance], start)

    def done(self, instance: int) -> None:
        """See Turns."""
        self._turns.done(self._keys[instance])

    def leave(self) -> None:
        """See Turns."""
        self._turns.leave(self._keys)
