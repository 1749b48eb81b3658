"""Which engine to use: the reactor if its private layer still has the shape that it was written for, else threads."""

import logging
from collections.abc import Callable
from typing import Protocol

import grpc

from tensorhub.grpc.engine import Call, Endpoint, Engine, EngineUnfit, Mail, Methods, UnaryMethod
from tensorhub.grpc.threads import ThreadsEngine

log = logging.getLogger(__name__)


class EngineFactory(Protocol):
    """Makes an engine, which is not started yet."""

    def __call__(self, methods: Methods, endpoint: Endpoint, mail: Mail | None = None) -> Engine: ...


_METHOD = "/tensorhub.SelfTest/Echo"
_TIMEOUT_S = 5.0


def _echo(call: Call, message: bytes) -> None:
    call.initial_metadata = (("initial", "1"),)
    call.trailing_metadata = (("trailing", "1"),)
    if dict(call.metadata).get("ask") != "1" or not call.peer or not call.deadline_ns:
        call.fail(grpc.StatusCode.INTERNAL.value[0], "the client's metadata, address or deadline is missing")
    else:
        call.reply(message)


def reactor() -> EngineFactory:
    """Return the reactor, after a call through it on the loopback interface.

    Raises:
        EngineUnfit: it cannot be imported, or the call did not give what it should.
    """
    try:
        from tensorhub.grpc.reactor import ReactorEngine

        engine = ReactorEngine({_METHOD: UnaryMethod(_echo)}, Endpoint("127.0.0.1:0"))
        port = engine.start()
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}", options=(("grpc.enable_http_proxy", 0),)) as channel:
                method = channel.unary_unary(_METHOD)
                answer, call = method.with_call(b"ping", timeout=_TIMEOUT_S, metadata=(("ask", "1"),))
        finally:
            engine.stop(0)
        if answer != b"ping" or not call.initial_metadata() or not call.trailing_metadata():
            raise EngineUnfit("a call through it came back changed")
    except EngineUnfit:
        raise
    except grpc.RpcError as exc:
        raise EngineUnfit(f"a call through it failed: {exc.code().name} {exc.details()}") from exc
    except Exception as exc:  # the private layer may fail in any way
        raise EngineUnfit(f"{type(exc).__name__}: {exc}") from exc
    return ReactorEngine


def choose(name: str, fast: Callable[[], EngineFactory] = reactor) -> EngineFactory:
    """Return the engine of that name: reactor, threads, or auto.

    Raises:
        EngineUnfit: the reactor was asked for by name and does not work.
    """
    if name == "threads":
        return ThreadsEngine
    try:
        return fast()
    except EngineUnfit as exc:
        if name != "auto":
            raise
        log.warning(
            "the fast gRPC engine does not work with grpcio %s (%s); using the slower --grpc-engine=threads",
            grpc.__version__,
            exc,
        )
        return ThreadsEngine
