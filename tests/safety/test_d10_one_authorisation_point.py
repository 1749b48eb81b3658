"""D10: a restricted group is closed in all its routes, whatever way leads to an operation."""

import pytest

from tensorhub.restrictions import Category
from tests.http.test_restricted import ROUTES
from tests.safety.client import Http
from tests.safety.conftest import KEY, SECRET
from tests.serving import RunningServer


@pytest.mark.parametrize(("category", "path"), ROUTES)
def test_every_route(closed: RunningServer, category: Category, path: str) -> None:
    client = Http(closed.http)
    for method in ("GET", "POST"):
        for headers in ({}, {KEY: "wrong"}, {KEY: ""}, {"x-other": SECRET}, {KEY: SECRET + " x"}):
            status, body = client.ask(method, path, b"{}" if method == "POST" else None, headers)
            if category is Category.HEALTH:
                assert status != 403, (method, path)
            elif status != 405:
                assert status == 403, (method, path, headers, status)
                assert SECRET.encode() not in body
        status, _ = client.ask(method, path, b"{}" if method == "POST" else None, {KEY.upper(): SECRET})
        assert status != 403, (method, path)
    client.close()


def test_other_ways_to_write_a_path_lead_nowhere(closed: RunningServer) -> None:
    client = Http(closed.http)
    for path in ("/v2/", "//v2", "/v2/models/identity/infer/", "/v2/./models/identity/config", "/V2", "/v2%2flogging"):
        for method in ("GET", "POST"):
            status, body = client.ask(method, path, b"{}" if method == "POST" else None)
            assert status in (400, 403, 404, 405), (path, status)
            assert b'"backend"' not in body
    client.close()
