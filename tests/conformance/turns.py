"""When each of several requests that overlap is sent: in order, however the threads that send them are scheduled."""

from __future__ import annotations

import threading
from contextlib import nullcontext

AT_ONCE = nullcontext()
"""The turn of a request that waits for nobody."""


class Turn:
    """A context to send a request in, once its connection stands: the block begins at `take` and ends it."""

    def __init__(self) -> None:
        self._here = threading.Event()
        self._taken = threading.Event()
        self._over = threading.Event()

    def __enter__(self) -> None:
        self._here.set()
        self._taken.wait()

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def await_arrival(self) -> None:
        """Wait until the request can be sent."""
        self._here.wait()

    def take(self) -> None:
        """Have it sent, and wait until it is."""
        self._taken.set()
        self._over.wait()

    def give_up(self) -> None:
        """It will not be sent any more; nobody waits for it."""
        self._here.set()
        self._over.set()
