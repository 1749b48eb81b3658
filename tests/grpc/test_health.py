"""The health service, through both engines."""

from typing import Any

import grpc
import pytest

from tensorhub.grpc import health
from tensorhub.grpc.routes import methods
from tensorhub.protocol import messages
from tests.waiting import wait_until

from .conftest import Serve
from .fake_gateway import FakeGateway

Request = messages.message_class("grpc.health.v1.HealthCheckRequest")
Response = messages.message_class("grpc.health.v1.HealthCheckResponse")

SERVING, NOT_SERVING = 1, 2


@pytest.fixture
def channel(serve: Serve, gateway: FakeGateway) -> grpc.Channel:
    return serve(methods(gateway))[1]


def check(channel: grpc.Channel, service: str = "") -> int:
    body = Request(service=service).SerializeToString()
    answer = channel.unary_unary(f"/{health.SERVICE}/Check")(body, timeout=60)
    return int(Response.FromString(answer).status)


def watch(channel: grpc.Channel, service: str = "") -> Any:
    body = Request(service=service).SerializeToString()
    return channel.unary_stream(f"/{health.SERVICE}/Watch")(body)


def next_status(call: Any) -> int:
    return int(Response.FromString(next(call)).status)


def set_state(gateway: FakeGateway, model: str, state: str) -> None:
    for item in gateway.state.models:
        for version in item.versions if item.name == model else ():
            version.state = state
            version.reason = "" if state == "READY" else "broken"
    gateway.publish()


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService", "any"])
def test_the_server(channel: grpc.Channel, gateway: FakeGateway, service: str) -> None:
    assert check(channel, service) == SERVING
    set_state(gateway, "add_sub", "UNAVAILABLE")
    assert check(channel, service) == NOT_SERVING


def test_a_model(channel: grpc.Channel, gateway: FakeGateway) -> None:
    assert check(channel, "add_sub") == check(channel, "identity") == SERVING
    set_state(gateway, "add_sub", "UNAVAILABLE")
    assert check(channel, "add_sub") == NOT_SERVING
    assert check(channel, "identity") == SERVING


def test_watching(channel: grpc.Channel, gateway: FakeGateway) -> None:
    server, model, other = watch(channel), watch(channel, "add_sub"), watch(channel, "identity")
    assert [next_status(call) for call in (server, model, other)] == [SERVING] * 3
    gateway.publish()  # nothing new
    set_state(gateway, "add_sub", "UNAVAILABLE")
    assert [next_status(call) for call in (server, model)] == [NOT_SERVING] * 2
    set_state(gateway, "identity", "UNAVAILABLE")
    assert next_status(other) == NOT_SERVING
    set_state(gateway, "add_sub", "READY")
    assert next_status(model) == SERVING
    gateway.disconnect()
    for on_change in list(gateway.observers):
        on_change()
    assert next_status(model) == NOT_SERVING
    for call in (server, model, other):
        call.cancel()
    wait_until(lambda: gateway.observers == [])


def test_watching_ends_with_the_server(serve: Serve, gateway: FakeGateway) -> None:
    engine, channel = serve(methods(gateway))
    call = watch(channel)
    assert next_status(call) == SERVING
    engine.stop(60)
    with pytest.raises(grpc.RpcError):
        next(call)
    assert call.code() is grpc.StatusCode.UNAVAILABLE
    assert gateway.observers == []


def test_bytes_that_are_no_request(channel: grpc.Channel) -> None:
    call = channel.unary_stream(f"/{health.SERVICE}/Watch")(b"\xff")
    with pytest.raises(grpc.RpcError):
        next(call)
    assert call.code() is grpc.StatusCode.INTERNAL


def test_a_watch_that_goes_wrong_later_leaves_nothing(channel: grpc.Channel, gateway: FakeGateway) -> None:
    call = channel.stream_stream(f"/{health.SERVICE}/Watch")(iter([Request().SerializeToString(), b"\xff"]))
    with pytest.raises(grpc.RpcError):
        list(call)
    assert call.code() is grpc.StatusCode.INTERNAL
    wait_until(lambda: gateway.observers == [])


def test_a_watch_without_a_request(channel: grpc.Channel) -> None:
    call = channel.stream_stream(f"/{health.SERVICE}/Watch")(iter(()), timeout=60)
    with pytest.raises(grpc.RpcError):
        next(call)
    assert call.code() is grpc.StatusCode.UNIMPLEMENTED
