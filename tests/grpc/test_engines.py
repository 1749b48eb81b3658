"""What every engine owes its handlers: the same cases for both."""

import gc
import itertools
import logging
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import grpc
import pytest

from tensorhub.grpc import reactor
from tensorhub.grpc.engine import (
    INTERNAL,
    UNSENT_LIMIT,
    Call,
    Endpoint,
    Engine,
    ListenError,
    Stream,
    StreamCall,
    StreamMethod,
    Tls,
    UnaryMethod,
)
from tests.waiting import wait_until

from .conftest import Serve, channel_to, running
from .counting_proxy import CountingProxy
from .raw_http2 import RawClient

METHOD = "/test.Service/Method"
Handle = Callable[[Call, bytes], None]


def echo(call: Call, message: bytes) -> None:
    call.reply(message)


def unary(channel: grpc.Channel, method: str = METHOD) -> grpc.UnaryUnaryMultiCallable:
    return channel.unary_unary(method)


class Answerer:
    """A handler that keeps its calls for the test to answer."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.gone = 0
        self._changed = threading.Condition()

    def __call__(self, call: Call, message: bytes) -> None:
        call.watch(self._on_gone)
        with self._changed:
            self.calls.append(call)
            self._changed.notify_all()

    def _on_gone(self) -> None:
        with self._changed:
            self.gone += 1
            self._changed.notify_all()

    def wait(self, calls: int = 0, gone: int = 0) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.calls) >= calls and self.gone >= gone, 60)


def _one_and_no_end(message: bytes, ends: threading.Event) -> Iterator[bytes]:
    """The requests of a client that sends no more, and does not say so before `ends`."""
    yield message
    ends.wait(60)


def test_echo(serve: Serve) -> None:
    _, channel = serve({METHOD: UnaryMethod(echo)})
    for message in (b"", b"x", bytes(1_000_000)):
        assert unary(channel)(message) == message


def test_a_message_of_32_mib(serve: Serve) -> None:
    _, channel = serve({METHOD: UnaryMethod(echo)})
    message = bytes(range(256)) * (128 * 1024)
    assert unary(channel)(message) == message


def test_an_answer_may_come_from_another_thread(serve: Serve) -> None:
    def handle(call: Call, message: bytes) -> None:
        threading.Thread(target=call.reply, args=(message,)).start()

    _, channel = serve({METHOD: UnaryMethod(handle)})
    assert [unary(channel)(b"%d" % index) for index in range(50)] == [b"%d" % index for index in range(50)]


def test_metadata_goes_both_ways(serve: Serve) -> None:
    seen = {}

    def handle(call: Call, message: bytes) -> None:
        seen.update(call.metadata)
        call.initial_metadata = (("first", "1"), ("first-bin", b"\x00\xff"))
        call.trailing_metadata = (("last", "2"), ("last-bin", b"\xff"))
        call.reply(message)

    _, channel = serve({METHOD: UnaryMethod(handle)})
    _, call = unary(channel).with_call(b"", metadata=(("key", "value"), ("key-bin", b"\x01\x80")))
    assert seen["key"] == "value"
    assert seen["key-bin"] == b"\x01\x80"
    assert {("first", "1"), ("first-bin", b"\x00\xff")} <= set(call.initial_metadata())
    assert {("last", "2"), ("last-bin", b"\xff")} <= set(call.trailing_metadata())


@pytest.mark.parametrize("status", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_a_status_with_details(serve: Serve, status: grpc.StatusCode) -> None:
    def handle(call: Call, message: bytes) -> None:
        call.trailing_metadata = (("why", "so"),)
        call.fail(status.value[0], f"it is «{status.name}»\n% \x01")

    _, channel = serve({METHOD: UnaryMethod(handle)})
    with pytest.raises(grpc.RpcError) as caught:
        unary(channel)(b"")
    assert caught.value.code() is status
    assert caught.value.details() == f"it is «{status.name}»\n% \x01"
    assert ("why", "so") in caught.value.trailing_metadata()


def test_an_unknown_method_is_unimplemented(serve: Serve) -> None:
    _, channel = serve({METHOD: UnaryMethod(echo)})
    for multicall in (unary(channel, "/test.Service/Other"), unary(channel, "/")):
        with pytest.raises(grpc.RpcError) as caught:
            multicall(b"")
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNIMPLEMENTED, "")
    with pytest.raises(grpc.RpcError) as caught:
        list(channel.stream_stream("/test.Service/Other")(iter([b"a", b"b"])))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_stream_to_a_unary_method_gets_an_error(serve: Serve) -> None:
    _, channel = serve({METHOD: UnaryMethod(echo)})
    with pytest.raises(grpc.RpcError) as caught:
        list(channel.stream_stream(METHOD)(iter(())))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert unary(channel)(b"next") == b"next"


def test_a_handler_that_raises_ends_its_call_only(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def handle(call: Call, message: bytes) -> None:
        if message == b"raise":
            raise ValueError("secret")
        call.reply(message)

    _, channel = serve({METHOD: UnaryMethod(handle)})
    for _ in range(3):
        with caplog.at_level(logging.CRITICAL), pytest.raises(grpc.RpcError) as caught:
            unary(channel)(b"raise")
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in caught.value.details()
        assert unary(channel)(b"ok") == b"ok"


def test_only_the_first_answer_counts(serve: Serve) -> None:
    def handle(call: Call, message: bytes) -> None:
        call.reply(b"first")
        call.reply(b"second")
        call.fail(INTERNAL, "third")

    _, channel = serve({METHOD: UnaryMethod(handle)})
    assert unary(channel)(b"") == b"first"
    assert unary(channel)(b"") == b"first"


def test_two_threads_race_for_the_answer(serve: Serve) -> None:
    def handle(call: Call, message: bytes) -> None:
        barrier = threading.Barrier(2)

        def answer(text: bytes) -> None:
            barrier.wait()
            call.reply(text)

        for text in (b"a", b"b"):
            threading.Thread(target=answer, args=(text,)).start()

    engine, channel = serve({METHOD: UnaryMethod(handle)})
    assert all(unary(channel)(b"") in (b"a", b"b") for _ in range(100))
    wait_until(lambda: engine.calls == 0)


def test_the_peer_is_the_clients_address(serve: Serve) -> None:
    seen = []

    def handle(call: Call, message: bytes) -> None:
        seen.append(call.peer)
        call.reply(b"")

    _, channel = serve({METHOD: UnaryMethod(handle)})
    unary(channel)(b"")
    assert seen[0].startswith("ipv4:127.0.0.1:")


def test_the_deadline_is_passed_on(serve: Serve) -> None:
    seen = []

    def handle(call: Call, message: bytes) -> None:
        seen.append(call.deadline_ns - time.monotonic_ns() if call.deadline_ns else None)
        call.reply(b"")

    _, channel = serve({METHOD: UnaryMethod(handle)})
    unary(channel)(b"", timeout=60)
    unary(channel)(b"")
    assert 0 < seen[0] <= 60.1e9
    assert seen[1] is None


def test_a_deadline_that_passes_is_noticed(serve: Serve) -> None:
    answerer = Answerer()
    engine, channel = serve({METHOD: UnaryMethod(answerer)})

    def arrives() -> bool:
        """Whether the call has come before its time was up: a machine that stands still uses it up as well."""
        with pytest.raises(grpc.RpcError) as caught:
            unary(channel)(b"", timeout=2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        return bool(answerer.calls)

    wait_until(arrives)
    wait_until(lambda: engine.calls == 0)
    answerer.wait(gone=len(answerer.calls))
    answerer.calls[0].reply(b"too late")


def test_a_cancellation_is_noticed(serve: Serve) -> None:
    answerer = Answerer()
    engine, channel = serve({METHOD: UnaryMethod(answerer)})
    future = unary(channel).future(b"")
    answerer.wait(calls=1)
    future.cancel()
    answerer.wait(gone=1)
    wait_until(lambda: engine.calls == 0)
    call = answerer.calls[0]
    call.reply(b"too late")
    call.fail(INTERNAL, "too late")
    assert answerer.gone == 1


def test_a_cancellation_is_noticed_while_the_clock_is_set_back(
    engine_class: type[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock:
        """Of the day: every look at it is a second before the last."""

        monotonic, monotonic_ns = time.monotonic, time.monotonic_ns
        now_s = time.time()

        @classmethod
        def time(cls) -> float:
            cls.now_s -= 1
            return cls.now_s

    answerer = Answerer()
    engine = engine_class({METHOD: UnaryMethod(answerer)}, Endpoint("127.0.0.1:0"))  # type: ignore[call-arg]
    monkeypatch.setattr(reactor, "time", Clock)
    with running(engine) as port, channel_to(port) as channel:
        future = unary(channel).future(b"")
        answerer.wait(calls=1)
        future.cancel()
        answerer.wait(gone=1)


def test_a_client_that_disappears_is_noticed(serve: Serve) -> None:
    answerer = Answerer()
    engine, channel = serve({METHOD: UnaryMethod(answerer)})
    future = unary(channel).future(b"")  # kept: a future that is dropped cancels its call
    answerer.wait(calls=1)
    channel.close()
    answerer.wait(gone=1)
    wait_until(lambda: engine.calls == 0)
    assert future.code() is grpc.StatusCode.CANCELLED


def test_nobody_is_told_of_the_end_of_an_answered_call(serve: Serve) -> None:
    answerer = Answerer()
    engine, channel = serve({METHOD: UnaryMethod(answerer)})
    futures = [unary(channel).future(b"") for _ in range(20)]
    answerer.wait(calls=20)
    for call in answerer.calls:
        call.reply(b"done")
    assert [future.result() for future in futures] == [b"done"] * 20
    wait_until(lambda: engine.calls == 0)
    assert answerer.gone == 0


def test_a_slow_call_can_be_answered(serve: Serve) -> None:
    """It has been watched for a while then."""
    answerer = Answerer()
    engine, channel = serve({METHOD: UnaryMethod(answerer)})
    future = unary(channel).future(b"")
    answerer.wait(calls=1)
    assert not threading.Event().wait(0.2)  # the time is the case
    answerer.calls[0].reply(b"at last")
    assert future.result() == b"at last"
    wait_until(lambda: engine.calls == 0)
    assert answerer.gone == 0


def test_the_number_of_calls_is_limited(engine_class: type[Engine]) -> None:
    answerer = Answerer()
    engine = engine_class({METHOD: UnaryMethod(answerer)}, Endpoint("127.0.0.1:0", max_calls=4))  # type: ignore[call-arg]
    with running(engine) as port, channel_to(port) as one, channel_to(port) as other, channel_to(port) as third:
        futures = [unary(channel).future(b"") for channel in (one, one, other, other)]
        answerer.wait(calls=4)
        with pytest.raises(grpc.RpcError) as caught:
            unary(third)(b"")
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in answerer.calls:
            call.reply(b"done")
        assert [future.result() for future in futures] == [b"done"] * 4
        wait_until(lambda: engine.calls == 0)
        again = unary(third).future(b"")
        answerer.wait(calls=5)
        answerer.calls[4].reply(b"again")
        assert again.result() == b"again"


def test_one_connection_leaves_room_for_others(engine_class: type[Engine]) -> None:
    """Also one that keeps to no limit, and does not read how its calls end."""
    answerer = Answerer()
    engine = engine_class({METHOD: UnaryMethod(answerer)}, Endpoint("127.0.0.1:0", max_calls=8))  # type: ignore[call-arg]
    with running(engine) as port, RawClient(port) as greedy, channel_to(port) as other:
        for number in range(20):
            greedy.open(2 * number + 1, METHOD)
            greedy.message(2 * number + 1, b"", end=True)
        answerer.wait(calls=6)
        future = unary(other).future(b"mine")
        answerer.wait(calls=7)
        assert engine.calls == 7
        for call in answerer.calls:
            call.reply(b"done")
        assert future.result() == b"done"


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_compression_is_for_the_methods_that_want_it(engine_class: type[Engine], level: int) -> None:
    """Seen by the bytes on the wire."""
    small, plain = METHOD, "/test.Service/Plain"
    table = {small: UnaryMethod(echo, compress=True), plain: UnaryMethod(echo)}
    engine = engine_class(table, Endpoint("127.0.0.1:0", compression_level=level))  # type: ignore[call-arg]
    proxy = CountingProxy(engine.start())
    message = bytes(300_000)
    with grpc.insecure_channel(f"127.0.0.1:{proxy.port}") as channel:
        for method, compression in itertools.product((small, plain), grpc.Compression):
            before = proxy.received
            assert unary(channel, method)(message, compression=compression) == message
            compressed = proxy.received - before < 100_000
            assert compressed == (method == small and level > 0)
    proxy.close()
    engine.stop(0)


class Recorder:
    """A stream's handler that echoes, and notes what happens."""

    def __init__(self, call: StreamCall) -> None:
        self.call = call
        self.messages: list[bytes] = []
        self.half_closed = threading.Event()
        self.gone = threading.Event()
        self.caught_up = 0
        call.read()

    def on_message(self, message: bytes) -> None:
        self.messages.append(message)
        if message == b"raise":
            raise ValueError("secret")
        if message.startswith(b"many"):
            for index in range(int(message[4:])):
                self.call.send(b"%d" % index)
        elif message.startswith(b"end"):
            self.call.trailing_metadata = (("last", "1"),)
            self.call.finish(int(message[3:]), "as asked")
        else:
            self.call.send(message)
        self.call.read()

    def on_half_close(self) -> None:
        self.half_closed.set()
        if self.messages[-1:] != [b"wait"]:
            self.call.finish()

    def on_gone(self) -> None:
        self.gone.set()

    def on_caught_up(self) -> None:
        self.caught_up += 1

    def on_stopping(self) -> None:
        if self.messages[-1:] == [b"linger"]:
            self.call.finish(INTERNAL, "stopping")


