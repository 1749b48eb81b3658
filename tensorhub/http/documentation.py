"""The interface described by itself, as Falcon resources: OpenAPI documents, and a page to read and try them.

The page is made of files in the package and of nothing from another host; its Content-Security-Policy holds browsers
to that.
"""

import functools
import gzip
import pkgutil

from falcon.asgi import Request, Response

from tensorhub.errors import NotFound
from tensorhub.frontend.catalog import parse_version
from tensorhub.http.resources import context_of, send_json
from tensorhub.protocol import openapi, openapi_model
from tensorhub.restrictions import Category
from tensorhub.version import VERSION

_TYPES = {"html": "text/html; charset=utf-8", "js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}
_FILES = {
    "": "index.html",
    "page.js": "page.js",
    "page.css": "page.css",
    "swagger-ui-bundle.js": "swagger-ui-bundle.js.gz",
    "swagger-ui.css": "swagger-ui.css.gz",
}
"""What is served, by the last part of the path, and the file of the package that has it."""

_POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"


class ServerDocument:
    """GET /v2/openapi.json"""

    category = Category.METADATA

    async def on_get(self, req: Request, resp: Response) -> None:
        context = context_of(req)
        ready = [model.name for model in context.catalog.models.values() if model.ready_versions]
        settings = context.settings
        document = openapi.server_document(
            settings.server_name, VERSION, ready, settings.restrictions, openapi.OPERATIONS
        )
        send_json(resp, document)


class ModelDocument:
    """GET /v2/models/<model>[/versions/<version>]/openapi.json"""

    category = Category.METADATA

    async def on_get(self, req: Request, resp: Response, model: str, version: str) -> None:
        context = context_of(req)
        served = context.catalog.find(model, parse_version(version))
        document = openapi.model_document(
            model,
            str(served.version),
            context.settings.restrictions,
            openapi_model.model_components(served.config),
            openapi_model.example_request(served.config),
            described=openapi_model.describe(served.config),
        )
        send_json(resp, document)


class Page:
    """GET /v2/docs, and the files that the page is made of: /v2/docs/<file>"""

    category = Category.METADATA

    async def on_get(self, req: Request, resp: Response, file: str) -> None:
        name = _FILES.get(file)
        if name is None:
            raise NotFound("Not Found")
        content = _read(name)
        if name.endswith(".gz"):
            if "gzip" in req.get_header("Accept-Encoding", default=""):
                resp.set_header("Content-Encoding", "gzip")
            else:
                content = gzip.decompress(content)
            resp.set_header("Vary", "Accept-Encoding")
        resp.content_type = _TYPES[name.removesuffix(".gz").rpartition(".")[2]]
        resp.set_header("Content-Security-Policy", _POLICY)
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.data = content


@functools.lru_cache
def _read(name: str) -> bytes:
    data = pkgutil.get_data("tensorhub.http", f"page/{name}")
    if data is None:
        raise FileNotFoundError(name)
    return data
