"""SIGTERM, SIGINT and SIGHUP as something that a thread can wait for.

A handler of Python runs when the main thread executes Python next: if the signal comes just before that thread begins
to wait, not until something else wakes it. So the news comes through a pipe, to which the interpreter writes at once.
"""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

STOP_SIGNALS: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_READ_BYTES = 64


@contextmanager
def stop_signals() -> Iterator[int]:
    """Have SIGTERM, SIGINT and SIGHUP write to a pipe, and yield the end to read from (see `came`).

    For the main thread. A SIGHUP that is ignored, by nohup for instance, stays so.
    """
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def tell(number: int, frame: Any) -> None:
        # Twice, for when a model's code has taken the interpreter's pipe away.
        with suppress(BlockingIOError):
            os.write(writing, bytes((number,)))

    # Children get the default handlers back with exec.
    before = {
        number: signal.signal(number, tell)
        for number in STOP_SIGNALS
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    }
    wake_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(wake_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)


def came(reading: int) -> bool:
    """Read what is in the pipe; return whether one of these signals came. Other signals that have a handler of Python
    are in it as well.
    """
    with suppress(BlockingIOError):
        return any(number in STOP_SIGNALS for number in os.read(reading, _READ_BYTES))
    return False