class Streams:
    """Opens Recorders."""

    def __init__(self) -> None:
        self.opened: list[Recorder] = []

    def __call__(self, call: StreamCall) -> Stream:
        call.initial_metadata = (("first", "1"),)
        self.opened.append(Recorder(call))
        return self.opened[-1]


def test_a_stream_echoes_one_by_one(serve: Serve) -> None:
    streams = Streams()
    engine, channel = serve({METHOD: StreamMethod(streams)})
    go_on = threading.Semaphore(1)

    def requests() -> Iterator[bytes]:
        for index in range(20):
            go_on.acquire()
            yield b"message %d" % index

    responses = channel.stream_stream(METHOD)(requests())
    for index in range(20):
        assert next(responses) == b"message %d" % index
        go_on.release()
    assert list(responses) == []
    assert responses.code() is grpc.StatusCode.OK
    assert ("first", "1") in responses.initial_metadata()
    wait_until(lambda: engine.calls == 0)
    assert streams.opened[0].half_closed.is_set()
    assert not streams.opened[0].gone.is_set()


def test_a_stream_may_send_many_for_one(serve: Serve) -> None:
    _, channel = serve({METHOD: StreamMethod(Streams())})
    responses = list(channel.stream_stream(METHOD)(iter([b"many3000", b"x"])))
    assert responses == [b"%d" % index for index in range(3000)] + [b"x"]


