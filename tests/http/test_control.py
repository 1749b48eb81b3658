"""Everything but inference: routes, methods, and what goes to the hub. The app is called without a server here."""

import asyncio
import base64
import json
from typing import Any

import pytest

from tensorhub.errors import Code, Unavailable
from tensorhub.frontend.catalog import NO_HUB
from tensorhub.http.app import App
from tensorhub.protocol import messages
from tests.http.asgi_client import Answer, ask, call
from tests.http.fake_gateway import FakeGateway, refused, snapshot
from tests.http.server import Server

REMOTE = ("192.0.2.7", 50000)
HANDLE = base64.b64encode(bytes(64)).decode()


def app_on(gateway: FakeGateway) -> App:
    async def join() -> FakeGateway:
        return gateway

    return App(join)


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway(snapshot())


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/v2/", 404, "Not Found"),
        ("GET", "/", 404, "Not Found"),
        ("GET", "//v2", 404, "Not Found"),
        ("GET", "/v2/models", 404, "Not Found"),
        ("GET", "/v2/models/echo/", 404, "Not Found"),
        ("GET", "/v2/models/echo/versions/x", 404, "Not Found"),
        ("GET", "/v2/models/echo/versions/1/trace/setting", 404, "Not Found"),
        ("GET", "/v2/health/other", 404, "Not Found"),
        ("POST", "/v2/systemsharedmemory/region//register", 404, "Not Found"),
        ("POST", "/v2", 405, "Method Not Allowed"),
        ("POST", "/v2/health/live", 405, "Method Not Allowed"),
        ("DELETE", "/v2/models/echo", 405, "Method Not Allowed"),
        ("OPTIONS", "/v2/models/echo", 405, "Method Not Allowed"),
        ("BREW", "/v2/models/echo", 405, "Method Not Allowed"),
        ("GET", "/v2/repository/index", 405, "Method Not Allowed"),
        ("POST", "/v2/systemsharedmemory/status", 405, "Method Not Allowed"),
        ("GET", "/v2/cudasharedmemory/unregister", 405, "Method Not Allowed"),
        ("GET", "/v2/models/nope", 404, "Request for unknown model: 'nope' is not found"),
        ("GET", "/v2/models/nope/config", 404, "Request for unknown model: 'nope' is not found"),
        ("GET", "/v2/models/echo/versions/2", 404, "Request for unknown model: 'echo' version 2 is not found"),
        ("GET", "/v2/models/nope/ready", 400, "Model version not ready"),
        ("GET", "/v2/models/loading/versions/2/ready", 400, "Model version not ready"),
        (
            "GET",
            "/v2/models/echo/versions/99999999999999999999",
            400,
            "failed to get model version from specified version string '99999999999999999999' (details: stol), version "
            "should be an integral value > 0",
        ),
        ("GET", "/v2/models/echo/generate", 405, "Method Not Allowed"),
        ("POST", "/v2/models/nope/generate", 404, "Request for unknown model: 'nope' is not found"),
        (
            "POST",
            "/v2/models/echo/versions/2/generate_stream",
            404,
            "Request for unknown model: 'echo' version 2 is not found",
        ),
        ("PUT", "/v2/logging", 405, "Method Not Allowed"),
    ],
)
def test_refusals(gateway: FakeGateway, method: str, path: str, status: int, text: str) -> None:
    answer = ask(app_on(gateway), method, path)
    assert (answer.status, answer.json()) == (status, {"error": text})
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "path",
    [
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/echo/ready",
        "/v2/models/echo/versions/1/ready",
        "/v2/models/echo/versions/001/ready",
        "/v2/models/echo/ready?x=1",
    ],
)
def test_health(gateway: FakeGateway, path: str) -> None:
    answer = ask(app_on(gateway), "GET", path)
    assert (answer.status, answer.body) == (200, b"")


def test_not_ready_is_an_empty_400() -> None:
    state = snapshot()
    state.started = False
    answer = ask(app_on(FakeGateway(state)), "GET", "/v2/health/ready")
    assert (answer.status, answer.body) == (400, b"")


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2/models/echo"])
def test_a_server_on_its_way_out(path: str) -> None:
    state = snapshot()
    state.stopping = True
    answer = ask(app_on(FakeGateway(state)), "GET", path)
    assert (answer.status, answer.json()) == (503, {"error": "Server exiting"})


