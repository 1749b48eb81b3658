"""A bell that wakes a thread which waits for descriptors: an eventfd (eventfd(2)) as a file.

As a file and not a bare number: who rings after it has been closed gets an error, and never another file that has the
number now.
"""

import io
import os

_ONE = (1).to_bytes(8, "little")


class Bell:
    """Readable from the first `ring` to `silence`."""

    def __init__(self) -> None:
        self._file = io.FileIO(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC), "r+")
        self.fd = self._file.fileno()

    def ring(self) -> None:
        """Wake the thread; from any thread, and from signal handlers.

        Raises:
            ValueError: the bell is closed.
        """
        self._file.write(_ONE)

    def silence(self) -> None:
        """Take note of all rings so far."""
        self._file.read(8)

    def close(self) -> None:
        self._file.close()