def test_a_stream_is_told_when_its_client_has_caught_up(serve: Serve) -> None:
    streams = Streams()
    _, channel = serve({METHOD: StreamMethod(streams)})
    count = 20_000  # more than the buffers on the way hold
    responses = channel.stream_stream(METHOD)(iter([b"many%d" % count]))
    wait_until(lambda: streams.opened and streams.opened[0].half_closed.is_set())
    assert streams.opened[0].call.unsent > UNSENT_LIMIT
    assert streams.opened[0].caught_up == 0
    assert sum(1 for _ in responses) == count
    assert streams.opened[0].caught_up == 1


def test_a_stream_ends_with_a_status_after_what_was_sent(serve: Serve) -> None:
    engine, channel = serve({METHOD: StreamMethod(Streams())})
    call = channel.stream_stream(METHOD)(iter([b"many100", b"end5"]))
    got = []
    with pytest.raises(grpc.RpcError):
        got.extend(call)
    assert call.code() is grpc.StatusCode.NOT_FOUND
    assert call.details() == "as asked"
    assert ("last", "1") in call.trailing_metadata()
    wait_until(lambda: engine.calls == 0)


def test_a_stream_without_messages(serve: Serve) -> None:
    _, channel = serve({METHOD: StreamMethod(Streams())})
    assert list(channel.stream_stream(METHOD)(iter(()))) == []


