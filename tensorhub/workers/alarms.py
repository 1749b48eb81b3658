"""One thread that wakes models when something of theirs is due and nothing else happens: a timeout, the end of a delay.

Not the worker's loop: that waits for its mailbox, with a resolution of milliseconds, and delays of batches are shorter.
The thread starts with the first alarm, so that a worker whose models have none has no such thread. While it sleeps,
only an earlier alarm than all others wakes it; alarms that have become void let it wake in vain at most once.
"""

import logging
import threading
import time
from collections.abc import Callable
from heapq import heappop, heappush
from weakref import WeakMethod

log = logging.getLogger(__name__)

_NS_PER_S = 1_000_000_000


class Alarms:
    """The alarms of a worker. Thread-safe."""

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock_ns = clock_ns
        self._changed = threading.Condition()
        self._pending: list[tuple[int, int, WeakMethod[Callable[[], None]]]] = []
        self._set = 0
        self._thread: threading.Thread | None = None
        self._closed = False

    def at(self, due_ns: int, call: WeakMethod[Callable[[], None]]) -> None:
        """Have a short method run on the alarms' thread at a time of CLOCK_MONOTONIC, if its object lives then."""
        with self._changed:
            if self._closed:
                return
            self._set += 1
            heappush(self._pending, (due_ns, self._set, call))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="alarms", daemon=True)
                self._thread.start()
            elif self._pending[0][1] == self._set:
                self._changed.notify()

    def close(self) -> None:
        """End the thread; what is pending does not happen."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while (reference := self._next()) is not None:
            call = reference()
            if call is not None:
                try:
                    call()
                except Exception:
                    log.exception("an alarm could not be dealt with")
            del call

    def _next(self) -> WeakMethod[Callable[[], None]] | None:
        """Wait until an alarm is due; None at the end."""
        with self._changed:
            while not self._closed:
                now_ns = self._clock_ns()
                if self._pending and self._pending[0][0] <= now_ns:
                    return heappop(self._pending)[2]
                self._changed.wait((self._pending[0][0] - now_ns) / _NS_PER_S if self._pending else None)
        return None
