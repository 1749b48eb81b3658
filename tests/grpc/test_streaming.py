"""ModelStreamInfer, through both engines, with a fake gateway behind."""

import logging
import queue
import random
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tensorhub.errors import Code
from tensorhub.grpc import engine, streaming
from tensorhub.grpc.routes import INFERENCE, methods
from tensorhub.protocol import messages
from tests.waiting import wait_until

from .conftest import Serve
from .fake_gateway import FakeGateway
from .test_inference import SMALL, numbers, request

METHOD = f"/{INFERENCE}/ModelStreamInfer"
Response = messages.message_class("inference.ModelStreamInferResponse")


class Call:
    """One stream; the test sends and reads as it likes."""

    def __init__(self, channel: grpc.Channel, **options: Any) -> None:
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.call = channel.stream_stream(METHOD)(iter(self._requests.get, None), **options)

    def send(self, *made: Any) -> None:
        for item in made:
            self._requests.put(item if isinstance(item, bytes) else item.SerializeToString())

    def half_close(self) -> None:
        self._requests.put(None)

    def next(self) -> Any:
        return Response.FromString(next(self.call))

    def rest(self) -> list[Any]:
        """Half-close and read to the end."""
        self.half_close()
        return [Response.FromString(item) for item in self.call]


@pytest.fixture
def channel(serve: Serve, gateway: FakeGateway) -> Iterator[grpc.Channel]:
    server, channel = serve(methods(gateway))
    yield channel
    wait_until(lambda: server.calls == 0)
    wait_until(lambda: gateway.in_flight == 0)
    assert (gateway.reserved, gateway.unreleased) == (0, 0)


@pytest.fixture
def stream(channel: grpc.Channel) -> Iterator[Call]:
    made = Call(channel)
    yield made
    made.half_close()
    made.call.cancel()


def named(name: str, model: str = "add_sub", *data: bytes, **parameters: int) -> Any:
    made = request(model, *(data or SMALL), **parameters)
    made.id = name
    return made


def final(response: Any) -> bool | None:
    parameters = response.infer_response.parameters
    return parameters["triton_final_response"].bool_param if "triton_final_response" in parameters else None


def ids(responses: list[Any]) -> list[str]:
    return [item.infer_response.id for item in responses]


def test_one_after_the_other(stream: Call) -> None:
    for index in range(5):
        stream.send(named(str(index), apart=index % 2))
        response = stream.next()
        assert (response.infer_response.id, response.error_message, final(response)) == (str(index), "", True)
        assert response.infer_response.raw_output_contents[0] == numbers(*range(1, 17))
        assert [item.name for item in response.infer_response.outputs] == ["OUTPUT0", "OUTPUT1"]
    assert stream.rest() == []
    assert stream.call.code() is grpc.StatusCode.OK


def test_a_stream_without_requests(stream: Call) -> None:
    assert stream.rest() == []
    assert stream.call.code() is grpc.StatusCode.OK


def test_answers_come_in_the_order_of_the_requests(stream: Call) -> None:
    stream.send(named("slow", delay_ms=150), *(named(str(index)) for index in range(50)))
    assert ids(stream.rest()) == ["slow", *map(str, range(50))]


def test_a_large_request_and_a_large_answer(stream: Call, gateway: FakeGateway) -> None:
    large = numbers(*range(100_000))
    stream.send(named("0", "identity", large, large, apart=1), named("1", "identity", large))
    first, second = stream.rest()
    assert list(first.infer_response.raw_output_contents) == [large, large]
    assert list(second.infer_response.raw_output_contents) == [large]
    assert gateway.placed == 3


def test_requests_that_fail_do_not_end_the_stream(stream: Call, gateway: FakeGateway) -> None:
    wrong = named("version")
    wrong.model_version = "x"
    stream.send(
        named("0", delay_ms=50),
        named("unknown", "nobody"),
        wrong,
        named("full", refuse=1),
        named("refused", fail=int(Code.INVALID_ARG), refused=1),
        named("failed", fail=int(Code.INTERNAL)),
        named("1"),
    )
    responses = stream.rest()
    assert ids(responses) == ["0", "unknown", "version", "full", "refused", "failed", "1"]
    assert [bool(item.error_message) for item in responses] == [False, True, True, True, True, True, False]
    assert responses[1].error_message == "Request for unknown model: 'nobody' is not found"
    for refused in responses[1:5]:
        assert refused.infer_response == messages.ModelInferResponse(id=refused.infer_response.id)
    failed = responses[5]
    assert (failed.infer_response.model_name, failed.infer_response.model_version) == ("add_sub", "")
    assert final(failed) is True
    assert stream.call.code() is grpc.StatusCode.OK


def test_a_full_arena_is_an_error_of_the_request(stream: Call, gateway: FakeGateway) -> None:
    gateway.arena_full = True
    stream.send(named("0", "identity", bytes(100_000)), named("1"))
    first, second = stream.rest()
    assert (first.error_message, second.error_message) == ("the arena is full", "")


