"""Restricted protocols and forwarded metadata, through both engines."""

from typing import Any

import grpc
import pytest

from tensorhub.grpc import health, reflection
from tensorhub.grpc.routes import SERVICES, category, methods
from tensorhub.protocol import messages
from tensorhub.restrictions import Category

from .conftest import Serve
from .fake_gateway import FakeGateway
from .test_inference import METHOD, SMALL, request
from .test_streaming import Call

KEY = (("triton-grpc-protocol-key", "secret"),)
REFUSAL = "This protocol is restricted, expecting header 'triton-grpc-protocol-key'"


def ask(channel: grpc.Channel, path: str, metadata: Any) -> tuple[str, str]:
    """Call a method of any shape with nothing. Returns status and text."""
    call = channel.stream_stream(path)(iter([b""]), metadata=metadata, timeout=60)
    try:
        next(call, None)
    except grpc.RpcError:
        return call.code().name, call.details()
    call.cancel()
    return "OK", ""


def test_every_method_has_a_category() -> None:
    for service in SERVICES:
        for method in messages.service(service).methods:
            assert isinstance(category(service, method.name), Category)


@pytest.mark.parametrize("restricted", Category)
def test_a_restricted_category_needs_its_key(serve: Serve, gateway: FakeGateway, restricted: Category) -> None:
    """Generated from the table of methods: every method of a restricted category, and none of another one."""
    gateway.state.settings["grpc-restricted-protocol"] = f"{restricted.value}:key=secret"
    gateway.publish()
    table = methods(gateway)
    _, channel = serve(table)
    for path in table:
        service, _, method = path[1:].partition("/")
        belongs = category(service.replace("v1alpha", "v1"), method) is restricted
        for metadata in ((), (("triton-grpc-protocol-key", "wrong"),), (("key", "secret"),)):
            assert (ask(channel, path, metadata) == ("UNAVAILABLE", REFUSAL)) == belongs, path
        assert ask(channel, path, KEY)[1] != REFUSAL


def test_denied_calls_do_nothing(serve: Serve, gateway: FakeGateway) -> None:
    everything = ",".join(item.value for item in Category)
    gateway.state.settings["grpc-restricted-protocol"] = f"{everything}:key=secret"
    gateway.publish()
    table = methods(gateway)
    _, channel = serve(table)
    for path in table:
        assert ask(channel, path, ()) == ("UNAVAILABLE", REFUSAL)
    assert gateway.operations == []
    assert gateway.in_flight == 0


def test_a_change_counts_from_the_next_call_on(serve: Serve, gateway: FakeGateway) -> None:
    _, channel = serve(methods(gateway))
    path = f"/{health.SERVICE}/Check"
    assert ask(channel, path, ())[0] == "OK"
    gateway.state.settings["grpc-restricted-protocol"] = "health:key=secret"
    gateway.publish()
    assert ask(channel, path, ()) == ("UNAVAILABLE", REFUSAL)


def test_the_daemons_own_rules_go_first(serve: Serve, gateway: FakeGateway) -> None:
    _, channel = serve(methods(gateway, {"grpc-restricted-protocol": "health:key=secret"}))
    assert ask(channel, f"/{health.SERVICE}/Check", ()) == ("UNAVAILABLE", REFUSAL)
    assert ask(channel, f"/{health.SERVICE}/Watch", ()) == ("UNAVAILABLE", REFUSAL)


def test_rules_that_cannot_be_read_serve_nothing(serve: Serve, gateway: FakeGateway) -> None:
    gateway.state.settings["grpc-restricted-protocol"] = "nonsense"
    gateway.publish()
    table = methods(gateway)
    _, channel = serve(table)
    for path in table:
        code, details = ask(channel, path, KEY)
        assert code == "INTERNAL"
        assert "--grpc-restricted-protocol" in details


@pytest.fixture
def forwarding(serve: Serve, gateway: FakeGateway) -> grpc.Channel:
    gateway.state.settings["grpc-header-forward-pattern"] = "^X-|timeout|triton"
    gateway.publish()
    return serve(methods(gateway))[1]


def parameters(gateway: FakeGateway) -> dict[str, str]:
    return {name: value.string_param for name, value in gateway.last_request.parameters.items()}


def test_metadata_become_parameters(forwarding: grpc.Channel, gateway: FakeGateway) -> None:
    infer = forwarding.unary_unary(METHOD)
    metadata = (("x-one", "1"), ("x-two", "2"), ("one", "3"), ("x-raw-bin", b"\xff"))
    infer(request("identity", *SMALL).SerializeToString(), metadata=metadata, timeout=60)
    assert parameters(gateway) == {"x-one": "1", "x-two": "2"}
    infer(request("identity", bytes(100_000), bytes(4)).SerializeToString(), metadata=metadata, timeout=60)
    assert parameters(gateway) == {"x-one": "1", "x-two": "2"}
    assert gateway.placed == 1


def test_metadata_of_a_stream_are_every_requests(forwarding: grpc.Channel, gateway: FakeGateway) -> None:
    stream = Call(forwarding, metadata=(("x-one", "1"),))
    for _ in range(2):
        stream.send(request("identity", *SMALL))
        stream.next()
        assert parameters(gateway) == {"x-one": "1"}
    assert stream.rest() == []


@pytest.mark.parametrize("key", ["timeout", "triton_x"])
def test_reserved_names_are_refused(forwarding: grpc.Channel, gateway: FakeGateway, key: str) -> None:
    text = f"Header '{key}' is reserved for Triton usage and cannot be forwarded."
    with pytest.raises(grpc.RpcError) as caught:
        forwarding.unary_unary(METHOD)(request("identity", *SMALL).SerializeToString(), metadata=((key, "1"),))
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, text)
    stream = Call(forwarding, metadata=((key, "1"),))
    stream.send(request("identity", *SMALL))
    assert [item.error_message for item in stream.rest()] == [text]
    assert (gateway.in_flight, gateway.reserved) == (0, 0)


def test_reflection_is_metadata() -> None:
    assert category(reflection.SERVICE, reflection.METHOD) is Category.METADATA
