"""A thread that looks at the model repository again and again, so that a slow disk does not hold up the hub."""

import logging
import threading
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)


class Poller:
    """See the module.

    Args:
        look: returns what is there; may take long; an OSError leaves everything as it was.
        found: takes what `look` has returned, on the poller's thread.
        interval_s: between the end of one look and the beginning of the next.
    """

    def __init__(
        self, look: Callable[[], Mapping[str, str]], found: Callable[[Mapping[str, str]], None], interval_s: float
    ) -> None:
        self._look = look
        self._found = found
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="poller", daemon=True)

    def start(self) -> None:
        """Begin; the first look is after one interval."""
        self._thread.start()

    def close(self) -> None:
        """Look no more; a look that is under way ends by itself."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            try:
                found = self._look()
            except OSError as exc:
                log.warning("the model repository cannot be read and is left as it was: %s", exc)
                continue
            self._found(found)
