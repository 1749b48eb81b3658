"""Restricted operations, for every route that there is: the cases come from the route table."""

import re
from urllib.parse import quote

import pytest

from tensorhub.http.routes import generate_target, infer_target, routes
from tensorhub.restrictions import Category
from tests.http.asgi_client import ask
from tests.http.fake_gateway import FakeGateway
from tests.http.test_control import app_on, snapshot

METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH")
INFER_PATHS = tuple(
    f"/v2/models/echo{version}/{action}"
    for version in ("", "/versions/1")
    for action in ("infer", "generate", "generate_stream")
)

_VALUES = {"model": "echo", "version": "1", "region": "r", "repository": "some", "file": "page.js"}


def sample_paths(pattern: str) -> list[str]:
    """Return paths that a route's pattern matches: with and without its optional parts, and each alternative."""
    paths = [re.sub(r"(?<!>)\[\^/\]\+", "some", pattern)]
    while any("(" in path for path in paths):
        paths = [expanded for path in paths for expanded in _expand(path)]
    return sorted({path.replace("\\", "") for path in paths})


def _expand(path: str) -> list[str]:
    """Replace the innermost group of a pattern by what it may match."""
    group = re.search(r"\((\?:|\?P<(\w+)>)?([^()]*)\)(\?)?", path)
    if group is None:
        return [path]
    if group[2]:
        choices = [_VALUES[group[2]]]
    else:
        choices = group[3].split("|")
    if group[4]:
        choices = [*choices, ""]
    return [path[: group.start()] + choice + path[group.end() :] for choice in choices]


ROUTES = [(route.resource.category, path) for route in routes() for path in sample_paths(route.pattern.pattern)] + [
    (Category.INFERENCE, path) for path in INFER_PATHS
]


@pytest.mark.parametrize("route", routes(), ids=lambda route: route.pattern.pattern)
def test_sample_paths_are_matched(route: object) -> None:
    pattern: re.Pattern[str] = route.pattern  # type: ignore[attr-defined]
    for path in sample_paths(pattern.pattern):
        assert pattern.fullmatch(path), path


def test_the_infer_paths_are_the_routes_without_a_resource() -> None:
    assert all(infer_target(path.encode()) or generate_target(path.encode()) for path in INFER_PATHS)


def test_every_category_has_a_route() -> None:
    assert {category for category, _ in ROUTES} == set(Category)


@pytest.mark.parametrize(("category", "path"), ROUTES, ids=str)
def test_a_restricted_route_denies_whatever_else_the_request_is(category: Category, path: str) -> None:
    gateway = FakeGateway(snapshot(http_restricted_api=f"{category.value}:Key=secret"))
    app = app_on(gateway)
    wrong: list[list[tuple[str, str]]] = [
        [],
        [("key", "")],
        [("key", "secret2")],
        [("key", "Secret")],
        [("secret", "key")],
        [("x-key", "secret")],
        [("x-http-method-override", "GET"), ("x-original-url", "/v2/health/live")],
    ]
    for headers in wrong:
        for method in METHODS:
            answer = ask(app, method, path, body=b"not json", headers=headers)
            assert answer.status == 403, (method, headers)
            assert answer.json() == {"error": "This API is restricted, expecting header 'Key'"}
    for query in ("?key=secret", "?", "?a=b&key=secret"):
        assert ask(app, "POST", path + query).status == 403
    assert gateway.controls == []


@pytest.mark.parametrize(("category", "path"), ROUTES, ids=str)
def test_with_the_header_or_another_category_restricted_it_answers(category: Category, path: str) -> None:
    app = app_on(FakeGateway(snapshot(http_restricted_api=f"{category.value}:Key=secret")))
    assert ask(app, "GET", path, headers=[("KEY", "secret")]).status != 403
    others = ",".join(item.value for item in Category if item is not category)
    app = app_on(FakeGateway(snapshot(http_restricted_api=f"{others}:Key=secret")))
    assert ask(app, "GET", path).status != 403


@pytest.mark.parametrize(("category", "path"), ROUTES, ids=str)
def test_other_spellings_of_a_path_are_not_served(category: Category, path: str) -> None:
    app = app_on(FakeGateway(snapshot(http_restricted_api=f"{category.value}:Key=secret")))
    for spelling in (path + "/", "/" + path, path.upper(), quote(path, safe=""), path.replace("/v2", "/v2/.", 1)):
        answer = ask(app, "GET", spelling)
        assert answer.status in (403, 404), spelling
