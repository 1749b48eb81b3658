"""The gateways of the frontends: one for an event loop, one for threads, and how a program opens them.

They differ in who reads the mailbox, and in when a message leaves; all else is `gateway`'s.
"""

import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from tensorhub.errors import Unavailable
from tensorhub.frontend.gateway import QUEUE_FULL, Gateway, WorkerPeer, free_placed
from tensorhub.frontend.port import InferReply
from tensorhub.ipc import wire
from tensorhub.ipc.arena_memory import DEFAULT_BYTE_SIZE, Arena
from tensorhub.ipc.node import Node
from tensorhub.ipc.outbox import PeerFull
from tensorhub.ipc.rundir import RunDir

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger(__name__)

ARENA_VARIABLE = "TENSORHUB_ARENA_BYTE_SIZE"
"""Environment: the budget of a frontend's arena in bytes; --arena-byte-size of the server that starts it."""

_SENT_TOGETHER = 8
"""Requests that an event loop gathers for a worker before it sends them. PERF: 32 in flight over HTTP, 1.1 times the
requests, when the worker begins with the first."""


class _TurningGateway(Gateway):
    """What is sent in one turn of a loop leaves together at its end, and wakes a worker once."""

    def __init__(self, node: Node, arena: Arena) -> None:
        super().__init__(node, arena)
        self._unsent: dict[WorkerPeer, list[bytes]] = {}

    def read(self) -> None:
        """Deal with what is in the mailbox. For whoever reads it."""
        for frame in self._node.mailbox.take():
            try:
                self.handle(frame)
            except Exception:
                log.exception("a message could not be dealt with")

    def send(self) -> None:
        """Send what was sent since the last time. For whoever reads the mailbox."""
        unsent, self._unsent = self._unsent, {}
        for worker, frames in unsent.items():
            if worker.pid not in self._workers:
                continue  # its funeral has answered for it
            try:
                self._node.outbox.send(worker.mailbox, *frames)
            except PeerFull:
                for frame in frames:
                    self._refuse(worker, wire.decode(frame))

    def _refuse(self, worker: WorkerPeer, message: wire.Message) -> None:
        """Answer a request that could not be sent; other messages are lost."""
        entry = worker.in_flight.pop(message.request_id, None) if message.kind is wire.Kind.INFER else None
        if entry is not None:
            free_placed(entry.placed)
            if entry.on_reply is not None:
                entry.on_reply(InferReply(error=Unavailable(QUEUE_FULL)))


class AsyncGateway(_TurningGateway):
    """Read by an asyncio event loop: callbacks run there.

    Of many requests that a turn of the loop reads, a worker gets the first when the loop still reads the others.
    """

    def __init__(self, node: Node, arena: Arena) -> None:
        super().__init__(node, arena)
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self, loop: "asyncio.AbstractEventLoop") -> None:
        """Begin to read the mailbox on `loop`."""
        self._loop = loop
        loop.add_reader(self._node.mailbox.fd, self.read)

    def _post(self, worker: WorkerPeer, frame: bytes) -> None:
        if self._loop is None:
            super()._post(worker, frame)
            return
        if len(self._unsent.get(worker, ())) >= _SENT_TOGETHER:
            self.send()
        if not self._unsent:
            self._loop.call_soon(self.send)
        self._unsent.setdefault(worker, []).append(frame)

    async def close(self) -> None:
        """Leave the server; requests in flight get no answer any more."""
        if self._loop is not None:
            self._loop.remove_reader(self._node.mailbox.fd)
        self.send()
        self.close_down()


class ThreadGateway(_TurningGateway):
    """Read by a thread of its own, or by a loop that has the turn: callbacks run there.

    Who has the turn reads the mailbox. The gateway's thread takes it when something has come; a loop that is busy
    with other things keeps it, and sends and reads now and then. So one thread does all the work as long as there is
    much of it, and two need not hand Python's lock to and fro.
    """

    def __init__(self, node: Node, arena: Arena) -> None:
        super().__init__(node, arena)
        self._stopping = False
        self._turn = threading.Lock()
        self._turn_of = 0  # the thread that has it
        self._thread = threading.Thread(target=self._read, name="replies", daemon=True)

    def attach(self) -> None:
        """Begin to read the mailbox."""
        self._thread.start()

    @property
    def fd(self) -> int | None:
        """Readable while there is mail."""
        return self._node.mailbox.fd

    def hold(self) -> None:
        """Take the turn, when the thread that has it is done."""
        self._turn.acquire()
        self._turn_of = threading.get_ident()

    def release(self) -> None:
        """Give the turn back; `send` before."""
        self._turn_of = 0
        self._turn.release()

    def _post(self, worker: WorkerPeer, frame: bytes) -> None:
        if self._turn_of == threading.get_ident():
            self._unsent.setdefault(worker, []).append(frame)
        else:
            super()._post(worker, frame)

    def _read(self) -> None:
        mailbox = self._node.mailbox
        while not self._stopping:
            mailbox.wait()
            self.hold()
            try:
                self.read()
                self.send()
            finally:
                self.release()

    def close(self) -> None:
        """Leave the server; requests in flight get no answer any more. Not to be called from a callback."""
        self._stopping = True
        self._node.post(lambda: None)
        self._thread.join()
        self.close_down()


def _budget() -> int:
    return int(os.environ.get(ARENA_VARIABLE) or DEFAULT_BYTE_SIZE)


def _open_node(run_dir: Path, role: wire.Role) -> Node:
    directory = RunDir(run_dir)
    directory.open()
    return Node(directory, role)


def open_thread_gateway(
    run_dir: Path, role: wire.Role = wire.Role.GRPC, arena_byte_size: int | None = None
) -> ThreadGateway:
    """Join the server in `run_dir` from a program with threads. It need not run yet: calls fail until a hub answers.

    Raises:
        RunDirError: the run directory cannot be used.
    """
    gateway = ThreadGateway(_open_node(run_dir, role), Arena(arena_byte_size or _budget()))
    gateway.open()
    gateway.attach()
    return gateway


async def open_async_gateway(
    run_dir: Path, role: wire.Role = wire.Role.HTTP, arena_byte_size: int | None = None
) -> AsyncGateway:
    """Join the server in `run_dir` from the running event loop. It need not run yet: calls fail until a hub answers.

    Raises:
        RunDirError: the run directory cannot be used.
    """
    gateway = AsyncGateway(_open_node(run_dir, role), Arena(arena_byte_size or _budget()))
    gateway.open()
    # Not at the top: workers and the gRPC daemon have gateways too, and no asyncio.
    import asyncio

    gateway.attach(asyncio.get_running_loop())
    return gateway
