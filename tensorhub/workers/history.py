"""Where a model runs best, judged by how long it has taken so far. Pure.

Handing a batch to an instance's thread costs two switches of the interpreter between threads, more than many models
take. A model that has been quick every time lately runs on the worker's loop instead. A really slow run sends it back
to its thread at once, so that a model can hold the loop up once and not again; a run that is only somewhat slow may
have been the machine's fault (the process had to wait for a processor), so it takes several of them.
"""

QUICK_NS = 500_000
"""A run up to this long may be on the loop: what else waits there waits no longer than it would for its own thread."""

QUICK_PER_REQUEST_NS = 50_000
"""More for each further request of a batch. To take it apart and to answer it takes some 20 us, which no other thread
could use for Python either."""

SLOW_NS = 20_000_000
"""A run of this length is slow on any machine."""

TRIAL_RUNS = 8
"""Quick runs in a row before a model is trusted."""

STRIKES = 8
"""Somewhat slow runs before trust is lost; a hundred quick ones make up for one of them."""

DISTRUST = 1_000
"""Quick runs that a model needs after trust was lost."""

_RUNS_PER_STRIKE = 100

_NEVER = 1 << 62
"""More runs than there will be."""


class RunHistory:
    """Of one model version."""

    def __init__(self) -> None:
        self._needed = TRIAL_RUNS
        self._credit = STRIKES * _RUNS_PER_STRIKE

    def keep_off_the_loop(self) -> None:
        """The model waits for others, which may need the loop to answer: never trust it."""
        self._needed = _NEVER

    @property
    def quick(self) -> bool:
        """Run it on the loop."""
        return self._needed <= 0

    def observe(self, duration_ns: int, requests: int = 1) -> None:
        """Note how long a run of so many requests took."""
        if duration_ns <= QUICK_NS + (requests - 1) * QUICK_PER_REQUEST_NS:
            if self._needed > 0:
                self._needed -= 1
            elif self._credit < STRIKES * _RUNS_PER_STRIKE:
                self._credit += 1
            return
        if self._needed > 0:
            self._needed = max(self._needed, TRIAL_RUNS)
            return
        self._credit -= _RUNS_PER_STRIKE
        if duration_ns >= SLOW_NS or self._credit <= 0:
            self._needed = DISTRUST
            self._credit = STRIKES * _RUNS_PER_STRIKE
