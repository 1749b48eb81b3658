"""How the person at the terminal calls `tensorhub`, so that what we tell to type can be pasted, and how it ends."""

import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from types import FrameType

PROGRAM = "tensorhub"
BAD_USAGE = 2
"""Exit status for arguments that cannot be used."""


def own_name() -> str:
    """Return "tensorhub" if a shell finds it; else how this process was called, such as `.venv/bin/tensorhub`."""
    if shutil.which(PROGRAM) is not None:
        return PROGRAM
    called = sys.argv[0]
    return shlex.quote(called) if PurePath(called).name == PROGRAM else f"{shlex.quote(sys.executable)} -m {PROGRAM}"


def open_standard_streams() -> None:
    """Have files 0, 1 and 2 open: who was started without them must not take a socket for one of them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    # What was closed when the interpreter began is None.
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


@contextmanager
def signals_as_interrupt() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end a command as Ctrl-C does, with its number, so that nothing is left of what it made.

    A SIGHUP that is ignored, by nohup for instance, stays so.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
