"""How much of a GPU's memory a model has taken when it was loaded: an estimate, as Triton's is.

A driver tells only how much is in use altogether, before and after. What was loaded on this worker at the same time
cannot be told apart, so then nothing is said.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Taken = Callable[[], int]
"""Returns how many bytes loading has taken so far; 0: that is not known."""


class DeviceUse:
    """See the module. Thread-safe.

    Args:
        used: how many bytes of the GPU's memory are in use; None: there is no GPU, or it does not tell.
    """

    def __init__(self, used: Callable[[], int | None]) -> None:
        self._used = used
        self._lock = threading.Lock()
        self._begun = 0
        self._under_way = 0

    @contextmanager
    def measured(self) -> Iterator[Taken]:
        """Load a model in the block."""
        with self._lock:
            self._begun += 1
            self._under_way += 1
            number, alone = self._begun, self._under_way == 1
        before = self._used()

        def taken() -> int:
            after = self._used()
            undisturbed = alone and self._begun == number
            return max(0, after - before) if undisturbed and after is not None and before is not None else 0

        try:
            yield taken
        finally:
            with self._lock:
                self._under_way -= 1
