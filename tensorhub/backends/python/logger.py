"""`pb_utils.Logger`: what models log goes to the server's log."""

import logging
from enum import IntEnum
from typing import ClassVar

from tensorhub.backends.python.callers import MODEL_NAME, maybe_calling

_VERBOSE = logging.DEBUG


def log_of(model: str) -> logging.Logger:
    """Return where a model's messages go; without a name, those of code that belongs to no model."""
    return logging.getLogger(f"tensorhub.model.{model.replace('.', '_')}" if model else "tensorhub.model")


class Level(IntEnum):
    """Triton's levels of a model's log messages."""

    INFO = 0
    WARNING = 1
    ERROR = 2
    VERBOSE = 3


_LEVELS = {
    Level.INFO: logging.INFO,
    Level.WARNING: logging.WARNING,
    Level.ERROR: logging.ERROR,
    Level.VERBOSE: _VERBOSE,
}


class Logger:
    """Writes messages; all of it is static."""

    LogLevel: ClassVar[type[Level]] = Level
    INFO: ClassVar[Level] = Level.INFO
    WARNING: ClassVar[Level] = Level.WARNING
    ERROR: ClassVar[Level] = Level.ERROR
    VERBOSE: ClassVar[Level] = Level.VERBOSE

    @staticmethod
    def log(message: str, level: Level = Level.INFO) -> None:
        """Log at a level."""
        if not isinstance(message, str):
            raise TypeError(f"a log message must be a str, not {type(message)}")
        log_of(maybe_calling(MODEL_NAME) or "").log(_LEVELS[Level(level)], "%s", message)

    @staticmethod
    def log_info(message: str) -> None:
        Logger.log(message, Level.INFO)

    @staticmethod
    def log_warn(message: str) -> None:
        Logger.log(message, Level.WARNING)

    @staticmethod
    def log_error(message: str) -> None:
        Logger.log(message, Level.ERROR)

    @staticmethod
    def log_verbose(message: str) -> None:
        Logger.log(message, Level.VERBOSE)
