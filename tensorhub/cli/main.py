"""The command `tensorhub`: finds the subcommand and hands the arguments on; each subcommand is a module.

Nothing of a subcommand is imported before it is called, so that `--help` is immediate and a client needs no server.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tensorhub.cli.program import BAD_USAGE, open_standard_streams, signals_as_interrupt
from tensorhub.version import VERSION


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand: `run` takes its arguments and returns the exit status."""

    summary: str
    run: Callable[[Sequence[str]], int]


def _serve(argv: Sequence[str]) -> int:
    from tensorhub.cli import serve

    return serve.run(argv)


def _quickstart(argv: Sequence[str]) -> int:
    from tensorhub.cli import quickstart

    return quickstart.run(argv)


def _check(argv: Sequence[str]) -> int:
    from tensorhub.cli import check

    return check.run(argv)


def _infer(argv: Sequence[str]) -> int:
    from tensorhub.cli import infer

    return infer.run(argv)


def _bench(argv: Sequence[str]) -> int:
    from tensorhub.cli import bench

    return bench.run(argv)


def _status(argv: Sequence[str]) -> int:
    from tensorhub.cli import status

    return status.run(argv)


def _doctor(argv: Sequence[str]) -> int:
    from tensorhub.cli import doctor

    return doctor.run(argv)


COMMANDS: dict[str, Command] = {
    "serve": Command("start a server on a model repository, or on Python files", _serve),
    "check": Command("see whether a model repository can be served, and why not", _check),
    "quickstart": Command("write a small model repository and a client to begin with", _quickstart),
    "infer": Command("run a model on a server and print its outputs", _infer),
    "bench": Command("measure throughput and latency of a model on a server", _bench),
    "doctor": Command("say why shared memory does not work here", _doctor),
    "status": Command("show a server's models, shared memory and processes", _status),
}


def help_text() -> str:
    """Return the text of `tensorhub --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        (
            "Usage: tensorhub <command> [options]",
            "",
            *lines,
            "",
            "tensorhub <command> --help tells a command's options; tensorhub --version the version.",
            "First steps:  tensorhub quickstart demo",
            "",
        )
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the subcommand that the arguments name.

    Returns:
        The exit status: 0; 1 if the command failed; 2 if the arguments are wrong. `serve` ends with 1 for wrong
        arguments, as Triton does.
    """
    open_standard_streams()
    try:
        with signals_as_interrupt():
            try:
                return _run(list(sys.argv[1:] if argv is None else argv))
            finally:
                sys.stdout.flush()
    except KeyboardInterrupt as exc:
        return 128 + (exc.args[0] if exc.args else signal.SIGINT)
    except BrokenPipeError:
        # Whoever read the output has seen enough. Nothing can be told to him; nor may the interpreter try, at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(arguments: Sequence[str]) -> int:
    name = arguments[0] if arguments else ""
    if name in ("--help", "-h", "help"):
        sys.stdout.write(help_text())
        return 0
    if name == "--version":
        sys.stdout.write(f"tensorhub {VERSION}\n")
        return 0
    command = COMMANDS.get(name)
    if command is None:
        problem = f"there is no command '{name}'" if name else "a command is missing"
        sys.stderr.write(f"tensorhub: {problem}; there are {', '.join(COMMANDS)} (see tensorhub --help)\n")
        return BAD_USAGE
    return command.run(arguments[1:])
