"""Requests that overlap: when each is sent, and how long models hold them, whatever is quick or slow on the machine.

Models that hold a request (see `steps.HELD`) leave a mark in the folder `gate` beside their repository, and go on when
there is a file `open` in it. What waits in queues is known from the server's metrics.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

AT_ONCE = nullcontext()
"""The turn of a request that waits for nobody."""

_PENDING = re.compile(rb"^nv_inference_pending_request_count\{[^}]*\} (\d+)", re.MULTILINE)


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
        """Nobody waits for it any more, and it for nobody."""
        self._here.set()
        self._taken.set()
        self._over.set()


@contextmanager
def all_given_up(turns: Sequence[Turn]) -> Iterator[None]:
    """At the end of the block no request waits to be sent, however it ends."""
    try:
        yield
    finally:
        for turn in turns:
            turn.give_up()


@dataclass(frozen=True, slots=True)
class Gate:
    """Where models hold requests: a folder, which is new for each time that requests overlap."""

    folder: Path

    @staticmethod
    def beside(repository: Path) -> Gate:
        return Gate(repository.parent / "gate")

    @contextmanager
    def closed(self) -> Iterator[None]:
        """It is closed until `open`, and at the end of the block at the latest."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        try:
            yield
        finally:
            self.open()

    def open(self) -> None:
        """Let go of what is held."""
        (self.folder / "open").touch()

    def held(self) -> int:
        """How many requests are, or have been, held or noted."""
        return len(list(self.folder.glob("held-*")))


def pending(metrics: bytes) -> int:
    """How many requests wait in the queues of all models, by a page of metrics."""
    return sum(map(int, _PENDING.findall(metrics)))
