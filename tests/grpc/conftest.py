"""Both engines, served in the test's own process, and channels to them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
import pytest

from tensorhub.grpc.engine import Endpoint, Engine, Methods
from tensorhub.grpc.reactor import ReactorEngine
from tensorhub.grpc.threads import ThreadsEngine

from .fake_gateway import FakeGateway

Serve = Callable[..., tuple[Engine, grpc.Channel]]

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
)


@pytest.fixture(params=[ReactorEngine, ThreadsEngine], ids=["reactor", "threads"])
def engine_class(request: pytest.FixtureRequest) -> type[Engine]:
    return request.param


@pytest.fixture
def serve(engine_class: type[Engine]) -> Iterator[Serve]:
    """`serve(methods, **fields of Endpoint)` starts an engine and returns it with a channel to it."""
    engines: list[Engine] = []
    channels: list[grpc.Channel] = []

    def start(methods: Methods, **endpoint: object) -> tuple[Engine, grpc.Channel]:
        engine = engine_class(methods, Endpoint("127.0.0.1:0", **endpoint))  # type: ignore[arg-type, call-arg]
        port = engine.start()
        channel = channel_to(port)
        engines.append(engine)
        channels.append(channel)
        return engine, channel

    yield start
    for channel in channels:
        channel.close()
    for engine in engines:
        engine.stop(0)
        assert engine.calls == 0


def channel_to(port: int) -> grpc.Channel:
    """Return a channel with a connection of its own."""
    return grpc.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS)


@contextmanager
def running(engine: Engine) -> Iterator[int]:
    """Start an engine, hand out its port, and stop it in the end."""
    port = engine.start()
    try:
        yield port
    finally:
        engine.stop(0)
    assert engine.calls == 0


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    gateway = FakeGateway()
    yield gateway
    gateway.close()
