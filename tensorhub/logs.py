"""The log of every process of the server: one line an event, in Triton's form, on standard error or in a file.

    I1121 04:28:00.123456 4711 cpu0:workers.loop] text           --log-format=default, UTC
    2026-11-21T04:28:00Z I 4711 cpu0:workers.loop] text          --log-format=ISO8601

Each of --log-info, --log-warning and --log-error switches its own level and no other; --log-verbose adds the finest.
What clients and models write cannot forge a line or command a terminal: control characters are escaped, and the lines
of a traceback are indented.
"""

import logging
import re
import sys
import time
from collections.abc import Mapping

PACKAGE = "tensorhub"
OPTIONS = ("log-verbose", "log-info", "log-warning", "log-error", "log-format", "log-file")

# C0 and C1 controls, the separators that some readers take for a new line, and the marks that reorder text.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_ALL_OFF = logging.CRITICAL + 1


def escaped(text: str) -> str:
    """Return a text in which every control character is written as Python would write it in a string."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


class TritonFormatter(logging.Formatter):
    """Writes a record as in the module's docstring."""

    def __init__(self, process_name: str, *, iso: bool = False) -> None:
        super().__init__()
        self._process_name = f"{process_name}:" if process_name else ""
        self._iso = iso

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line, followed by the indented traceback if it has one."""
        at = time.gmtime(record.created)
        if self._iso:
            stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', at)} {_letter(record.levelno)}"
        else:
            micros = int(record.created * 1_000_000) % 1_000_000
            stamp = f"{_letter(record.levelno)}{time.strftime('%m%d %H:%M:%S', at)}.{micros:06d}"
        name = record.name.removeprefix(f"{PACKAGE}.")
        lines = [f"{stamp} {record.process} {self._process_name}{name}] {escaped(record.getMessage())}"]
        if record.exc_info:
            lines += self.formatException(record.exc_info).split("\n")
        if record.stack_info:
            lines += record.stack_info.split("\n")
        return "\n    ".join([lines[0], *map(escaped, lines[1:])])


def _letter(level: int) -> str:
    return "I" if level < logging.WARNING else "W" if level < logging.ERROR else "E"


class LevelSwitches(logging.Filter):
    """Lets pass the levels that are on; each has a switch of its own."""

    def __init__(self, *, verbose: bool, info: bool, warning: bool, error: bool) -> None:
        super().__init__()
        self._switches = (
            (logging.ERROR, error),
            (logging.WARNING, warning),
            (logging.INFO, info),
            (logging.NOTSET, verbose),
        )

    @property
    def lowest(self) -> int:
        """The lowest level that passes."""
        return min((level or logging.DEBUG for level, on in self._switches if on), default=_ALL_OFF)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record's level is on."""
        return next(on for level, on in self._switches if record.levelno >= level)


def from_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the log options of an environment, for a process whose command line is not ours."""
    names = {name: f"TENSORHUB_{name.upper().replace('-', '_')}" for name in OPTIONS}
    return {name: environ[variable] for name, variable in names.items() if variable in environ}


def to_environ(texts: Mapping[str, str]) -> dict[str, str]:
    """Return the variables from which `from_environ` reads the same log options."""
    return {f"TENSORHUB_{name.upper().replace('-', '_')}": texts[name] for name in OPTIONS if name in texts}


def set_up(texts: Mapping[str, str], process_name: str = "") -> None:
    """Send the log of this process where the options say; a second call replaces what the first one did.

    Libraries are heard from warnings on.

    Args:
        texts: log options by their command line name, as text; those that lack have their default.
        process_name: which process of the server this is: "hub", "cpu0".

    Raises:
        OSError: the log file cannot be opened.
    """
    path = texts.get("log-file", "")
    handler = _file_handler(path) if path else logging.StreamHandler(sys.stderr)
    handler.addFilter(_Chosen(texts, process_name))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    change({})


def _file_handler(path: str) -> logging.Handler:
    from logging.handlers import WatchedFileHandler  # not at the top: with what it imports, 0.7 MB

    return WatchedFileHandler(path, encoding="utf-8", errors="backslashreplace")


def change(changes: Mapping[str, str]) -> None:
    """Have the log of this process be as it was set up, but for these options; where it goes cannot be changed.

    Nothing happens in a process whose log was not set up here, or is as it should be.
    """
    for handler in logging.getLogger().handlers:
        for chosen in handler.filters:
            if isinstance(chosen, _Chosen):
                chosen.apply(handler, changes)


class _Chosen(logging.Filter):
    """How a handler was set up. It lets everything pass; the switches beside it do not."""

    def __init__(self, texts: Mapping[str, str], process_name: str) -> None:
        super().__init__()
        self._texts = {name: texts[name] for name in OPTIONS if name in texts}
        self._process_name = process_name
        self._applied: dict[str, str] | None = None

    def apply(self, handler: logging.Handler, changes: Mapping[str, str]) -> None:
        """Set the handler's form and switches."""
        texts = {**self._texts, **changes}
        if texts == self._applied:
            return
        self._applied = texts
        switches = LevelSwitches(
            verbose=texts.get("log-verbose", "0").lower() not in ("", "0", "false"),
            info=_is_on(texts, "log-info"),
            warning=_is_on(texts, "log-warning"),
            error=_is_on(texts, "log-error"),
        )
        handler.setFormatter(TritonFormatter(self._process_name, iso=texts.get("log-format", "default") == "ISO8601"))
        for old in [item for item in handler.filters if isinstance(item, LevelSwitches)]:
            handler.removeFilter(old)
        handler.addFilter(switches)
        logging.getLogger(PACKAGE).setLevel(switches.lowest)


def adopt(name: str) -> None:
    """Have a library's logger, which has handlers of its own, write as everything else does, from information on."""
    logger = logging.getLogger(name)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = True


def _is_on(texts: Mapping[str, str], name: str) -> bool:
    return texts.get(name, "true").lower() not in ("false", "off", "0")
