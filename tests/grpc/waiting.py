"""Waiting for a condition that another thread or process makes true."""

import threading
import time
from collections.abc import Callable

_pause = threading.Event()


def until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Return as soon as `condition()` is true; fail after the timeout."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        _pause.wait(0.005)
