"""Work of another user's process, which only root can have done."""

import os
from collections.abc import Callable

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


def run_as(uid: int, work: Callable[[], bool]) -> None:
    """Do `work` in a child that has this user and group and no others; it must return True there."""
    pid = os.fork()
    if pid == 0:
        done = False
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            done = work()
        finally:
            os._exit(0 if done else 1)
    assert os.waitpid(pid, 0)[1] == 0
