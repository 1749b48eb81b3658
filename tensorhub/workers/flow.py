"""How far a decoupled model runs ahead of its client.

A streamed request has a window: the answers that the client has not taken yet. Whoever sends one more takes a place in
it and waits for one if there is none, on the model's own thread, so that a model that never stops and a client that
reads slowly cost a bounded amount of memory. The frontend gives places back as its client takes answers (CREDIT).
"""

import threading

from tensorhub.ipc.wire import STREAM_WINDOW


class Window:
    """The window of one request. Any number of threads may send; the worker's loop gives and closes."""

    __slots__ = ("_condition", "_free", "_open")

    def __init__(self, size: int = STREAM_WINDOW) -> None:
        self._condition = threading.Condition()
        self._free = size
        self._open = True

    def __repr__(self) -> str:
        return f"<Window {self._free} free{'' if self._open else ', closed'}>"

    def take(self) -> None:
        """Take a place for an answer; waits for one. A closed window has room for everything."""
        with self._condition:
            while self._free <= 0 and self._open:
                self._condition.wait()
            self._free -= 1

    def give(self, count: int) -> None:
        """The client has taken so many answers."""
        with self._condition:
            self._free += count
            self._condition.notify_all()

    def close(self) -> None:
        """Nobody reads any more: let everybody go on, whose answers will be dropped."""
        with self._condition:
            self._open = False
            self._condition.notify_all()
