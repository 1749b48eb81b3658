"""What follows when a run of a model has ended, on the same thread, without growing its stack.

A response of one step of an ensemble starts the next one. It arrives while the run that made it is still going on: its
instance is busy and its duration is being measured. So the thread that runs models keeps what is to follow until the
run is over, and then does one thing after the other. A chain of a thousand quick steps runs on one thread in a loop.

    enter, leave           around a run of a model; at the end of the outermost one, what has been put off is done
    run_over               between them, when the run is over and before its instance is free for the next one
        later(call)        put off, inside a run; done at once elsewhere
    with waiting():        a model calls another model and waits for it: what that one puts off cannot wait for the
                           end of the run that is waiting, so it is done in here
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

log = logging.getLogger(__name__)

Call = Callable[[], None]


class MayWait(Protocol):
    """A model at work, as far as this module knows it."""

    def keep_off_the_loop(self) -> None: ...


class _Level:
    """What is going on between the bottom of the stack, or a model that waits, and the next model that waits."""

    __slots__ = ("calls", "draining", "owner", "preparations", "runs")

    def __init__(self) -> None:
        self.runs = 0
        self.owner: MayWait | None = None
        self.draining = False
        self.calls: deque[Call] = deque()
        self.preparations: list[Call] = []


class _Thread(threading.local):
    def __init__(self) -> None:
        self.level = _Level()


_thread = _Thread()


def enter(owner: MayWait) -> _Level:
    """Begin a run; what it returns is for `leave`."""
    level = _thread.level
    level.runs += 1
    level.owner = owner
    return level


def maybe_owner() -> MayWait | None:
    """Return the model that this thread runs, or None."""
    level = _thread.level
    return level.owner if level.runs else None


def run_over(level: _Level) -> None:
    """A run is over, and its instance is still busy: prepare what has been put off."""
    if level.preparations:
        preparations, level.preparations = level.preparations, []
        for prepare in preparations:
            prepare()


def leave(level: _Level) -> None:
    """End a run, when its instance is free again."""
    level.runs -= 1
    if level.calls and not level.runs and not level.draining:
        _drain(level)


def later(call: Call, prepare: Call | None = None) -> None:
    """Do `call` when the run that this thread is in has ended; at once if it is in none. Errors are logged.

    Args:
        prepare: to be done before it, and before the instance of the run is free for the next one.
    """
    level = _thread.level
    level.calls.append(call)
    if prepare is not None:
        level.preparations.append(prepare)
    if not level.runs:
        run_over(level)
        if not level.draining:
            _drain(level)


@contextmanager
def waiting() -> Iterator[None]:
    """Call another model from inside a run, and wait for it."""
    outer = _thread.level
    _thread.level = _Level()
    try:
        yield
    finally:
        _thread.level = outer


def _drain(level: _Level) -> None:
    level.draining = True
    try:
        while level.calls:
            try:
                level.calls.popleft()()
            except Exception:
                log.exception("what follows the run of a model has failed")
    finally:
        level.draining = False
