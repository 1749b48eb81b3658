"""The infer call on the app itself: what the worker gets, limits, memory, and what the client is shown."""

import asyncio
import json
from typing import Any

import pytest

from tensorhub.frontend.port import InferReply
from tensorhub.http.app import App
from tensorhub.http.asgi import WRITTEN_HEADERS
from tests.http.asgi_client import ask, call
from tests.http.fake_gateway import ARENA_BUDGET, FakeGateway, snapshot

ECHO = "/v2/models/echo/infer"
LENGTH = "inference-header-content-length"


def app_on(gateway: FakeGateway) -> App:
    async def join() -> FakeGateway:
        return gateway

    return App(join)


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway(snapshot())


def request(*inputs: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": list(inputs), **more}).encode()


def binary(name: str, datatype: str, shape: list[int], size: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}


@pytest.mark.parametrize("chunked", [False, True])
def test_large_tensors_lie_aligned_in_the_arena(gateway: FakeGateway, chunked: bool) -> None:
    sizes = {"A": 100_000, "B": 8_001, "C": 16, "D": 0, "E": 70_000}
    types = {"A": "FP32", "B": "UINT8", "C": "FP64", "D": "FP32", "E": "BYTES"}
    inputs = [binary(name, types[name], [sizes[name]], sizes[name]) for name in sizes]
    head = request(*inputs, parameters={"binary_data_output": True})
    body = head + b"".join(name.encode() * size for name, size in sizes.items())
    pieces: Any = [body[start : start + 30_000] for start in range(0, len(body), 30_000)] if chunked else body
    answer = ask(app_on(gateway), "POST", ECHO, pieces, headers=[(LENGTH, str(len(head)))])
    assert answer.status == 200
    assert answer.body.endswith(body[len(head) :])
    placed = {index: (offset, size) for index, offset, size in gateway.last["placed"]}
    # C would lie at an odd address behind B, so it travels in the message; D has no bytes.
    assert set(placed) == {0, 1, 4}
    assert placed[0] == (0, 100_000)
    assert gateway.account()["reservations"] == 0


@pytest.mark.parametrize("size", [65_536, 65_540])
def test_large_tensors_in_json_go_through_the_arena(gateway: FakeGateway, size: int) -> None:
    data = [1] * (size // 4)
    answer = ask(
        app_on(gateway),
        "POST",
        ECHO,
        request({"name": "IN", "datatype": "INT32", "shape": [len(data)], "data": data}),
    )
    assert answer.json()["outputs"][0]["data"] == data
    assert gateway.last["placed"] == ([] if size == 65_536 else [(0, 0, size)])
    assert gateway.account()["reservations"] == 0


@pytest.mark.parametrize(
    "broken",
    [
        request(binary("IN", "FP32", [50_000], 200_001)),
        request(binary("IN", "FP32", [50_000], 199_999)),
        request(binary("IN", "FP32", [-1], 200_000)),
        b"{" * 50,
    ],
)
def test_an_error_gives_the_memory_back(gateway: FakeGateway, broken: bytes) -> None:
    answer = ask(app_on(gateway), "POST", ECHO, broken + bytes(200_000), headers=[(LENGTH, str(len(broken)))])
    assert answer.status in (400, 500)
    assert gateway.account()["reservations"] == 0
    assert gateway.account()["requests"] == 0


def test_a_full_arena(gateway: FakeGateway) -> None:
    gateway.held = ARENA_BUDGET
    head = request(binary("IN", "FP32", [50_000], 200_000))
    for body in (head + bytes(200_000), [head, *[bytes(100_000)] * 2]):
        answer = ask(app_on(gateway), "POST", ECHO, body, headers=[(LENGTH, str(len(head)))])
        assert (answer.status, answer.json()) == (503, {"error": "the arena is full"})
    assert gateway.account()["reservations"] == 0


def too_long(what: str) -> str:
    return f"{what} 1000 bytes. Use --http-max-input-size to increase the limit."


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("body", "headers", "text"),
    [
        (
            b" " * 1001,
            [],
            "request JSON size of 1001 bytes exceeds the maximum allowed input size of 1000 bytes. Use "
            "--http-max-input-size to increase the limit.",
        ),
        (
            b" " * 1002,
            [(LENGTH, "1001")],
            "request JSON size of 1001 bytes exceeds the maximum allowed input size of 1000 bytes. Use "
            "--http-max-input-size to increase the limit.",
        ),
        (
            b" " * 1001,
            [(LENGTH, "0")],
            "Raw input has a byte_size (1001 bytes) that exceeds the maximum allowed value of 1000 bytes. Use "
            "--http-max-input-size to increase the limit.",
        ),
        (
            request({"name": "IN", "datatype": "FP64", "shape": [200], "data": [0] * 200}),
            [],
            "JSON input 'IN' has a byte_size (1600 bytes) that exceeds the maximum allowed value of 1000 bytes. Use "
            "--http-max-input-size to increase the limit.",
        ),
    ],
)
def test_limits(body: bytes, headers: list[tuple[str, str]], text: str, chunked: bool) -> None:
    gateway = FakeGateway(snapshot(http_max_input_size="1000"))
    pieces = [body[start : start + 100] for start in range(0, len(body), 100)] if chunked else body
    answer = ask(app_on(gateway), "POST", ECHO, pieces, headers=headers)
    assert (answer.status, answer.json()) == (400, {"error": text})


def test_the_binary_part_has_no_limit() -> None:
    gateway = FakeGateway(snapshot(http_max_input_size="1000"))
    head = request(binary("IN", "FP32", [50_000], 200_000), parameters={"binary_data_output": True})
    answer = ask(app_on(gateway), "POST", ECHO, head + bytes(200_000), headers=[(LENGTH, str(len(head)))])
    assert answer.status == 200


def test_too_many_tiny_chunks(gateway: FakeGateway) -> None:
    answer = ask(app_on(gateway), "POST", ECHO, [b" "] * 65_540)
    assert answer.status == 400
    assert answer.json()["error"].startswith("Chunked request body exceeds maximum of 65536 non-empty chunks.")


@pytest.mark.parametrize(
    ("pattern", "headers", "forwarded"),
    [
        ("", {"x-my": "1"}, {}),
        ("my", {"x-my": "1", "x-your": "2"}, {"x-my": ["string_param", "1"]}),
        ("^X-", {"x-my": "1"}, {"x-my": ["string_param", "1"]}),
        ("(?-i)^X-", {"x-my": "1"}, {}),
    ],
)
def test_forwarded_headers(pattern: str, headers: dict[str, str], forwarded: dict[str, Any]) -> None:
    gateway = FakeGateway(snapshot(http_header_forward_pattern=pattern))
    answer = ask(app_on(gateway), "POST", ECHO, request(), headers=headers.items())
    assert answer.status == 200
    assert gateway.last["parameters"] == forwarded


@pytest.mark.parametrize("header", ["timeout", "sequence_id", "triton_x"])
def test_headers_that_cannot_be_forwarded(header: str) -> None:
    gateway = FakeGateway(snapshot(http_header_forward_pattern="t|s"))
    answer = ask(app_on(gateway), "POST", ECHO, request(), headers=[(header, "1")])
    text = f"Header '{header}' is reserved for Triton usage and cannot be forwarded."
    assert (answer.status, answer.json()) == (400, {"error": text})


def test_outputs_in_shared_memory_are_shown_without_data(gateway: FakeGateway) -> None:
    region = {"shared_memory_region": "r", "shared_memory_byte_size": 4}
    body = request(
        {"name": "IN", "datatype": "FP32", "shape": [1], "parameters": region},
        outputs=[{"name": "IN", "parameters": {**region, "shared_memory_offset": 2**63}}],
    )
    answer = ask(app_on(gateway), "POST", ECHO, body)
    assert answer.json()["outputs"] == [{"name": "IN", "datatype": "FP32", "shape": [1]}]
    assert gateway.last["inputs"][0]["parameters"] == {
        "shared_memory_byte_size": ["int64_param", 4],
        "shared_memory_region": ["string_param", "r"],
    }
    assert gateway.last["outputs"][0]["parameters"]["shared_memory_offset"] == ["uint64_param", 2**63]


class SteadyGateway(FakeGateway):
    """Answers only when it is told to."""

    def infer(self, *args: Any, **kwargs: Any) -> int:
        self.waiting = args[2]
        self.count["requests"] += 1
        return self.count["requests"]


def test_a_task_that_is_cancelled_cancels_its_request() -> None:
    gateway = SteadyGateway(snapshot())
    released = []

    async def run() -> None:
        task = asyncio.create_task(call(app_on(gateway), "POST", ECHO, request()))
        while not gateway.count["requests"]:
            await asyncio.sleep(0)
        gateway.cancel = released.append  # type: ignore[method-assign]
        # The answer is there, but the task is cancelled before it can take it.
        gateway.waiting(InferReply(b"", outputs=[], release=lambda: released.append(-1)))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert released == [1, -1]


def test_an_owner_that_is_refused_costs_no_memory() -> None:
    gateway = FakeGateway(snapshot(shm_scope="header:owner"))
    head = request(binary("A", "FP32", [25_000], 100_000))
    headers = [(LENGTH, str(len(head))), ("owner", "x" * 257)]
    answer = ask(app_on(gateway), "POST", ECHO, head + bytes(100_000), headers)
    assert answer.status == 400
    assert "header 'owner' has 257 characters" in answer.json()["error"]
    assert gateway.account()["reservations"] == 0


@pytest.mark.parametrize("pattern", ["", "x-.*"])
def test_the_client_s_trace_is_found_however_its_header_is_written(pattern: str) -> None:
    gateway = FakeGateway(snapshot(http_header_forward_pattern=pattern))
    gateway.tracing = True
    app = app_on(gateway)
    context = b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01"

    async def as_written(scope: Any, receive: Any, send: Any) -> None:
        scope["headers"].append((b"traceparent", context))
        scope[WRITTEN_HEADERS] = [(b"Traceparent", context)]
        await app(scope, receive, send)

    assert ask(as_written, "POST", ECHO, request()).status == 200
    assert gateway.traceparent == context.decode()
