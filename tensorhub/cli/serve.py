"""`tensorhub serve`: start a server. Its options are Triton's and ours, from `settings`."""

import shutil
import sys
from collections.abc import Sequence

from tensorhub import settings
from tensorhub.errors import InvalidArgument

_PROG = "tensorhub serve"
_WIDEST_HELP = 100
_SUFFIX = ".py"


def run(argv: Sequence[str]) -> int:
    """Run the server until it is told to stop; files of decorated functions may stand before the options.

    Returns:
        The exit status: 1 if the options or the files cannot be used, else the supervisor's.
    """
    files, options = split_files(argv)
    if not files:
        return _serve(options)
    from tensorhub.hub.function_files import function_repository

    try:
        with function_repository(files) as repository:
            return _serve([f"--model-repository={repository}", *options])
    except InvalidArgument as exc:
        sys.stderr.write(f"{_PROG}: {exc.message}\n")
        return 1


def split_files(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the files that a command line begins with, and the rest of it."""
    count = 0
    while count < len(argv) and not argv[count].startswith("-") and argv[count].endswith(_SUFFIX):
        count += 1
    return list(argv[:count]), list(argv[count:])


def _serve(argv: Sequence[str]) -> int:
    try:
        chosen = settings.load(argv, hosted=True)
        settings.check_servable(chosen)
    except settings.HelpRequested:
        width = min(_WIDEST_HELP, shutil.get_terminal_size().columns)
        sys.stdout.write(settings.help_text(f"{_PROG} [FILE.py ...]", width))
        return 0
    except settings.SettingsError as exc:
        sys.stderr.write(f"{_PROG}: {exc}\n")
        return 1
    from tensorhub.hub import supervisor

    return supervisor.run(chosen)
