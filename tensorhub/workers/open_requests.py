"""The requests of one load that have not been answered finally, and the end of a load that takes no more. No I/O.

A load is unloaded when it has been told to drain and its last request is closed. A request that is on its way through
several models holds those that it will come to: a load that is held is not let go, and still takes requests.

Whoever takes requests decides that and other things together, so the lock is the owner's: `check`, `add` and `end` are
for a thread that holds it.
"""

import threading
from collections.abc import Callable

from tensorhub.requests import InferRequest
from tensorhub.workers.serving import Retired


class OpenRequests:
    """See the module.

    Attributes:
        count: requests that are open, and who holds the load.
    """

    __slots__ = ("_held", "_lock", "_on_drained", "count")

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._on_drained: Callable[[], None] | None = None
        self._held = 0
        self.count = 0

    @property
    def draining(self) -> bool:
        """No more requests are taken."""
        return self._on_drained is not None

    def check(self, request: InferRequest) -> None:
        """Raises: Retired: no more requests are taken."""
        if self._on_drained is not None and not self._held:
            raise Retired(
                f"[request id: {request.request_id or '<id_unknown>'}] Server is stopping, scheduler for model has "
                "stopped accepting new inference requests"
            )

    def add(self) -> None:
        """A request has been taken."""
        self.count += 1

    def hold(self) -> bool:
        """Keep the load until `release`; False if it takes no more requests. The lock is taken here."""
        with self._lock:
            if self._on_drained is not None and not self._held:
                return False
            self._held += 1
            self.count += 1
            return True

    def release(self) -> None:
        """End a `hold`; the lock is taken here."""
        with self._lock:
            self._held -= 1
            drained = self.end()
        if drained is not None:
            drained()

    def closed(self) -> None:
        """A request that was taken is over; the lock is taken here."""
        with self._lock:
            drained = self.end()
        if drained is not None:
            drained()

    def end(self) -> Callable[[], None] | None:
        """Do as `closed` does, for a thread that holds the lock; return what it is to call without it."""
        self.count -= 1
        return self._on_drained if self.count == 0 else None

    def drain(self, on_drained: Callable[[], None]) -> None:
        """Take no more requests, and call `on_drained` once when the last one is closed; the lock is taken here."""
        with self._lock:
            first = self._on_drained is None
            self._on_drained = on_drained
            empty = self.count == 0
        if first and empty:
            on_drained()
