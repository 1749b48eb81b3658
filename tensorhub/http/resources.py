"""The control endpoints as Falcon resources: health, metadata, config, repository. See `memory_resources` for regions.

Each decodes, asks the catalog or the hub, and encodes. What they have in common (no server, restricted API) has been
dealt with by `control.Gate` before: `req.context.server` is a ControlContext.
"""

import binascii
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from falcon.asgi import Request, Response

from tensorhub.errors import InternalError, InvalidArgument, NotFound, TensorhubError, Unavailable, Unsupported
from tensorhub.frontend.catalog import LATEST, Catalog, parse_version
from tensorhub.frontend.readiness import readiness_check
from tensorhub.http.connection import HttpGateway, control
from tensorhub.http.settings import HttpSettings
from tensorhub.protocol import json_text, json_values, messages, metadata, model_config
from tensorhub.protocol.http_infer import check_json_size
from tensorhub.restrictions import Category
from tensorhub.version import VERSION


@dataclass(slots=True)
class ControlContext:
    """What every resource may need; `req.context.server` of a request."""

    gateway: HttpGateway
    catalog: Catalog
    settings: HttpSettings


def context_of(req: Request) -> ControlContext:
    """Return what the gate has found out about a request."""
    context: ControlContext = req.context.server
    return context


async def read_body(req: Request) -> bytes:
    """Read a whole body.

    Raises:
        TensorhubError: too long.
    """
    limits = context_of(req).settings.limits
    text: bytes = await req.stream.read(limits.max_input_size + 1)
    if len(text) > limits.max_input_size:
        check_json_size(max(len(text), req.content_length or 0), limits)
    return text


async def read_json(req: Request) -> Any:
    """Read a JSON body; None if there is no body.

    Raises:
        TensorhubError: too long, or no JSON.
    """
    text = await read_body(req)
    return json_text.parse(text) if text else None


def send_json(resp: Response, document: Any) -> None:
    """Answer with a JSON document."""
    resp.data = json_text.dumps(document)


class Live:
    """GET /v2/health/live"""

    category = Category.HEALTH

    async def on_get(self, req: Request, resp: Response) -> None:
        resp.content_type = "text/plain"
        resp.status = 200 if context_of(req).catalog.live else 400


class Ready:
    """GET /v2/health/ready"""

    category = Category.HEALTH

    async def on_get(self, req: Request, resp: Response) -> None:
        catalog = context_of(req).catalog
        ready = catalog.ready and await _agree(req, catalog.asked_when_ready)
        resp.content_type = "text/plain"
        resp.status = 200 if ready else 400


class ModelReady:
    """GET /v2/models/<model>[/versions/<version>]/ready"""

    category = Category.HEALTH

    async def on_get(self, req: Request, resp: Response, model: str, version: str) -> None:
        number = parse_version(version)
        try:
            served = context_of(req).catalog.find(model, number)
        except (InvalidArgument, NotFound, Unavailable):
            raise InvalidArgument("Model version not ready") from None
        if served.asks_ready and not await _agree(req, (served.load_id,)):
            raise InvalidArgument("Model version not ready")
        resp.content_type = "text/plain"


async def _agree(req: Request, load_ids: Sequence[int]) -> bool:
    """Whether the models of these loads say that they are ready; nobody is asked if there are none."""
    if not load_ids:
        return True
    try:
        await control(context_of(req).gateway, readiness_check(load_ids))
    except TensorhubError:
        return False
    return True


class ServerMetadata:
    """GET /v2"""

    category = Category.METADATA

    async def on_get(self, req: Request, resp: Response) -> None:
        context = context_of(req)
        extensions = metadata.extensions(context.catalog.settings)
        send_json(resp, metadata.server_metadata(context.settings.server_name, VERSION, extensions))


class ModelMetadata:
    """GET /v2/models/<model>[/versions/<version>]"""

    category = Category.METADATA

    async def on_get(self, req: Request, resp: Response, model: str, version: str) -> None:
        catalog = context_of(req).catalog
        number = parse_version(version)
        served = catalog.find(model, number)
        versions = catalog.ready_versions(model) if number == LATEST else [number]
        send_json(resp, metadata.model_metadata(served.config, versions))


class ModelConfig:
    """GET /v2/models/<model>[/versions/<version>]/config"""

    category = Category.MODEL_CONFIG

    async def on_get(self, req: Request, resp: Response, model: str, version: str) -> None:
        served = context_of(req).catalog.find(model, parse_version(version))
        send_json(resp, model_config.to_json(served.config))


class RepositoryIndex:
    """POST /v2/repository[/<repository>]/index; the repository's name does not matter, as in Triton."""

    category = Category.MODEL_REPOSITORY

    async def on_post(self, req: Request, resp: Response) -> None:
        document = await read_json(req)
        ready = type(document) is dict and "ready" in document and json_values.as_bool(document["ready"])
        operation = messages.Control()
        operation.repository_index.SetInParent()
        result = await control(context_of(req).gateway, operation)
        send_json(resp, [_index_entry(item) for item in result.index if not ready or is_shown_as_ready(item)])


def is_shown_as_ready(item: Any) -> bool:
    """Whether an index of what is ready has this entry: Triton's also has the models that it found twice."""
    return bool(item.state == "READY" or (item.state and not item.version))


def _index_entry(item: Any) -> dict[str, str]:
    entry = {"name": item.model}
    if item.version:
        entry["version"] = str(item.version)
    if item.state:
        entry["state"] = item.state
    if item.reason:
        entry["reason"] = item.reason
    return entry


class RepositoryLoad:
    """POST /v2/repository/models/<model>/load"""

    category = Category.MODEL_REPOSITORY

    async def on_post(self, req: Request, resp: Response, repository: str, model: str) -> None:
        _check_repository(repository)
        operation = messages.Control()
        load = operation.load_model
        load.name = model
        for name, value in _parameters(await read_json(req)).items():
            text = json_values.as_string(value)
            if name == "config":
                load.has_config = True
                load.config = text
            elif name.startswith("file:"):
                load.files[name.removeprefix("file:")] = lenient_base64(text)
            else:
                raise InternalError("unexpected error on creating Triton parameter")
        await control(context_of(req).gateway, operation)


class RepositoryUnload:
    """POST /v2/repository/models/<model>/unload"""

    category = Category.MODEL_REPOSITORY

    async def on_post(self, req: Request, resp: Response, repository: str, model: str) -> None:
        _check_repository(repository)
        try:
            document = json_text.parse(await read_body(req))
        except InternalError:
            document = None  # Triton unloads all the same.
        operation = messages.Control()
        operation.unload_model.name = model
        parameters = document.get("parameters") if type(document) is dict else None
        # A value that is no boolean counts as false, without an error, as in Triton.
        if type(parameters) is dict and parameters.get("unload_dependents") is True:
            operation.unload_model.unload_dependents = True
        await control(context_of(req).gateway, operation)


def _check_repository(repository: str) -> None:
    if repository:
        raise Unsupported("'repository_name' specification is not supported")


def _parameters(document: Any) -> dict[str, Any]:
    if type(document) is not dict or "parameters" not in document:
        return {}
    return json_values.members(document["parameters"])


def lenient_base64(text: str) -> bytes:
    """Decode base64 as libb64 does: what is not of the alphabet is skipped, padding may be missing."""
    digits = "".join(char for char in text if char.isascii() and (char.isalnum() or char in "+/"))
    whole = len(digits) - (len(digits) % 4 == 1)
    try:
        return b64decode(digits[:whole] + "=" * (-whole % 4))
    except binascii.Error as exc:
        raise InvalidArgument("a parameter that should be base64 is not") from exc
