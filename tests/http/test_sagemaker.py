"""Endpoints of SageMaker with several models: archives are loaded, shown, run and unloaded by a real server."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tensorhub.errors import Code
from tensorhub.frontend.gateways import open_async_gateway
from tensorhub.frontend.port import OnControl
from tensorhub.hosting import SagemakerEnvironment
from tensorhub.http.app import App
from tensorhub.http.connection import HttpGateway
from tensorhub.http.sagemaker import SagemakerApp
from tensorhub.http.sagemaker_models import SagemakerModels, is_out_of_memory
from tests.http.asgi_client import Answer, call
from tests.http.fake_gateway import FakeGateway, refused, snapshot
from tests.serving import RunningServer, serving
from tests.waiting import DEADLINE_S

_ENVIRONMENT = SagemakerEnvironment("ready", "add_sub", "infer")
_CONFIG = """backend: "python"
max_batch_size: 0
input [ { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""
_MODEL = """import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("OUT", pb_utils.get_input_tensor_by_name(request, "IN").as_numpy() + ADD)]
            )
            for request in requests
        ]
"""
_REQUEST = json.dumps({"inputs": [{"name": "IN", "datatype": "INT32", "shape": [1], "data": [1]}]}).encode()
_TARGET = "X-Amzn-SageMaker-Target-Model"

Ask = Callable[..., Awaitable[Answer]]


def _write(folder: Path, add: int, name: str = "") -> None:
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text((f'name: "{name}"\n' if name else "") + _CONFIG)
    (folder / "1" / "model.py").write_text(_MODEL.replace("ADD", str(add)))


@pytest.fixture(scope="module")
def explicit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    options = ["--model-control-mode=explicit", "--allow-grpc=false"]
    with serving(tmp_path_factory.mktemp("sagemaker"), options) as running:
        yield running


def _converse(server: RunningServer, root: Path, conversation: Callable[[Ask], Awaitable[None]]) -> None:
    """Talk to the endpoint in one event loop, as its one process would."""

    async def join() -> HttpGateway:
        assert server.run_dir is not None
        return await open_async_gateway(server.run_dir)

    async def run() -> None:
        app = App(join)
        sagemaker = SagemakerApp(app, _ENVIRONMENT, SagemakerModels(app.connection, root))

        async def ask(method: str, path: str, body: Any = b"", *headers: tuple[str, str]) -> Answer:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            return await call(sagemaker, method, path, data, headers)

        gateway = await app.connection.open()
        deadline = asyncio.get_running_loop().time() + 60
        while not gateway.catalog.connected:
            assert asyncio.get_running_loop().time() < deadline, "no snapshot has come"
            await asyncio.sleep(0.01)
        try:
            await conversation(ask)
        finally:
            await app.connection.close()

    asyncio.run(run())


def _output(answer: Answer) -> list[int]:
    data: list[int] = answer.json()["outputs"][0]["data"]
    return data


def test_a_model_from_load_to_unload(explicit: RunningServer, tmp_path: Path) -> None:
    url = f"{tmp_path}/abc/model"
    _write(Path(url), 10, name="called_otherwise")

    async def conversation(ask: Ask) -> None:
        assert (await ask("GET", "/models")).json() == {"models": []}
        loaded = await ask("POST", "/models", {"model_name": "hash1", "url": url}, (_TARGET, "mine.tar.gz"))
        assert (loaded.status, loaded.body) == (200, b"")
        shown = {"modelName": "hash1", "modelUrl": f"{tmp_path}/abc"}
        assert (await ask("GET", "/models")).json() == {"models": [shown]}
        assert (await ask("GET", "/models/hash1")).json() == shown
        assert (await ask("GET", "/models/other")).status == 404
        target = (_TARGET, "mine.tar.gz")
        assert _output(await ask("POST", "/models/hash1/invoke", _REQUEST, target)) == [11]
        assert (await ask("POST", "/models/hash1/invoke", b"no json", target)).status == 400
        assert (await ask("POST", "/models/hash1/invoke", _REQUEST, (_TARGET, "a/versions/1"))).status == 404
        again = await ask("POST", "/models", {"model_name": "hash1", "url": url}, target)
        assert again.status == 409
        assert "there is a conflicting mapping for 'mine.tar.gz'" in again.json()["error"]
        assert (await ask("DELETE", "/models/hash1")).status == 200
        assert (await ask("DELETE", "/models/hash1")).status == 404
        assert (await ask("POST", "/models/hash1/invoke", _REQUEST, target)).status == 404
        assert (await ask("GET", "/models")).json() == {"models": []}
        assert (await ask("POST", "/models", {"model_name": "hash1", "url": url})).status == 200
        assert _output(await ask("POST", "/models/hash1/invoke", _REQUEST)) == [11]
        assert (await ask("DELETE", "/models/hash1")).status == 200

    _converse(explicit, tmp_path, conversation)


def test_an_archive_with_a_folder(explicit: RunningServer, tmp_path: Path) -> None:
    _write(tmp_path / "one" / "model" / "inner", 20)

    async def conversation(ask: Ask) -> None:
        loaded = await ask("POST", "/models", {"model_name": "hash2", "url": f"{tmp_path}/one/model/"})
        assert loaded.status == 200, loaded.body
        assert (await ask("GET", "/models/hash2")).json()["modelUrl"] == f"{tmp_path}/one/model"
        assert _output(await ask("POST", "/models/hash2/invoke", _REQUEST)) == [21]
        assert (await ask("DELETE", "/models/hash2")).status == 200

    _converse(explicit, tmp_path, conversation)


def test_archives_that_cannot_be_loaded(explicit: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "empty" / "model").mkdir(parents=True)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "model").symlink_to("/etc")
    broken = tmp_path / "broken" / "model"
    _write(broken, 1)
    (broken / "1" / "model.py").write_text("raise MemoryError('CUDA out of memory')\n")
    wrong = tmp_path / "wrong" / "model"
    _write(wrong, 1)
    (wrong / "1" / "model.py").write_text("raise ValueError('not today')\n")

    async def conversation(ask: Ask) -> None:
        for url, status, part in (
            (f"{tmp_path}/absent/model", 400, "repository not found"),
            (f"{tmp_path}/empty/model", 400, "there is no model in it"),
            (f"{tmp_path}/linked/model", 400, "repository not found"),
            (f"{tmp_path}/empty/model/../../linked/model", 400, "repository not found"),
            (f"{tmp_path}/empty", 400, "expected a path of the form"),
            (f"{tmp_path}/../model", 400, "expected a path of the form"),
            ("model", 400, "expected a path of the form"),
            ("", 400, "expected a path of the form"),
            (f"{tmp_path}/wrong/model", 400, "not today"),
            (f"{tmp_path}/broken/model", 507, "out of memory"),
        ):
            answer = await ask("POST", "/models", {"model_name": "hash4", "url": url})
            assert (answer.status, part in answer.json()["error"]) == (status, True), (url, answer.body)
            assert (await ask("GET", "/models/hash4")).status == 404
        assert (await ask("POST", "/models", b"{")).status == 400
        assert (await ask("POST", "/models", b"[]")).status == 400
        assert (await ask("POST", "/models", {"model_name": 1})).status == 400

    _converse(explicit, tmp_path, conversation)


def _fake(gateway: FakeGateway, root: Path) -> SagemakerApp:
    async def join() -> FakeGateway:
        return gateway

    app = App(join)
    return SagemakerApp(app, _ENVIRONMENT, SagemakerModels(app.connection, root))


def test_the_restricted_repository(tmp_path: Path) -> None:
    app = _fake(FakeGateway(snapshot(http_restricted_api="model-repository:key=secret")), tmp_path)

    async def run() -> None:
        for method, path in (("GET", "/models"), ("GET", "/models/x"), ("POST", "/models"), ("DELETE", "/models/x")):
            answer = await call(app, method, path)
            assert answer.status == 403, (method, path)
            assert answer.json() == {"error": "This API is restricted, expecting header 'key'"}
            assert (await call(app, method, path, headers=[("key", "secret")])).status != 403

    asyncio.run(run())


def test_an_ensemble_comes_after_its_models_and_goes_before_them(tmp_path: Path) -> None:
    several = tmp_path / "abc" / "model"
    for name in ("first", "second"):
        _write(several / name, 1)
    (several / "middle").mkdir()
    (several / "middle" / "config.pbtxt").write_text('platform: "ensemble"\n')
    gateway = FakeGateway(snapshot())
    app = _fake(gateway, tmp_path)

    async def run() -> None:
        body = json.dumps({"model_name": "x", "url": str(several)}).encode()
        assert (await call(app, "POST", "/models", body, [(_TARGET, "whole")])).status == 200
        loads = [(control.load_model.name, Path(control.load_model.folder).name) for control in gateway.controls]
        assert loads == [("first", "first"), ("second", "second"), ("whole", "middle")]
        gateway.controls.clear()
        assert (await call(app, "DELETE", "/models/x")).status == 200
        assert [control.unload_model.name for control in gateway.controls] == ["whole", "first", "second"]

    asyncio.run(run())


def test_a_refused_unload_keeps_the_model(tmp_path: Path) -> None:
    _write(tmp_path / "abc" / "model", 1)
    gateway = FakeGateway(snapshot())
    app = _fake(gateway, tmp_path)

    async def run() -> None:
        body = json.dumps({"model_name": "x", "url": f"{tmp_path}/abc/model"}).encode()
        assert (await call(app, "POST", "/models", body)).status == 200
        assert gateway.controls[0].load_model.folder == str((tmp_path / "abc" / "model").resolve())
        gateway.control_result = lambda operation: refused(Code.INTERNAL, "stuck")
        answer = await call(app, "DELETE", "/models/x")
        assert (answer.status, answer.json()) == (400, {"error": "stuck"})
        assert (await call(app, "GET", "/models/x")).status == 200

    asyncio.run(run())


class _SlowHub(FakeGateway):
    """Answers control calls when it is told to."""

    def __init__(self, state: Any) -> None:
        super().__init__(state)
        self.asked: asyncio.Queue[OnControl] = asyncio.Queue()

    def control(self, operation: Any, on_result: OnControl) -> None:
        self.asked.put_nowait(on_result)

    async def answer(self) -> None:
        """Answer the next call."""
        (await self.asked.get())(self.control_result(None), None)


def test_what_a_client_does_not_wait_for_is_done_all_the_same(tmp_path: Path) -> None:
    _write(tmp_path / "abc" / "model", 1)
    gateway = _SlowHub(snapshot())
    app = _fake(gateway, tmp_path)

    async def give_up(*request: Any) -> None:
        """Send a request, and leave when the hub has been asked, as a server does with one whose client has left."""
        call_ = asyncio.ensure_future(call(app, *request))
        on_result = await gateway.asked.get()
        gateway.asked.put_nowait(on_result)
        call_.cancel()
        await asyncio.wait([call_])
        assert call_.cancelled()

    async def run() -> None:
        body = json.dumps({"model_name": "x", "url": f"{tmp_path}/abc/model"}).encode()
        await give_up("POST", "/models", body)
        next_one = asyncio.ensure_future(call(app, "POST", "/models", body))
        await gateway.answer()
        assert (await next_one).status == 409
        assert (await call(app, "GET", "/models/x")).status == 200
        await give_up("DELETE", "/models/x")
        next_one = asyncio.ensure_future(call(app, "DELETE", "/models/x"))
        await gateway.answer()
        assert (await next_one).status == 404
        assert (await call(app, "GET", "/models/x")).status == 404

    asyncio.run(asyncio.wait_for(run(), DEADLINE_S))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("RuntimeError: CUDA out of memory.", True),
        ("MemoryError", True),
        ("No space left on device", True),
        ("no", False),
    ],
)
def test_what_counts_as_no_memory(text: str, found: bool) -> None:
    assert is_out_of_memory(text) is found
