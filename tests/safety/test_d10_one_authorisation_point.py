"""D10: a restricted group is closed in all its routes, whatever way leads to an operation."""

from collections.abc import Iterator

import pytest

from tensorhub.http.access import Category
from tensorhub.http.routes import infer_target, routes
from tests.safety.client import Http
from tests.safety.conftest import MODELS
from tests.serving import RunningServer, serving

_KEY, _VALUE = "x-d10-key", "d10-secret"
_GROUPS = [category.value for category in Category if category is not Category.HEALTH]  # whose start is waited for

_MODEL = ("/v2/models/identity", "/v2/models/identity/versions/1")
PATHS = [
    *("/v2", "/v2/models/stats", "/v2/logging", "/v2/trace/setting", "/v2/models/identity/trace/setting"),
    *("/v2/health/live", "/v2/health/ready", "/v2/repository/index", "/v2/repository/other/index"),
    *(model + end for model in _MODEL for end in ("", "/ready", "/config", "/stats", "/generate", "/generate_stream")),
    *(f"/v2/{kind}sharedmemory{region}/{verb}" for kind in ("system", "cuda") for region in ("", "/region/r")
      for verb in ("status", "register", "unregister")),
    *(f"/v2/repository{name}/models/identity/{verb}" for name in ("", "/other") for verb in ("load", "unload")),
]  # fmt: skip
INFER = [f"{model}/infer" for model in _MODEL]


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    option = f"--http-restricted-api={','.join(_GROUPS)}:{_KEY}={_VALUE}"
    with serving(tmp_path_factory.mktemp("closed"), [option], repository=MODELS) as running:
        yield running


def test_the_paths_are_all_routes_there_are() -> None:
    for route in routes():
        assert any(route.pattern.fullmatch(path) for path in PATHS), f"no path of this test for {route.pattern.pattern}"
    assert all(infer_target(path.encode()) for path in INFER)


def _category(path: str) -> Category:
    if path in INFER:
        return Category.INFERENCE
    [first, *_] = [route for route in routes() if route.pattern.fullmatch(path)]
    category = first.resource.category
    assert isinstance(category, Category)
    return category


@pytest.mark.parametrize("path", [*PATHS, *INFER])
def test_every_route(closed: RunningServer, path: str) -> None:
    client = Http(closed.http)
    category = _category(path)
    for method in ("GET", "POST"):
        for headers in ({}, {_KEY: "wrong"}, {_KEY: ""}, {"x-other": _VALUE}, {_KEY: _VALUE + " x"}):
            status, body = client.ask(method, path, b"{}" if method == "POST" else None, headers)
            if category is Category.HEALTH:
                assert status != 403, (method, path)
            elif status != 405:
                assert status == 403, (method, path, headers, status)
                assert _VALUE.encode() not in body
        status, _ = client.ask(method, path, b"{}" if method == "POST" else None, {_KEY.upper(): _VALUE})
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
