"""What models print: whole lines go to the server's log with the model's name, everything else where it always went.

`print` and tracebacks of a model write to sys.stdout and sys.stderr, which are replaced here by streams that ask who
is writing (see `callers`). Lines are kept apart by model and thread until they end. What a C library writes past
Python goes to the process's own output.
"""

import io
import logging
import sys
import threading
from typing import TextIO

from tensorhub.backends.python.callers import MODEL_NAME, maybe_calling
from tensorhub.backends.python.logger import log_of

LONGEST_LINE = 65_536
"""Characters after which a line is logged though it has not ended: a model that never ends one must not fill memory."""


class ModelOutput(io.TextIOBase):
    """A text stream that sorts out what models write.

    Args:
        stream: the one that it replaces, for everybody else.
        level: of the log, for models.
    """

    def __init__(self, stream: TextIO, level: int) -> None:
        self._stream = stream
        self._level = level
        self._parts: dict[tuple[str, int], str] = {}
        self._lock = threading.Lock()
        self._logging = threading.local()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def flush(self) -> None:
        self._stream.flush()

    def write(self, text: str) -> int:
        # What the log itself writes here, on the way of a model's line, is not the model's.
        model = None if getattr(self._logging, "active", False) else maybe_calling(MODEL_NAME)
        if model is None:
            return self._stream.write(text)
        key = (model, threading.get_ident())
        with self._lock:
            *lines, rest = (self._parts.pop(key, "") + text).split("\n")
            if len(rest) >= LONGEST_LINE:
                lines, rest = [*lines, rest], ""
            if rest:
                self._parts[key] = rest
        self._logging.active = True
        try:
            for line in lines:
                log_of(model).log(self._level, "%s", line)
        finally:
            self._logging.active = False
        return len(text)


def capture() -> None:
    """Replace the standard streams of this process; call it after the log has been set up."""
    sys.stdout = ModelOutput(sys.stdout, logging.INFO)
    sys.stderr = ModelOutput(sys.stderr, logging.WARNING)
