"""`python -m tensorhub.workers.launch`: become a worker under the Python of another environment.

    --environment PATH      folder or archive of the environment
    everything else         as for tensorhub-worker

The environment is unpacked and tried first. If it cannot be used, this process becomes a worker all the same, under its
own Python, and answers every order to load with the reason: so it gets to whoever asked for the model.
"""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from tensorhub.backends.python.activation import EnvironmentFault
from tensorhub.backends.python.environments import Interpreter, prepare
from tensorhub.ipc.lifeline import follow_parent
from tensorhub.settings import SettingsError
from tensorhub.workers import main as worker
from tensorhub.workers.own_options import split


def main(argv: Sequence[str] | None = None) -> int:
    """Replace this process by a worker.

    Returns:
        The exit status of the worker that this process has become itself, if the environment cannot be used.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        own, _ = split(given)
    except SettingsError as exc:
        sys.stderr.write(f"tensorhub-worker: {exc}\n")
        return 1
    follow_parent()
    try:
        become(prepare(own.environment, _warn), given)
    except EnvironmentFault as exc:
        return worker.main([*given, "--refusal", str(exc)])


def become(interpreter: Interpreter, argv: Sequence[str]) -> NoReturn:
    """Go on as a worker under another interpreter, in the same process."""
    os.execve(interpreter.argv[0], [*interpreter.argv, *argv], interpreter.environ)


def _warn(text: str) -> None:
    sys.stderr.write(f"tensorhub-worker: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
