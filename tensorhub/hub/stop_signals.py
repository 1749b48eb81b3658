"""SIGTERM and SIGINT as something that a loop can wait for."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

STOP_SIGNALS: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_signals() -> Iterator[int]:
    """Have SIGTERM and SIGINT write their numbers to a pipe, and yield the end to read from."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    # A handler of Python must be there, though the pipe has the news; children get the default ones back with exec.
    before = {number: signal.signal(number, _ignore) for number in STOP_SIGNALS}
    wake_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(wake_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)


def _ignore(number: int, frame: Any) -> None:
    pass
