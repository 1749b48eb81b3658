"""Endpoints with several models: SageMaker unpacks archives below /opt/ml/models, and says what to load and unload.

    GET    /models           {"models": [{"modelName", "modelUrl"}, ...]}: those that are ready
    GET    /models/<name>    {"modelName", "modelUrl"}; 404 for one that is not loaded
    POST   /models           {"model_name", "url"}: load; 409 if there is one of that name, 507 without memory
    DELETE /models/<name>    unload, and wait for the end of it; 404 for one that is not loaded

An archive is one model, or a folder for each of several of which one is the ensemble that is asked for. What SageMaker
calls a model is a hash; the header X-Amzn-SageMaker-Target-Model has the name that it is served by. The server has to
run with --model-control-mode=explicit. Only this process knows what it has loaded: there is one of it.
"""

import asyncio
import os
import re
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorhub.errors import InvalidArgument, TensorhubError
from tensorhub.http.asgi import Disconnected, Receive, Scope
from tensorhub.http.body import BodyReader
from tensorhub.http.connection import Connection, HttpGateway, control
from tensorhub.protocol import json_text, json_values, messages
from tensorhub.protocol.http_infer import Limits, check_json_size
from tensorhub.protocol.json_text import error_body
from tensorhub.restrictions import Category

TARGET_MODEL = b"x-amzn-sagemaker-target-model"
MODELS_ROOT = Path("/opt/ml/models")

_UNLOAD_TIMEOUT_S = 350.0
"""SageMaker waits for 360 seconds."""

_POLL_S = 0.05
_MAX_BODY_SIZE = 64 * 1024
_MAX_CONFIG_BYTES = 1 << 20
_ENSEMBLE = re.compile(r'platform:\s*"ensemble"')
_OUT_OF_MEMORY = (
    "CUDA out of memory",
    "CUDA_OUT_OF_MEMORY",
    "Out of memory",
    "Out Of Memory",
    "out of memory",
    "MemoryError",
    "OutOfMemory",
    "OOM",
    "Dst tensor is not initialized",
    "Src tensor is not initialized",
    "CNMEM_STATUS_OUT_OF_MEMORY",
    "CUDNN_STATUS_NOT_INITIALIZED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "Failed to allocate memory",
    "failed to allocate memory",
    "No space left on device",
)
"""What texts of errors contain when there was no memory, by the frameworks that Triton knows."""


def is_out_of_memory(text: str) -> bool:
    """Whether an error tells that there was no memory left; SageMaker then unloads another model and tries again."""
    return any(part in text for part in _OUT_OF_MEMORY)


@dataclass(frozen=True, slots=True)
class _Archive:
    """Where an unpacked model is: the folder to load, and those of the models that it is made of, by name."""

    url: str
    main: Path
    parts: tuple[tuple[str, Path], ...]


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What was loaded for one of SageMaker's names."""

    url: str
    target: str
    parts: tuple[str, ...]