def test_metadata(gateway: FakeGateway) -> None:
    app = app_on(gateway)
    server = ask(app, "GET", "/v2").json()
    assert server["name"] == "triton"
    assert server["extensions"][0] == "classification"
    model = ask(app, "GET", "/v2/models/echo").json()
    assert (model["name"], model["versions"], model["platform"]) == ("echo", ["1", "3"], "python")
    assert model["inputs"] == [{"name": "IN", "datatype": "FP32", "shape": [-1]}]
    assert ask(app, "GET", "/v2/models/echo/versions/1").json()["versions"] == ["1"]
    assert ask(app, "GET", "/v2/models/add_sub").json()["inputs"][0]["shape"] == [-1, 16]
    assert ask(app, "GET", "/v2/models/add_sub/config").json()["max_batch_size"] == 8


def test_the_server_has_the_name_that_it_was_given() -> None:
    assert ask(app_on(FakeGateway(snapshot(id="mine"))), "GET", "/v2").json()["name"] == "mine"


def index_of(*entries: tuple[str, int, str, str]) -> Any:
    result = messages.ControlResult()
    for model, version, state, reason in entries:
        result.index.add(model=model, version=version, state=state, reason=reason)
    return result


@pytest.mark.parametrize("body", [b"", b"{}", b'{"ready":false}', b"[]"])
def test_the_repository_index(gateway: FakeGateway, body: bytes) -> None:
    gateway.control_result = lambda _: index_of(
        ("a", 1, "READY", ""), ("a", 2, "UNAVAILABLE", "unloaded"), ("b", 0, "", "")
    )
    answer = ask(app_on(gateway), "POST", "/v2/repository/index", body)
    assert answer.json() == [
        {"name": "a", "version": "1", "state": "READY"},
        {"name": "a", "version": "2", "state": "UNAVAILABLE", "reason": "unloaded"},
        {"name": "b"},
    ]
    assert gateway.controls[0].WhichOneof("operation") == "repository_index"
    ready = ask(app_on(gateway), "POST", "/v2/repository/any/index", b'{"ready":true}')
    assert ready.json() == [{"name": "a", "version": "1", "state": "READY"}]


def test_load(gateway: FakeGateway) -> None:
    body = {"parameters": {"config": '{"backend":"python"}', "file:1/model.py": base64.b64encode(b"x=1").decode()}}
    answer = ask(app_on(gateway), "POST", "/v2/repository/models/m/load", json.dumps(body).encode())
    assert (answer.status, answer.body) == (200, b"")
    load = gateway.controls[0].load_model
    assert (load.name, load.has_config, load.config) == ("m", True, '{"backend":"python"}')
    assert dict(load.files) == {"1/model.py": b"x=1"}
    assert ask(app_on(gateway), "POST", "/v2/repository/models/m/load").status == 200
    assert not gateway.controls[1].load_model.has_config


@pytest.mark.parametrize(
    ("body", "dependents"),
    [
        (b"", False),
        (b'{"parameters":{"unload_dependents":true}}', True),
        (b'{"parameters":{"unload_dependents":1}}', False),
        (b"{", False),
    ],
)
def test_unload(gateway: FakeGateway, body: bytes, dependents: bool) -> None:
    assert ask(app_on(gateway), "POST", "/v2/repository/models/m/unload", body).status == 200
    unload = gateway.controls[0].unload_model
    assert (unload.name, unload.unload_dependents) == ("m", dependents)


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("index", b'{"ready":1}', 500, "attempt to access JSON non-boolean as boolean"),
        ("index", b"{", 500, "failed to parse the request JSON buffer: Missing a name for object member. at 1"),
        ("models/m/load", b'{"parameters":{"config":1}}', 500, "attempt to access JSON non-string as string"),
        ("models/m/load", b'{"parameters":{"foo":"1"}}', 500, "unexpected error on creating Triton parameter"),
        ("models/m/load", b'{"parameters":5}', 500, "attempt to get members for non-object"),
        ("r/models/m/load", b"", 501, "'repository_name' specification is not supported"),
        ("r/models/m/unload", b"", 501, "'repository_name' specification is not supported"),
    ],
)
def test_repository_errors(gateway: FakeGateway, path: str, body: bytes, status: int, text: str) -> None:
    answer = ask(app_on(gateway), "POST", f"/v2/repository/{path}", body)
    assert (answer.status, answer.json()) == (status, {"error": text})
    assert gateway.controls == []


def test_what_the_hub_refuses(gateway: FakeGateway) -> None:
    gateway.control_result = lambda _: refused(Code.UNAVAILABLE, "explicit model load / unload is not allowed")
    answer = ask(app_on(gateway), "POST", "/v2/repository/models/m/load")
    assert (answer.status, answer.json()) == (503, {"error": "explicit model load / unload is not allowed"})


def test_a_hub_that_is_not_there(gateway: FakeGateway) -> None:
    def gone(_: Any) -> Any:
        raise Unavailable(NO_HUB)

    gateway.control_result = gone
    answer = ask(app_on(gateway), "POST", "/v2/repository/index")
    assert (answer.status, answer.json()) == (503, {"error": NO_HUB})


