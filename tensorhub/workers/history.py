"""Where a model runs best, judged by how long it has taken so far. Pure.

Handing a batch to an instance's thread costs two switches of the interpreter between threads, more than many models
take. A model that has been quick every time lately runs on the worker's loop instead; one slow run sends it back to its
thread, so that a model can hold the loop up once and not again.
"""

QUICK_NS = 500_000
"""A run up to this long may be on the loop: what else waits there waits no longer than it would for its own thread."""

TRIAL_RUNS = 8
"""Quick runs in a row before a model is trusted."""

DISTRUST = 1_000
"""Quick runs in a row that a model needs after a slow one on the loop."""


class RunHistory:
    """Of one model version."""

    def __init__(self) -> None:
        self._needed = TRIAL_RUNS

    @property
    def quick(self) -> bool:
        """Run it on the loop."""
        return self._needed <= 0

    def observe(self, duration_ns: int) -> None:
        """Note how long a run took."""
        if duration_ns <= QUICK_NS:
            if self._needed > 0:
                self._needed -= 1
        else:
            self._needed = DISTRUST if self._needed <= 0 else max(self._needed, TRIAL_RUNS)