class SagemakerModels:
    """The models of this endpoint."""

    def __init__(self, connection: Connection, root: Path = MODELS_ROOT) -> None:
        """Args: root: archives lie in `<root>/<hash>/model`."""
        self._connection = connection
        self._root = root
        self._url = re.compile(
            rf"(?P<parent>{re.escape(str(root))}/[0-9A-Za-z._]+)/model(?:/(?P<folder>[0-9A-Za-z._]+))?/?"
        )
        self._loaded: dict[str, _Loaded] = {}
        self._changing = asyncio.Lock()

    def has(self, name: str) -> bool:
        """Whether a model of this name has been loaded."""
        return name in self._loaded

    async def serve(self, scope: Scope, receive: Receive, name: str) -> tuple[int, bytes]:
        """Serve a request for /models or /models/<name>, and return status and body.

        Raises:
            TensorhubError: there is no server.
        """
        gateway = self._connection.gateway or await self._connection.open()
        gateway.catalog.check_serving()
        settings = self._connection.settings(gateway.catalog.settings)
        if scope["method"] not in ("GET", "POST", "DELETE"):
            return 400, b""
        denial = settings.restrictions.denial(Category.MODEL_REPOSITORY, scope["headers"])
        if denial is not None:
            return 403, error_body(denial)
        if scope["method"] == "GET":
            return self._show(gateway, name)
        if scope["method"] == "DELETE":
            change = self._unload(gateway, name)
        else:
            try:
                name, url = await _read_request(receive)
            except TensorhubError as exc:
                return 400, error_body(exc.message)
            target = dict(scope["headers"]).get(TARGET_MODEL, name.encode()).decode("latin-1")
            change = self._load(gateway, name, url, target)
        # The hub goes on with what a client does not wait for to the end, and so do we: both know the same models.
        return await asyncio.shield(asyncio.ensure_future(self._in_turn(change)))

    async def _in_turn(self, change: Coroutine[Any, Any, tuple[int, bytes]]) -> tuple[int, bytes]:
        async with self._changing:
            return await change

    def _show(self, gateway: HttpGateway, name: str) -> tuple[int, bytes]:
        if name:
            found = self._loaded.get(name)
            return (404, b"") if found is None else (200, json_text.dumps(_entry(name, found)))
        entries = [_entry(name, item) for name, item in self._loaded.items() if _is_ready(gateway, item.target)]
        return 200, json_text.dumps({"models": entries})

    async def _load(self, gateway: HttpGateway, name: str, url: str, target: str) -> tuple[int, bytes]:
        try:
            archive = await asyncio.to_thread(self._find, url)
            if name in self._loaded or _is_ready(gateway, target):
                text = f"failed to register '{archive.url}', there is a conflicting mapping for '{target}'"
                return 409, error_body(text)
            for part, folder in archive.parts:
                await _control_load(gateway, part, folder)
            await _control_load(gateway, target, archive.main)
        except TensorhubError as exc:
            return (507 if is_out_of_memory(exc.message) else 400), error_body(exc.message)
        self._loaded[name] = _Loaded(archive.url, target, tuple(part for part, _ in archive.parts))
        return 200, b""

    def _find(self, url: str) -> _Archive:
        """Look at an archive.

        Raises:
            InvalidArgument: the path is not one of an archive, or there is no model.
        """
        path = os.path.normpath(url) if url.startswith("/") else url
        if self._url.fullmatch(path) is None:
            raise InvalidArgument(
                f"Invalid \"url\" '{url}': expected a path of the form {self._root}/<hash>/model[/<subdir>]"
            )
        # SAFETY: what lies there was written by SageMaker; a link in it must not lead to other files of this host.
        folder = Path(path).resolve()
        if not folder.is_relative_to(self._root.resolve()) or not folder.is_dir():
            raise InvalidArgument(f"failed to register '{path}', repository not found")
        if (folder / "config.pbtxt").is_file():
            return _Archive(str(Path(path).parent), folder, ())
        models = {item.name: item for item in sorted(folder.iterdir()) if item.is_dir() and not item.is_symlink()}
        ensembles = [name for name, item in models.items() if _is_ensemble(item)]
        if not models:
            raise InvalidArgument(f"failed to register '{path}', there is no model in it")
        main = (ensembles or list(models))[-1]
        parts = [(name, item) for name, item in models.items() if name != main] if ensembles else []
        return _Archive(path, models[main], tuple(parts))

    async def _unload(self, gateway: HttpGateway, name: str) -> tuple[int, bytes]:
        found = self._loaded.get(name)
        if found is None:
            return 404, b""
        try:
            for model in (found.target, *found.parts):
                operation = messages.Control()
                operation.unload_model.name = model
                operation.unload_model.unload_dependents = True
                await control(gateway, operation)
        except TensorhubError as exc:
            return 400, error_body(exc.message)
        del self._loaded[name]
        deadline = asyncio.get_running_loop().time() + _UNLOAD_TIMEOUT_S
        while _is_there(gateway, found.target) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(_POLL_S)
        return 200, b""


async def _read_request(receive: Receive) -> tuple[str, str]:
    """Return model_name and url of a load request.

    Raises:
        TensorhubError: it is no such request.
    """
    try:
        body = await BodyReader(receive).gather(_MAX_BODY_SIZE)
    except Disconnected:
        raise InvalidArgument("the client has gone") from None
    check_json_size(len(body), Limits(_MAX_BODY_SIZE))
    document = json_text.parse(body) if body else {}
    values = document if type(document) is dict else {}
    return json_values.as_string(values.get("model_name", "")), json_values.as_string(values.get("url", ""))


async def _control_load(gateway: HttpGateway, name: str, folder: Path) -> None:
    operation = messages.Control()
    operation.load_model.name = name
    operation.load_model.folder = str(folder)
    await control(gateway, operation)


def _entry(name: str, item: _Loaded) -> dict[str, Any]:
    return {"modelName": name, "modelUrl": item.url}


def _is_ready(gateway: HttpGateway, target: str) -> bool:
    model = gateway.catalog.models.get(target)
    return model is not None and bool(model.ready_versions)


def _is_there(gateway: HttpGateway, target: str) -> bool:
    """Whether a version of the model is served still, or on its way out."""
    model = gateway.catalog.models.get(target)
    return model is not None and any(item.state in ("READY", "UNLOADING") for item in model.versions.values())


def _is_ensemble(folder: Path) -> bool:
    try:
        with open(folder / "config.pbtxt", encoding="utf-8", errors="replace") as file:
            return _ENSEMBLE.search(file.read(_MAX_CONFIG_BYTES)) is not None
    except OSError:
        return False
