"""Waiting for a worker's answer, and noticing meanwhile that the client has gone.

PERF: listening for a disconnect needs a task for each request, which costs more than the rest of a small one. So nobody
listens at first; a sweep starts listening for those requests that are still waiting when it has come by twice.
"""

import asyncio

from tensorhub.errors import InternalError
from tensorhub.frontend.port import InferReply
from tensorhub.http.asgi import Disconnected, Receive

SWEEP_INTERVAL_S = 0.05


class SingleReply:
    """Makes of a request's replies the one that HTTP can give, and delivers it once."""

    __slots__ = ("_first", "_responses")

    def __init__(self) -> None:
        self._first: InferReply | None = None
        self._responses = 0

    @property
    def done(self) -> bool:
        """A reply has been delivered, or is not wanted any more."""
        raise NotImplementedError

    def deliver(self, reply: InferReply) -> None:
        """Take the reply, and release it."""
        raise NotImplementedError

    def on_reply(self, reply: InferReply) -> None:
        """Take what the gateway has; an ordinary model sends one reply, which is final."""
        if self.done:
            reply.release()
        elif reply.final and self._first is None and not reply.empty:
            self.deliver(reply)
        else:
            self._on_unusual(reply)

    def _on_unusual(self, reply: InferReply) -> None:
        if not reply.empty:
            self._responses += 1
            if self._first is None:
                self._first = reply
            else:
                reply.release()
        if not reply.final:
            return
        first, self._first = self._first, None
        if self._responses == 1 and first is not None:
            self.deliver(first)
            return
        if first is not None:
            first.release()
        self.deliver(InferReply(error=InternalError(f"expected a single response, got {self._responses}")))

    def abandon(self) -> None:
        """Nobody waits any more, and the request has been cancelled: let go of an answer that came all the same."""
        if self._first is not None:
            self._first.release()


class Pending(SingleReply):
    """One request at a worker; `await pending.reply()` gives its one answer."""

    __slots__ = ("_future", "_listener", "_receive", "_swept")

    def __init__(self, loop: asyncio.AbstractEventLoop, receive: Receive) -> None:
        super().__init__()
        self._future: asyncio.Future[InferReply] = loop.create_future()
        self._receive = receive
        self._listener: asyncio.Task[None] | None = None
        self._swept = False

    @property
    def done(self) -> bool:
        """See SingleReply."""
        return self._future.done()

    def deliver(self, reply: InferReply) -> None:
        """See SingleReply."""
        self._future.set_result(reply)

    def sweep(self) -> None:
        """Begin to listen for the client's disconnect, the second time that this is called."""
        if self._swept and self._listener is None:
            self._listener = asyncio.get_running_loop().create_task(self._listen())
        self._swept = True

    async def _listen(self) -> None:
        while True:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                break
        if not self._future.done():
            self._future.set_exception(Disconnected())

    async def reply(self) -> InferReply:
        """Wait for the answer; the caller releases it.

        Raises:
            Disconnected: the client has gone first.
        """
        return await self._future

    def abandon(self) -> None:
        """See SingleReply."""
        future = self._future
        if future.done() and not future.cancelled() and future.exception() is None:
            future.result().release()
        super().abandon()

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.cancel()
            self._listener = None


class Waiting:
    """All requests that wait for a worker."""

    def __init__(self) -> None:
        self._pending: set[Pending] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Waiting {len(self._pending)}>"

    def add(self, pending: Pending) -> None:
        """Watch over a request until `discard`."""
        self._pending.add(pending)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_INTERVAL_S, self._sweep)

    def discard(self, pending: Pending) -> None:
        """The request is over."""
        self._pending.discard(pending)
        pending.close()

    def _sweep(self) -> None:
        self._timer = None
        for pending in self._pending:
            pending.sweep()
        if self._pending:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_INTERVAL_S, self._sweep)
