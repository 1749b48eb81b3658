"""Processes that have no descriptors left: this one, or one of a server."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

_STANDARD = 3
"""Input, output and errors are always open. (Less will not do: poll(2) takes no more than the limit.)"""


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing, whatever its threads close meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_STANDARD, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def starved(pid: int, limit: int = _STANDARD) -> Iterator[None]:
    """Let another process have no more than so many descriptors open."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
