"""The page on the interface and the documents behind it."""

import gzip
import re

import pytest

from tests.http.asgi_client import ask
from tests.http.fake_gateway import FakeGateway, snapshot
from tests.http.test_control import app_on


def _get(path: str, *headers: tuple[str, str]):  # type: ignore[no-untyped-def]
    return ask(app_on(FakeGateway(snapshot())), "GET", path, headers=headers)


def test_the_page_and_all_that_it_names_is_served_from_here() -> None:
    page = _get("/v2/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in page.headers["content-security-policy"]
    named = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    assert len(named) == 5
    for name in named:
        assert not re.match(r"(https?:)?//", name)
        if not name.startswith("data:"):
            assert _get(f"/v2/{name}").status == 200, name


@pytest.mark.parametrize("name", ["swagger-ui-bundle.js", "swagger-ui.css", "page.js", "page.css"])
def test_files_are_the_same_with_and_without_compression(name: str) -> None:
    plain, packed = _get(f"/v2/docs/{name}"), _get(f"/v2/docs/{name}", ("Accept-Encoding", "gzip, br"))
    assert "content-encoding" not in plain.headers
    if "content-encoding" in packed.headers:
        assert gzip.decompress(packed.body) == plain.body
    else:
        assert packed.body == plain.body
    assert plain.headers["content-type"] in ("text/javascript; charset=utf-8", "text/css; charset=utf-8")


@pytest.mark.parametrize("name", ["", "README.md", "index.html", "swagger-ui.css.gz", "..", "%2e%2e", "../app.py"])
def test_nothing_else_of_the_package_is_served(name: str) -> None:
    assert _get(f"/v2/docs/{name}").status == 404


def test_the_documents() -> None:
    document = _get("/v2/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    assert "echo" in document["x-models"]
    assert "/v2/models/echo/infer" in _get("/v2/models/echo/openapi.json").json()["paths"]
    assert _get("/v2/models/echo/versions/1/openapi.json").json()["info"] == {
        "title": "echo",
        "version": "1",
        "description": _get("/v2/models/echo/openapi.json").json()["info"]["description"],
    }
    assert _get("/v2/models/nobody/openapi.json").status == 404