def test_bytes_that_are_no_request_end_the_stream(stream: Call, gateway: FakeGateway) -> None:
    stream.send(named("0", never=1), b"\xff\xff")
    with pytest.raises(grpc.RpcError):
        stream.next()
    assert (stream.call.code(), stream.call.details()) == (grpc.StatusCode.INTERNAL, "Unable to parse request")
    wait_until(lambda: len(gateway.cancelled) == 1)


def test_responses_of_a_decoupled_model(stream: Call) -> None:
    stream.send(named("a", "stream", count=3))
    responses = stream.rest()
    assert [item.infer_response.raw_output_contents[0] for item in responses] == [numbers(index) for index in range(3)]
    assert [final(item) for item in responses] == [False] * 3


def test_a_decoupled_model_that_ends_with_a_response(stream: Call) -> None:
    stream.send(named("a", "stream", count=3, last=1))
    assert [final(item) for item in stream.rest()] == [False, False, True]


def test_a_decoupled_model_that_answers_nothing(stream: Call) -> None:
    stream.send(named("a", "stream", count=0), named("b"))
    assert ids(stream.rest()) == ["b"]


@pytest.mark.parametrize("wanted", [True, False])
def test_the_empty_final_response(stream: Call, wanted: bool) -> None:
    made = named("a", "stream", count=1)
    made.model_version = "1"
    made.parameters["triton_enable_empty_final_response"].bool_param = wanted
    stream.send(made)
    responses = stream.rest()
    assert len(responses) == 1 + wanted
    if wanted:
        last = responses[1].infer_response
        assert (last.model_name, last.model_version, last.id, len(last.outputs)) == ("stream", "1", "a", 0)
        assert final(responses[1]) is True


def test_errors_of_a_decoupled_model_among_its_responses(stream: Call) -> None:
    stream.send(named("a", "stream", count=3, errors=2, last=1))
    responses = stream.rest()
    assert [item.error_message for item in responses] == ["", "error 1", "error 2"]
    assert [final(item) for item in responses] == [False, False, True]


def test_decoupled_responses_wait_for_nobody(stream: Call) -> None:
    stream.send(named("slow", delay_ms=400), named("a", "stream", count=2))
    assert ids([stream.next(), stream.next()]) == ["a", "a"]
    assert ids(stream.rest()) == ["slow"]


def test_ten_thousand_decoupled_responses_in_order(stream: Call, gateway: FakeGateway) -> None:
    stream.send(named("a", "stream", count=10_000))
    got = [item.infer_response.raw_output_contents[0] for item in stream.rest()]
    assert got == [numbers(index) for index in range(10_000)]


def test_answers_that_are_there_before_the_request_has_its_number(stream: Call) -> None:
    """A whole window of them, so that the model waits for credit that could not be given yet."""
    stream.send(named("a", "stream", count=1_000, late=1))
    assert len(stream.rest()) == 1_000


def test_a_client_that_does_not_read_holds_its_model_up(stream: Call, gateway: FakeGateway) -> None:
    stream.send(named("a", "stream", count=1_000_000))
    stream.next()
    seen = [-1]

    def stands_still() -> bool:
        before, seen[0] = seen[0], gateway.produced
        return before == seen[0] and seen[0] > 1

    wait_until(stands_still)
    assert gateway.produced < 100_000
    for _ in range(2_000):
        stream.next()
    wait_until(lambda: gateway.produced > seen[0])


def test_requests_in_flight_are_limited(
    channel: grpc.Channel, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "MAX_OPEN", 8)
    stream = Call(channel)
    highest = 0
    stream.send(*(named(str(index), delay_ms=1) for index in range(200)))
    stream.half_close()
    got = []
    for item in stream.call:
        highest = max(highest, gateway.in_flight)
        got.append(Response.FromString(item).infer_response.id)
    assert got == [str(index) for index in range(200)]
    assert highest <= 8


