"""The window of a streamed request."""

import threading

from tensorhub.workers.flow import Window
from tests.waiting import wait_until


def _takes(window: Window, count: int) -> tuple[threading.Thread, list[int]]:
    """A thread that takes `count` places and notes each."""
    taken: list[int] = []

    def take() -> None:
        for number in range(count):
            window.take()
            taken.append(number)

    thread = threading.Thread(target=take)
    thread.start()
    return thread, taken


def test_as_many_as_there_is_room_for() -> None:
    thread, taken = _takes(Window(5), 5)
    thread.join(60)
    assert taken == [0, 1, 2, 3, 4]


def test_one_more_waits_for_credit() -> None:
    window = Window(2)
    thread, taken = _takes(window, 5)
    wait_until(lambda: taken == [0, 1], "the window is full")
    thread.join(0.1)
    assert thread.is_alive()
    assert taken == [0, 1]
    window.give(1)
    window.give(2)
    thread.join(60)
    assert taken == [0, 1, 2, 3, 4]


def test_a_closed_window_has_room_for_everything() -> None:
    window = Window(1)
    thread, taken = _takes(window, 100)
    window.close()
    thread.join(60)
    assert len(taken) == 100
    assert "closed" in repr(window)
