"""One server for all tests that only look at it from outside."""

from collections.abc import Iterator

import pytest

from tests.http.server import CONFIG, Server, gunicorn


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Gunicorn with the shipped configuration, on a fake gateway."""
    with gunicorn(tmp_path_factory.mktemp("gunicorn"), "-c", str(CONFIG)) as running:
        yield running
