"""The children of `tensorhub serve`: starting one, ending it, and cleaning up after it.

Children are always executed, never only forked: gRPC and ZeroMQ do not survive a fork. Each has a session of its own,
so that Ctrl-C reaches the supervisor alone, and ends with it (`ipc.lifeline`).
"""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

from tensorhub.hub.commands import Command
from tensorhub.hub.restarts import Restarts
from tensorhub.ipc import lifeline


class Child:
    """One process, through all its lives.

    Args:
        inherited: descriptors that it has open from the beginning.
    """

    def __init__(self, command: Command, inherited: Sequence[int] = ()) -> None:
        self.command = command
        self._inherited = inherited
        self.restarts = Restarts()
        self.process: subprocess.Popen[bytes] | None = None
        self.pidfd = -1

    def __repr__(self) -> str:
        return f"<Child {self.command.name} {self.process.pid if self.process else 'not running'}>"

    def start(self) -> None:
        """Execute the command.

        Raises:
            OSError: the system refuses.
        """
        self.restarts = self.restarts.started(time.monotonic())
        self.process = subprocess.Popen(
            self.command.argv,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **self.command.environ, lifeline.VARIABLE: str(os.getpid())},
            start_new_session=True,
            pass_fds=self._inherited,
        )
        self.pidfd = os.pidfd_open(self.process.pid)

    def end(self, number: signal.Signals) -> None:
        """Signal the process; SIGKILL goes to all that it has started as well."""
        if self.process is None:
            return
        if number == signal.SIGKILL:
            _kill_group(self.process.pid)
        else:
            self.process.send_signal(number)

    def bury(self) -> tuple[int, int]:
        """Clean up after the process has ended, and return its pid and status (negative: the signal that killed it).

        Whatever it had started ends with it; its id names the group until it is reaped.
        """
        assert self.process is not None
        process, self.process = self.process, None
        _kill_group(process.pid)
        os.close(self.pidfd)
        self.pidfd = -1
        return process.pid, process.wait()


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
