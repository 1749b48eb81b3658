"""Whether a loaded model says that it is ready: asked when somebody wants to know, and of those that have an opinion.

Each question has a thread of its own, because a model may take its time to answer. Who asks while a question is open
gets the same answer. Source: RunUserModelReadinessCheck in Triton's Python backend.
"""

import threading
from collections.abc import Callable, Sequence

from tensorhub.workers.serving import Opinion

OnAnswer = Callable[[bool], None]
"""On the thread of the question."""


class Readiness:
    """The instances of one load that can be asked. Thread-safe.

    Args:
        name: of the model.
        checks: of the instances; none of them raises.
    """

    def __init__(self, name: str, checks: Sequence[Callable[[], bool]]) -> None:
        self._name = name
        self._checks = checks
        self._lock = threading.Lock()
        self._waiting: list[OnAnswer] = []

    def __repr__(self) -> str:
        return f"<Readiness of {self._name}, {len(self._checks)} instances, {len(self._waiting)} want to know>"

    def ask(self, on_answer: OnAnswer) -> None:
        """See serving.Opinion: whether all instances are ready."""
        with self._lock:
            self._waiting.append(on_answer)
            if len(self._waiting) > 1:
                return
        threading.Thread(target=self._find_out, name=f"{self._name} is_ready", daemon=True).start()

    def _find_out(self) -> None:
        ready = all(check() for check in self._checks)
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for on_answer in waiting:
            on_answer(ready)


def ask_all(asked: Sequence[Opinion], on_answer: OnAnswer) -> None:
    """Find out whether all of these are ready."""
    lock, left, answers = threading.Lock(), [len(asked)], [True]

    def answered(ready: bool) -> None:
        with lock:
            answers[0] &= ready
            left[0] -= 1
            last = not left[0]
        if last:
            on_answer(answers[0])

    if not asked:
        on_answer(True)
    for item in asked:
        item.ask(answered)
