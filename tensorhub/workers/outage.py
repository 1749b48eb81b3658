"""Whether a service that others run is asked at all: not while it fails, but for one try after a pause. Pure.

The pause doubles with each try in vain. Not thread-safe: the lock is the owner's.
"""

FIRST_PAUSE_NS = 100_000_000
LONGEST_PAUSE_NS = 5_000_000_000


class Outage:
    """See the module.

    Attributes:
        down: the last that was heard of it is a failure.
    """

    __slots__ = ("_pause_ns", "_retry_at_ns", "_trying", "down")

    def __init__(self) -> None:
        self.down = False
        self._trying = False
        self._pause_ns = FIRST_PAUSE_NS
        self._retry_at_ns = 0

    def may_ask(self, now_ns: int) -> bool:
        """Tell whether to ask it now; after a pause, only the first one who asks is told so."""
        if not self.down:
            return True
        if self._trying or now_ns < self._retry_at_ns:
            return False
        self._trying = True
        return True

    def failed(self, now_ns: int) -> bool:
        """It has failed. Returns whether that is news."""
        if not self.down:
            self._pause_ns = FIRST_PAUSE_NS
        elif self._trying:
            self._pause_ns = min(2 * self._pause_ns, LONGEST_PAUSE_NS)
        else:
            return False  # asked before the failure that is known
        news = not self.down
        self.down, self._trying = True, False
        self._retry_at_ns = now_ns + self._pause_ns
        return news

    def not_asked(self) -> None:
        """Who was told that it may ask has not done so."""
        self._trying = False

    def answered(self) -> bool:
        """It has answered. Returns whether that is news."""
        news, self.down, self._trying = self.down, False, False
        return news
