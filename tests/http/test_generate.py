"""The generate extension through the app, with a fake gateway behind."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from tensorhub.http.app import App
from tensorhub.ipc.wire import STREAM_WINDOW

from .asgi_client import Answer, ask
from .fake_gateway import FakeGateway, snapshot


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway(snapshot())


def app_on(gateway: FakeGateway) -> App:
    async def factory() -> FakeGateway:
        return gateway

    return App(factory)


def post(gateway: FakeGateway, model: str, verb: str = "generate", headers: Any = (), **fields: Any) -> Answer:
    return ask(app_on(gateway), "POST", f"/v2/models/{model}/{verb}", json.dumps(fields).encode(), headers=headers)


def events(answer: Answer) -> list[Any]:
    pieces = answer.body.decode().split("\n\n")
    assert pieces.pop() == ""
    return [json.loads(piece.removeprefix("data: ")) for piece in pieces]


def rest(gateway: FakeGateway) -> dict[str, int]:
    account = gateway.account()
    del account["requests"]
    return {name: value for name, value in account.items() if value}


def test_one_response(gateway: FakeGateway) -> None:
    answer = post(gateway, "echo", IN=[1, 2], id="x", word="w")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert list(answer.json().items()) == [
        ("IN", [1.0, 2.0]),
        ("id", "x"),
        ("model_name", "echo"),
        ("model_version", "3"),
        ("word", "w"),
    ]
    assert rest(gateway) == {}


def test_events(gateway: FakeGateway) -> None:
    answer = post(gateway, "decoupled", "generate_stream", count=3)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert [event["OUTPUT0"] for event in events(answer)] == [0, 1, 2]
    assert rest(gateway) == {}


def test_more_events_than_the_window_holds(gateway: FakeGateway) -> None:
    count = 3 * STREAM_WINDOW
    answer = post(gateway, "decoupled", "generate_stream", count=count, last=1)
    assert [event["OUTPUT0"] for event in events(answer)] == list(range(count))
    answer = post(gateway, "decoupled", count=count)
    assert answer.json()["error"].startswith("generate expects model to produce exactly 1 response")


def test_no_event(gateway: FakeGateway) -> None:
    answer = post(gateway, "decoupled", "generate_stream", count=0)
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(("fail_at", "status"), [(0, 400), (1, 200)])
def test_an_error_is_an_event_and_the_first_answer_gives_the_status(
    gateway: FakeGateway, fail_at: int, status: int
) -> None:
    answer = post(gateway, "decoupled", "generate_stream", count=3, fail_at=fail_at)
    assert answer.status == status
    assert [event.get("error") for event in events(answer)] == [
        f"error {fail_at}" if i == fail_at else None for i in range(3)
    ]


def test_an_error_in_place_of_the_response(gateway: FakeGateway) -> None:
    answer = post(gateway, "decoupled", count=1, fail_at=0)
    assert (answer.status, answer.json()) == (400, {"error": "error 0"})


def test_a_large_input_goes_through_the_arena(gateway: FakeGateway) -> None:
    values = [0.5] * 50_000
    assert post(gateway, "echo", IN=values).json()["IN"] == values
    assert gateway.last["placed"] == [(0, 0, 200_000)]
    assert rest(gateway) == {}


def test_no_name_has_a_meaning(gateway: FakeGateway) -> None:
    fields = {"sequence_id": 5, "timeout": 6, "triton_x": 7, "binary_data_output": True}
    post(gateway, "echo", IN=1, **fields)
    assert {name: value for name, (_, value) in gateway.last["parameters"].items()} == fields


def test_headers_are_not_forwarded() -> None:
    gateway = FakeGateway(snapshot(http_header_forward_pattern="^x-"))
    post(gateway, "echo", IN=1, headers=[("X-One", "1"), ("Other", "2")])
    assert gateway.last["parameters"] == {}


@pytest.mark.parametrize("verb", ["generate", "generate_stream"])
def test_a_body_that_is_too_long(verb: str) -> None:
    gateway = FakeGateway(snapshot(http_max_input_size="100"))
    answer = post(gateway, "echo", verb, IN=[1] * 100)
    assert answer.status == 400
    assert "--http-max-input-size" in answer.json()["error"]
    assert gateway.account()["requests"] == 0


class Client:
    """One request whose events the test takes by itself; it may leave."""

    def __init__(self, gateway: FakeGateway, path: str, fields: Any, room: int) -> None:
        self._app = app_on(gateway)
        self._path = path
        self._body = json.dumps(fields).encode()
        self._room = asyncio.Semaphore(room)
        self.sent: list[Any] = []
        self.gone = asyncio.Event()

    async def run(self) -> None:
        asked = False

        async def receive() -> Any:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": self._body}
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            await self._room.acquire()
            self.sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": self._path,
            "raw_path": self._path.encode(),
            "headers": [],
            "client": ("127.0.0.1", 1),
        }
        await self._app(scope, receive, send)


async def _until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)


PATHS: Sequence[tuple[str, dict[str, Any]]] = (
    ("/v2/models/slow/generate", {}),
    ("/v2/models/slow/generate_stream", {}),
    ("/v2/models/decoupled/generate_stream", {"count": 10**9}),
)


@pytest.mark.parametrize(("path", "fields"), PATHS)
def test_a_client_that_goes_cancels_its_request(gateway: FakeGateway, path: str, fields: dict[str, Any]) -> None:
    async def run() -> None:
        client = Client(gateway, path, fields, room=1_000)
        task = asyncio.create_task(client.run())
        await _until(lambda: gateway.account()["in_flight"] == 1)
        client.gone.set()
        await asyncio.wait_for(task, 60)

    asyncio.run(run())
    assert rest(gateway) == {"cancelled": 1}


def test_a_client_that_does_not_read_holds_its_model_up(gateway: FakeGateway) -> None:
    async def run() -> None:
        client = Client(gateway, "/v2/models/decoupled/generate_stream", {"count": 10**9}, room=1)
        task = asyncio.create_task(client.run())
        await _until(lambda: len(gateway.window_waits) == 1)
        before = gateway.count["partial"]
        assert before <= STREAM_WINDOW
        client._room.release()
        await _until(lambda: gateway.count["partial"] > before)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(run())
    assert rest(gateway) == {"cancelled": 1}