def test_a_stream_that_is_finished_at_once(serve: Serve) -> None:
    def refuse(call: StreamCall) -> Stream:
        call.finish(INTERNAL, "no")
        call.send(b"ignored")
        return Recorder(call)

    engine, channel = serve({METHOD: StreamMethod(refuse)})
    call = channel.stream_stream(METHOD)(iter([b"a"]))
    with pytest.raises(grpc.RpcError):
        list(call)
    assert (call.code(), call.details()) == (grpc.StatusCode.INTERNAL, "no")
    wait_until(lambda: engine.calls == 0)


def test_a_stream_handler_that_raises_ends_its_stream(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    _, channel = serve({METHOD: StreamMethod(Streams())})
    with caplog.at_level(logging.CRITICAL):
        call = channel.stream_stream(METHOD)(iter([b"a", b"raise"]))
        with pytest.raises(grpc.RpcError):
            list(call)
    assert call.code() is grpc.StatusCode.INTERNAL
    assert list(channel.stream_stream(METHOD)(iter([b"a"]))) == [b"a"]


def test_a_stream_that_reads_before_it_is_there(serve: Serve) -> None:
    """Its first message may come while the handler still begins."""

    def begin(call: StreamCall) -> Stream:
        recorder = Recorder(call)
        arrived = threading.Event()
        assert not arrived.wait(0.1)  # the time is the case
        return recorder

    _, channel = serve({METHOD: StreamMethod(begin)})
    assert list(channel.stream_stream(METHOD)(iter([b"a"]), timeout=60)) == [b"a"]


def test_a_stream_that_fails_is_told(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """What it holds would be held for ever."""
    streams = Streams()
    engine, channel = serve({METHOD: StreamMethod(streams)})
    with caplog.at_level(logging.CRITICAL):
        call = channel.stream_stream(METHOD)(iter([b"a", b"raise"]))
        with pytest.raises(grpc.RpcError):
            list(call)
    assert streams.opened[0].gone.wait(60)
    wait_until(lambda: engine.calls == 0)


def test_a_stream_that_begins_when_the_server_stops_is_told(engine_class: type[Engine]) -> None:
    beginning, go_on = threading.Event(), threading.Event()

    class Late(Recorder):
        def __init__(self, call: StreamCall) -> None:
            beginning.set()
            go_on.wait(60)
            super().__init__(call)

        def on_stopping(self) -> None:
            self.call.finish(INTERNAL, "stopping")

    engine = engine_class({METHOD: StreamMethod(Late)}, Endpoint("127.0.0.1:0"))  # type: ignore[call-arg]
    port = engine.start()
    never = threading.Event()

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream(METHOD)(_one_and_no_end(b"wait", never))
        assert beginning.wait(60)
        stopper = threading.Thread(target=engine.stop, args=(200,))
        stopper.start()
        wait_until(lambda: _refuses(port))
        go_on.set()
        stopper.join(100)
        assert not stopper.is_alive()
        with pytest.raises(grpc.RpcError):
            list(call)
        assert call.details() == "stopping"
        never.set()


def _refuses(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return True
    return False


def test_the_cancellation_of_a_stream_is_noticed(serve: Serve) -> None:
    streams = Streams()
    engine, channel = serve({METHOD: StreamMethod(streams)})
    never = threading.Event()

    call = channel.stream_stream(METHOD)(_one_and_no_end(b"wait", never))
    assert next(call) == b"wait"
    call.cancel()
    assert streams.opened[0].gone.wait(60)
    never.set()
    streams.opened[0].call.send(b"too late")
    streams.opened[0].call.finish()
    wait_until(lambda: engine.calls == 0)


def test_sends_of_many_threads_all_arrive(serve: Serve) -> None:
    class Sender(Recorder):
        def on_message(self, message: bytes) -> None:
            def send(thread: int) -> None:
                for index in range(50):
                    self.call.send(b"%d %d" % (thread, index))

            threads = [threading.Thread(target=send, args=(thread,)) for thread in range(4)]
            for thread in threads:
                thread.start()

            def finish() -> None:
                for thread in threads:
                    thread.join()
                self.call.finish()

            threading.Thread(target=finish).start()

    engine, channel = serve({METHOD: StreamMethod(Sender)})
    responses = list(channel.stream_stream(METHOD)(iter([b"go"])))
    for thread in range(4):
        mine = [item for item in responses if item.startswith(b"%d " % thread)]
        assert mine == [b"%d %d" % (thread, index) for index in range(50)]
    wait_until(lambda: engine.calls == 0)


def test_two_thousand_cancelled_calls_leave_nothing(serve: Serve) -> None:
    alive: weakref.WeakSet[Call] = weakref.WeakSet()
    lock = threading.Lock()
    gone = [0]

    class Held:
        """What a handler keeps for a call."""

        __slots__ = ("__weakref__", "call")

        def __init__(self, call: Call) -> None:
            self.call = call

        def on_gone(self) -> None:
            with lock:
                gone[0] += 1

    def handle(call: Call, message: bytes) -> None:
        held = Held(call)
        call.watch(held.on_gone)
        with lock:
            alive.add(held)  # type: ignore[arg-type]

    engine, channel = serve({METHOD: UnaryMethod(handle)})
    for _ in range(40):
        before = gone[0]
        futures = [unary(channel).future(b"x" * 1000) for _ in range(50)]
        wait_until(lambda: engine.calls == 50)
        for future in futures:
            future.cancel()
        wait_until(lambda before=before: gone[0] == before + 50)
    wait_until(lambda: engine.calls == 0)
    del futures, future
    gc.collect()
    wait_until(lambda: len(alive) <= 1)  # the last one may be in a frame that waits for its next call


def test_calls_cancelled_at_random_points_leave_nothing(serve: Serve) -> None:
    """Cancellations that race with the answers, of calls and of streams."""
    streams = Streams()

    def handle(call: Call, message: bytes) -> None:
        threading.Timer(0.001 * (message[0] % 5), call.reply, (message,)).start()

    other = "/test.Service/Stream"
    engine, channel = serve({METHOD: UnaryMethod(handle), other: StreamMethod(streams)})
    for index in range(300):
        future = unary(channel).future(bytes((index % 256,)))
        call = channel.stream_stream(other)(iter([b"many20"]))
        if index % 3:
            next(call, None)
        if index % 7:
            future.cancel()
        call.cancel()
    wait_until(lambda: engine.calls == 0)
    assert unary(channel)(b"x") == b"x"


def test_stop_lets_calls_finish_and_takes_no_new_ones(serve: Serve) -> None:
    answerer = Answerer()
    engine, channel = serve({METHOD: UnaryMethod(answerer)})
    futures = [unary(channel).future(b"") for _ in range(3)]
    answerer.wait(calls=3)
    stopper = threading.Thread(target=engine.stop, args=(20,))
    stopper.start()

    def refused() -> bool:
        try:
            unary(channel)(b"", timeout=0.2)
        except grpc.RpcError as exc:
            return exc.code() is grpc.StatusCode.UNAVAILABLE
        return False

    wait_until(refused)
    for call in list(answerer.calls):
        call.reply(b"done")
    assert [future.result() for future in futures] == [b"done"] * 3
    stopper.join(60)
    assert not stopper.is_alive()
    assert engine.calls == 0


def test_stop_cancels_what_does_not_finish(engine_class: type[Engine]) -> None:
    answerer = Answerer()
    streams = Streams()
    other = "/test.Service/Stream"
    engine = engine_class({METHOD: UnaryMethod(answerer), other: StreamMethod(streams)}, Endpoint("127.0.0.1:0"))  # type: ignore[call-arg]
    port = engine.start()
    never = threading.Event()

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        future = unary(channel).future(b"")
        call = channel.stream_stream(other)(_one_and_no_end(b"wait", never))
        assert next(call) == b"wait"
        answerer.wait(calls=1)
        engine.stop(0.1)
        never.set()
        assert future.exception() is not None
        answerer.wait(gone=1)
        assert streams.opened[0].gone.wait(60)
        assert engine.calls == 0
        answerer.calls[0].reply(b"too late")
        streams.opened[0].call.send(b"too late")


def test_stop_tells_streams_and_waits_for_them(engine_class: type[Engine]) -> None:
    engine = engine_class({METHOD: StreamMethod(Streams())}, Endpoint("127.0.0.1:0"))  # type: ignore[call-arg]
    port = engine.start()
    never = threading.Event()

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.stream_stream(METHOD)(_one_and_no_end(b"linger", never))
        assert next(call) == b"linger"
        began_s = time.monotonic()
        engine.stop(200)
        assert time.monotonic() - began_s < 100
        with pytest.raises(grpc.RpcError):
            next(call)
        assert call.details() == "stopping"
        never.set()


def test_an_engine_that_was_not_used_stops(engine_class: type[Engine]) -> None:
    engine = engine_class({}, Endpoint("127.0.0.1:0"))  # type: ignore[call-arg]
    engine.start()
    engine.stop(5)


def test_a_certificate_that_is_none(engine_class: type[Engine]) -> None:
    endpoint = Endpoint("127.0.0.1:0", tls=Tls(b"no certificate", b"no key"))
    engine = engine_class({}, endpoint)  # type: ignore[call-arg]
    with pytest.raises(ListenError, match="with this certificate and key"):
        engine.start()


def test_an_address_that_is_not_here(engine_class: type[Engine]) -> None:
    engine = engine_class({}, Endpoint("192.0.2.1:21401"))  # type: ignore[call-arg]
    with pytest.raises(ListenError, match=r"192\.0\.2\.1"):
        engine.start()