@pytest.fixture
def with_regions() -> FakeGateway:
    state = snapshot()
    state.system_regions.add(name="s2", key="/k2", offset=8, byte_size=64)
    state.system_regions.add(name="s1", key="/k1", byte_size=2**40)
    state.cuda_regions.add(name="c", raw_handle=bytes(64), device_id=1, byte_size=32)
    return FakeGateway(state)


def test_region_status(with_regions: FakeGateway) -> None:
    app = app_on(with_regions)
    first = {"name": "s1", "key": "/k1", "offset": 0, "byte_size": 2**40}
    second = {"name": "s2", "key": "/k2", "offset": 8, "byte_size": 64}
    assert ask(app, "GET", "/v2/systemsharedmemory/status").json() == [first, second]
    assert ask(app, "GET", "/v2/systemsharedmemory/region/s2/status").json() == [second]
    cuda = [{"name": "c", "device_id": 1, "byte_size": 32}]
    assert ask(app, "GET", "/v2/cudasharedmemory/status").json() == cuda


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("systemsharedmemory/region/x", "Unable to find system shared memory region: 'x'"),
        ("cudasharedmemory/region/x", "Unable to find cuda shared memory region: 'x'"),
        (
            "systemsharedmemory/region/c",
            "The region named 'c' is registered as CUDA shared memory, not system shared memory",
        ),
        (
            "cudasharedmemory/region/s1",
            "The region named 's1' is registered as system shared memory, not CUDA shared memory",
        ),
    ],
)
def test_status_of_a_region_that_is_not_there(with_regions: FakeGateway, path: str, text: str) -> None:
    answer = ask(app_on(with_regions), "GET", f"/v2/{path}/status")
    assert (answer.status, answer.json()) == (404, {"error": text})


def test_registering_regions(gateway: FakeGateway) -> None:
    app = app_on(gateway)
    body = b'{"key":"/k","offset":4096,"byte_size":18446744073709551615}'
    assert ask(app, "POST", "/v2/systemsharedmemory/region/r/register", body).body == b""
    system = gateway.controls[0].register_system
    assert (system.name, system.key, system.offset, system.byte_size) == ("r", "/k", 4096, 2**64 - 1)
    body = json.dumps({"raw_handle": {"b64": HANDLE}, "device_id": 1, "byte_size": 64}).encode()
    assert ask(app, "POST", "/v2/cudasharedmemory/region/c/register", body).status == 200
    cuda = gateway.controls[1].register_cuda
    assert (cuda.name, cuda.raw_handle, cuda.device_id, cuda.byte_size) == ("c", bytes(64), 1, 64)
    for path, name in (("/region/r", "r"), ("", "")):
        assert ask(app, "POST", f"/v2/systemsharedmemory{path}/unregister").status == 200
        assert gateway.controls[-1].WhichOneof("operation") == "unregister_system"
        assert gateway.controls[-1].unregister_system.name == name
        assert ask(app, "POST", f"/v2/cudasharedmemory{path}/unregister").status == 200
        assert gateway.controls[-1].unregister_cuda.name == name


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("system", b"", 500, "failed to parse the request JSON buffer: The document is empty. at 0"),
        ("system", b"{}", 400, "Shared memory register request has no 'key' field"),
        ("system", b"[]", 400, "Shared memory register request has no 'key' field"),
        ("system", b'{"key":1}', 500, "attempt to access JSON non-string as string"),
        (
            "system",
            b'{"key":"k","offset":-1}',
            500,
            "attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
        ("system", b'{"key":"k"}', 400, "Shared memory register request has no 'byte_size' field"),
        (
            "system",
            b'{"key":"k","byte_size":1.5}',
            500,
            "attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
        ("cuda", b"{}", 400, "Shared memory register request has no 'raw_handle' field"),
        ("cuda", b'{"raw_handle":"x"}', 500, "attempt to access non-existing object member 'b64'"),
        ("cuda", b'{"raw_handle":{"b64":"x"}}', 500, "attempt to access non-existing object member 'byte_size'"),
        (
            "cuda",
            b'{"raw_handle":{"b64":"eA=="},"byte_size":1,"device_id":0}',
            400,
            "'raw_handle' must be a valid base64 encoded cudaIpcMemHandle_t",
        ),
    ],
)
def test_registration_errors(gateway: FakeGateway, path: str, body: bytes, status: int, text: str) -> None:
    answer = ask(app_on(gateway), "POST", f"/v2/{path}sharedmemory/region/r/register", body)
    assert (answer.status, answer.json()) == (status, {"error": text})
    assert gateway.controls == []


