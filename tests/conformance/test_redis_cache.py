"""The cases of the response cache with the answers kept in a real Redis server: the same answers and statistics.

Redis is told behind the answer, so that a request which follows at once may come too early. So a case may be run again,
with an empty Redis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.redis_server import redis_server

from . import recordings, servers
from .cases import caching
from .compare import differences
from .differences import DELIBERATE_DIFFERENCES
from .runner import run_case
from .steps import Case

redis = pytest.importorskip("redis")

_ATTEMPTS = 8

_LISTED = "Requests that list some of the outputs have answers of their own."
_SIZE = "How much is kept is Redis's matter, and is not bounded here."
_OTHERWISE = {
    "cache-outputs-of-all": _LISTED,
    "cache-outputs-grpc": _LISTED,
    "cache-classes": _LISTED,
    "cache-large": _SIZE,
    "cache-eviction": _SIZE,
}
"""Where a Redis cache is not what a local one is, as the documentation says."""

_AS_TRITON = ("cache-reload",)
"""Where it is what Triton's local one is, and ours is not: answers outlive a reload."""

_CASES = [case for case in caching.CASES if case.server == "cached"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[servers.Server, Any]]:
    """A server with the options of the recorded one, but for where its cache is; and a client of that."""
    local = servers.CONFIGURATIONS["cached"]
    options = [option for option in local.options if not option.startswith("--cache-config")]
    with redis_server(tmp_path_factory.mktemp("redis")) as cache:
        options += ["--cache-config=redis,host=127.0.0.1", f"--cache-config=redis,port={cache.port}"]
        configuration = replace(local, options=tuple(options))
        running = servers.running(servers.tensorhub(), configuration, tmp_path_factory.mktemp("cached"))
        with running as started, redis.Redis(port=cache.port) as client:
            yield started, client


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in _CASES])
def test_case(case: Case, server: tuple[servers.Server, Any]) -> None:
    running, client = server
    deliberate = None if case.id in _AS_TRITON else DELIBERATE_DIFFERENCES.get(case.id)
    lines: list[str] = []
    for _ in range(_ATTEMPTS):
        client.flushall()
        lines = differences(recordings.read("caching")[case.id], run_case(case, running.target), deliberate)
        if bool(lines) == (case.id in _OTHERWISE):
            return
    pytest.fail("\n".join(lines) or "the answers are those of the local cache")
