"""How many descriptors there may be, and who may have the last of them."""

import os
import resource
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tensorhub.errors import Unavailable
from tensorhub.ipc.descriptors import allow_many, check_spare


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_as_many_as_there_may_be(limits: tuple[int, int]) -> None:
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    allow_many()
    raised = min(hard, 65_536) if hard != resource.RLIM_INFINITY else 65_536
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (raised, hard)
    allow_many()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (raised, hard)


@pytest.mark.parametrize(("limit", "kept_back"), [(400, 100), (1024, 128)])
def test_clients_do_not_get_the_last_ones(limits: tuple[int, int], limit: int, kept_back: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limits[1]))
    held = [os.dup(0)]
    try:
        check_spare(held[0], "no")
        while held[-1] < limit - kept_back - 1:
            held.append(os.dup(0))
        for _ in range(2):
            with pytest.raises(
                Unavailable, match=f"^no: .* no descriptors to spare .ulimit -n is {limit}.; unregister"
            ):
                check_spare(held[0], "no")
            with suppress(OSError):
                while True:
                    held.append(os.dup(0))
    finally:
        for fd in held:
            os.close(fd)
