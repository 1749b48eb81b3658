"""Ending with one's parent: a child of the supervisor must not outlive it, however the supervisor ends.

The kernel sends the signal (PR_SET_PDEATHSIG, prctl(2)), also when the parent was killed. Processes that nobody
supervises, such as units of systemd, are not touched.
"""

import ctypes
import os
import signal

VARIABLE = "TENSORHUB_SUPERVISED"
"""In the environment of supervised processes: the pid of their supervisor."""

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def parent_lives() -> bool:
    """Whether this process's supervisor is still there; True if it has none. For children of the supervisor."""
    supervisor = os.environ.get(VARIABLE, "")
    return not supervisor.isdecimal() or os.getppid() == int(supervisor)


def follow_parent(parent_pid: int | None = None) -> bool:
    """Have SIGTERM sent to this process when its parent ends; at once if it has ended already.

    Call it from the main thread, before anything slow, and after the process has its handler for SIGTERM or while
    the signal still ends it.

    Args:
        parent_pid: the parent, for a process that was started by a child of the supervisor; None: the supervisor.

    Returns:
        Whether this process is supervised; if not, nothing was done.

    Raises:
        OSError: the kernel refused.
    """
    supervisor = os.environ.get(VARIABLE, "")
    if not supervisor.isdecimal():
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    if os.getppid() != (int(supervisor) if parent_pid is None else parent_pid):
        os.kill(os.getpid(), signal.SIGTERM)
    return True
