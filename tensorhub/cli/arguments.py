"""The argument parser of the client commands: argparse, with errors of one line that say what is allowed."""

import shutil
import sys
import textwrap
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Sequence
from typing import NoReturn

from tensorhub.cli.program import BAD_USAGE

_LEAST_SECONDS, _MOST_SECONDS = 0.01, 86_400
"""For runs and for time limits alike; more than a day is a slip of the hand."""


class Parser(ArgumentParser):
    """Says what is wrong with the arguments in one line, and where the help is.

    Args:
        examples: whole command lines, which the help shows one below the other.
    """

    def __init__(self, prog: str, description: str, epilog: str = "", examples: Sequence[str] = ()) -> None:
        width = min(100, shutil.get_terminal_size().columns)
        ending = [textwrap.fill(epilog, width)] if epilog else []
        if examples:
            ending.append("\n".join(("examples:", *(f"  {example}" for example in examples))))
        super().__init__(
            prog=prog,
            description=textwrap.fill(description, width),
            epilog="\n\n".join(ending) or None,
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """End the process with BAD_USAGE."""
        sys.stderr.write(f"{self.prog}: {message} (see {self.prog} --help)\n")
        sys.exit(BAD_USAGE)


def count(text: str) -> int:
    """Read a number of at least 1, for `type=`."""
    if not (text.isascii() and text.isdecimal() and int(text) >= 1):
        raise ArgumentTypeError(f"a whole number of at least 1 is needed, got '{text}'")
    return int(text)


def seconds(text: str) -> float:
    """Read a duration, for `type=`."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not _LEAST_SECONDS <= number <= _MOST_SECONDS:
        raise ArgumentTypeError(f"a number of seconds from {_LEAST_SECONDS} to {_MOST_SECONDS} is needed, got '{text}'")
    return number
