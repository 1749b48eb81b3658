"""Fixtures for all tests: one running server on the example models.

TENSORHUB_TEST_HTTP and TENSORHUB_TEST_GRPC (host:port) name a server that already runs, of whatever make; then none is
started.

TENSORHUB_TEST_CHANCE=1: examples that are made up are others in each run. Else they are the same each time, so that
whether the tests pass does not depend on luck.
"""

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.serving import RunningServer, serving

# How long an example takes says something of the machine and of what else it does, and nothing of what is tested.
settings.register_profile(
    "any machine",
    deadline=None,
    derandomize=os.environ.get("TENSORHUB_TEST_CHANCE", "") in ("", "0"),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("any machine")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell starts its background jobs so, and processes that tests start would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Yield a server on `examples/models` that is ready; at the end it is stopped, and must leave nothing behind."""
    if "TENSORHUB_TEST_HTTP" in os.environ:
        yield RunningServer(os.environ["TENSORHUB_TEST_HTTP"], os.environ["TENSORHUB_TEST_GRPC"], metrics="")
        return
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def heard_hangup() -> Iterator[None]:
    """SIGHUP is not ignored by what is started, although nohup may have started the tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