@pytest.mark.parametrize("kind", ["system", "cuda"])
def test_registering_needs_a_name(gateway: FakeGateway, kind: str) -> None:
    answer = ask(app_on(gateway), "POST", f"/v2/{kind}sharedmemory/register", b"{}")
    text = f"'region name' is necessary to register {kind} shared memory region"
    assert (answer.status, answer.json()) == (400, {"error": text})


@pytest.mark.parametrize("kind", ["system", "cuda"])
@pytest.mark.parametrize("action", ["region/r/register", "region/r/unregister", "unregister", "register"])
@pytest.mark.parametrize(("setting", "client"), [("auto", REMOTE), ("false", ("127.0.0.1", 1)), ("false", None)])
def test_memory_is_not_for_everybody(kind: str, action: str, setting: str, client: tuple[str, int] | None) -> None:
    gateway = FakeGateway(snapshot(allow_client_shm=setting))
    answer = ask(app_on(gateway), "POST", f"/v2/{kind}sharedmemory/{action}", b"{", client=client)
    text = "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable."
    assert (answer.status, answer.json()) == (501, {"error": text})
    assert ask(app_on(gateway), "GET", f"/v2/{kind}sharedmemory/status", client=client).json() == []


CATEGORIES = [
    ("health", "GET", "/v2/health/live"),
    ("health", "GET", "/v2/models/echo/ready"),
    ("metadata", "GET", "/v2"),
    ("metadata", "GET", "/v2/models/echo"),
    ("inference", "POST", "/v2/models/echo/infer"),
    ("inference", "POST", "/v2/models/echo/versions/1/infer"),
    ("inference", "POST", "/v2/models/echo/generate"),
    ("inference", "POST", "/v2/models/echo/versions/1/generate_stream"),
    ("shared-memory", "GET", "/v2/systemsharedmemory/status"),
    ("shared-memory", "POST", "/v2/cudasharedmemory/region/r/register"),
    ("model-config", "GET", "/v2/models/echo/config"),
    ("model-repository", "POST", "/v2/repository/index"),
    ("model-repository", "POST", "/v2/repository/models/m/load"),
    ("statistics", "GET", "/v2/models/stats"),
    ("statistics", "GET", "/v2/models/echo/stats"),
    ("trace", "GET", "/v2/trace/setting"),
    ("trace", "POST", "/v2/models/echo/trace/setting"),
    ("logging", "GET", "/v2/logging"),
]


@pytest.mark.parametrize(("category", "method", "path"), CATEGORIES)
def test_restricted_apis(category: str, method: str, path: str) -> None:
    gateway = FakeGateway(snapshot(http_restricted_api=f"{category}:Key=secret"))
    app = app_on(gateway)
    refusal = {"error": "This API is restricted, expecting header 'Key'"}
    for headers in ([], [("key", "wrong")], [("other", "secret")]):
        for any_method in (method, "PATCH"):
            answer = ask(app, any_method, path, headers=headers)
            assert (answer.status, answer.json()) == (403, refusal)
    assert gateway.controls == []
    assert ask(app, method, path, headers=[("KEY", "secret")]).status != 403


def test_options_that_cannot_be_understood_serve_nothing() -> None:
    answer = ask(app_on(FakeGateway(snapshot(http_restricted_api="nonsense"))), "GET", "/v2/health/live")
    assert answer.status == 500
    assert "--http-restricted-api" in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v2/health/live"), ("GET", "/v2/health/ready"), ("GET", "/v2"), ("POST", "/v2/models/echo/infer")],
)
def test_without_a_hub_and_then_with_one(method: str, path: str) -> None:
    gateways = [FakeGateway(), FakeGateway(snapshot())]
    failures = [OSError("no such directory")]

    async def join() -> FakeGateway:
        if failures:
            raise failures.pop()
        return gateways[0]

    app = App(join)

    async def twice() -> list[Answer]:
        answers = [await call(app, method, path) for _ in range(2)]
        gateways[0].catalog = gateways[1].catalog
        return [*answers, await call(app, method, path)]

    unjoined, unconnected, served = asyncio.run(twice())
    for answer in (unjoined, unconnected):
        assert (answer.status, answer.json()) == (503, {"error": NO_HUB})
    assert served.status == 200


def test_head_has_no_body(server: Server) -> None:
    answer = server.ask("HEAD", "/v2/health/live")
    assert (answer.status, answer.body) == (405, b"")


def test_lifespan_joins_and_leaves(gateway: FakeGateway) -> None:
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> Any:
        return events.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    asyncio.run(app_on(gateway)({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert gateway.closed