def test_answers_that_wait_for_an_earlier_one_are_limited(
    channel: grpc.Channel, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that takes long holds the answers of those after it back, and nobody may pile up any number of them."""
    monkeypatch.setattr(streaming, "MAX_OPEN", 8)
    stream = Call(channel)
    stream.send(named("slow", never=1), *(named(str(index)) for index in range(200)))
    wait_until(lambda: gateway.taken == 8 and gateway.in_flight == 1)
    other = Call(channel)
    other.send(named("other"))
    assert ids(other.rest()) == ["other"]  # the loop has been round since
    assert gateway.taken == 9
    stream.call.cancel()
    stream.half_close()


@pytest.mark.parametrize("parameter", ["bug", "garbled"])
def test_a_fault_of_the_server_ends_what_else_is_open(
    stream: Call, gateway: FakeGateway, parameter: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody would read its answers, and a model that streams for ever would do so."""
    stream.send(named("0", never=1), named("d", "stream", count=1_000_000))
    assert stream.next().infer_response.id == "d"
    with caplog.at_level(logging.CRITICAL):
        stream.send(named("1", **{parameter: 1}))
        with pytest.raises(grpc.RpcError):
            list(stream.call)
    assert stream.call.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in stream.call.details()
    wait_until(lambda: len(gateway.cancelled) == 2)


def test_the_half_close_waits_for_what_is_open(stream: Call) -> None:
    stream.send(named("a", delay_ms=100), named("b", "stream", count=5, delay_ms=200))
    assert ids(stream.rest()) == ["a", "b", "b", "b", "b", "b"]
    assert stream.call.code() is grpc.StatusCode.OK


def test_a_client_that_goes_cancels_everything(stream: Call, gateway: FakeGateway) -> None:
    stream.send(*(named(str(index), never=1) for index in range(20)), named("d", "stream", count=1_000_000))
    wait_until(lambda: gateway.in_flight == 21)
    assert stream.next().infer_response.id == "d"
    stream.call.cancel()
    wait_until(lambda: len(gateway.cancelled) == 21)


def test_the_deadline_is_each_requests(channel: grpc.Channel, gateway: FakeGateway) -> None:
    stream = Call(channel, timeout=2)  # time enough to arrive
    stream.send(named("0"), named("1", never=1))
    assert stream.next().infer_response.id == "0"
    with pytest.raises(grpc.RpcError):
        stream.next()
    assert stream.call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert gateway.last_deadline_ns > 0
    wait_until(lambda: len(gateway.cancelled) == 1)
    stream.half_close()


def test_a_server_that_stops_answers_what_is_open(serve: Serve, gateway: FakeGateway) -> None:
    server, channel = serve(methods(gateway))
    idle, busy = Call(channel), Call(channel)
    idle.send(named("0"))
    assert idle.next().infer_response.id == "0"
    busy.send(named("1", delay_ms=300))
    wait_until(lambda: gateway.in_flight == 1)
    server.stop(60)
    assert busy.next().infer_response.id == "1"
    for stream in (idle, busy):
        with pytest.raises(grpc.RpcError):
            stream.next()
        assert (stream.call.code(), stream.call.details()) == (grpc.StatusCode.UNAVAILABLE, streaming.STOPPING_TEXT)
        stream.half_close()


ERROR_METADATA = (("triton_grpc_error", "true"),)


def test_an_error_as_status(channel: grpc.Channel, gateway: FakeGateway) -> None:
    stream = Call(channel, metadata=ERROR_METADATA)
    stream.send(named("0"), named("unknown", "nobody"), named("1", never=1))
    assert [stream.next().error_message[:7] for _ in range(2)] == ["", "Request"]
    stream.send(named("2", fail=int(Code.NOT_FOUND)))
    with pytest.raises(grpc.RpcError):
        stream.next()
    assert (stream.call.code(), stream.call.details()) == (grpc.StatusCode.NOT_FOUND, "no")
    wait_until(lambda: len(gateway.cancelled) == 1)
    stream.half_close()


def test_an_error_of_a_decoupled_model_as_status(channel: grpc.Channel, gateway: FakeGateway) -> None:
    stream = Call(channel, metadata=ERROR_METADATA)
    stream.send(named("0", "stream", count=5, errors=1))
    assert [final(stream.next()) for _ in range(4)] == [False] * 4
    with pytest.raises(grpc.RpcError):
        stream.next()
    assert (stream.call.code(), stream.call.details()) == (grpc.StatusCode.INTERNAL, "error 4")
    wait_until(lambda: gateway.in_flight == 0)
    stream.half_close()


@pytest.mark.parametrize("metadata", [(("triton_grpc_error", "1"),), (("triton_grpc_error", "True"),)])
def test_other_words_do_not_ask_for_a_status(channel: grpc.Channel, metadata: Any) -> None:
    stream = Call(channel, metadata=metadata)
    stream.send(named("0", fail=int(Code.NOT_FOUND)), named("1"))
    assert [item.error_message for item in stream.rest()] == ["no", ""]


def test_many_streams_with_cancellations_leave_nothing(channel: grpc.Channel, gateway: FakeGateway) -> None:
    chance = random.Random(5)
    failures: list[str] = []

    def use(seed: int) -> None:
        own = random.Random(seed)
        for _ in range(6):
            stream = Call(channel)
            stream.send(*(named(str(index), delay_ms=own.randrange(3)) for index in range(40)))
            stream.send(named("d", "stream", count=own.randrange(300)))
            plain = [item for item in some_ids(stream, own.randrange(60)) if item != "d"]
            if plain != [str(index) for index in range(len(plain))]:
                failures.append(f"out of order: {plain}")
            stream.call.cancel()
            stream.half_close()

    threads = [threading.Thread(target=use, args=(chance.random(),)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def some_ids(stream: Call, count: int) -> list[str]:
    return [stream.next().infer_response.id for _ in range(min(count, 40))]


def test_the_limits_leave_room_for_the_credit() -> None:
    """A client that is not slow must never make its model wait for it."""
    assert engine.CAUGHT_UP < engine.UNSENT_LIMIT
