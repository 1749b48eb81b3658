"""Noticing that this machine has stood still, as a virtual one does whose host has other work.

Nobody counts such time: what was to happen within two seconds did not, and that says nothing of who is tested.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_BEAT_S = 0.05
STILL_S = 0.5
"""A beat that is later than this is what no busy machine does to a thread."""


class Pulse:
    """When there was no beat for too long. Times are seconds of one monotonic clock."""

    def __init__(self, now_s: float) -> None:
        self._last_s = now_s
        self._stood_still_s = float("-inf")

    def beat(self, now_s: float) -> None:
        if now_s - self._last_s > STILL_S:
            self._stood_still_s = now_s
        self._last_s = now_s

    def stood_still(self, since_s: float, now_s: float) -> bool:
        """Whether there was no beat for too long, and the end of that was after `since_s` or is still to come."""
        return self._stood_still_s > since_s or now_s - self._last_s > STILL_S


@contextmanager
def pulse_of_this_machine() -> Iterator[Pulse]:
    """Have a thread beat as long as the block lasts."""
    found = Pulse(time.monotonic())
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(_BEAT_S):
            found.beat(time.monotonic())

    thread = threading.Thread(target=beat, name="pulse", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
