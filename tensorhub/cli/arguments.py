"""The argument parser of the client commands: argparse, with errors of one line."""

import sys
from argparse import ArgumentParser
from typing import NoReturn

from tensorhub.cli.program import BAD_USAGE


class Parser(ArgumentParser):
    """Says what is wrong with the arguments in one line, and where the help is."""

    def __init__(self, prog: str, description: str, epilog: str = "") -> None:
        super().__init__(prog=prog, description=description, epilog=epilog or None, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """End the process with BAD_USAGE."""
        sys.stderr.write(f"{self.prog}: {message} (see {self.prog} --help)\n")
        sys.exit(BAD_USAGE)


def count(text: str) -> int:
    """Read a number of at least 1, for `type=`."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number
