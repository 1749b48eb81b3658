"""A process among the others: its mailbox, its way to the hub, and its eye on who dies.

Every process of the server has one Node and one thread that reads its mailbox. Other threads that have news for that
thread `post` a call; it runs there, in order, between two messages.

The hub may come late, die and come back: a node says HELLO until a snapshot arrives, watches the hub that sent it, and
when that one dies starts over. ZeroMQ keeps the HELLO until somebody binds the hub's mailbox.
"""

import itertools
import logging
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from tensorhub.ipc import wire
from tensorhub.ipc.hub_line import HubLine
from tensorhub.ipc.mailbox import Mailbox
from tensorhub.ipc.outbox import Outbox, PeerFull
from tensorhub.ipc.rundir import RunDir
from tensorhub.ipc.watch import Watcher, start_ticks
from tensorhub.protocol import messages

log = logging.getLogger(__name__)

HELLO_INTERVAL_S = 0.5
"""Between two attempts to find a hub."""


class Node:
    """This process, as the others see it.

    Attributes:
        pid, ticks, generation: who this process is; the generation goes into every request and comes back in
            its answer.
        hub_pid: the hub that answered last, 0 while none does.
    """

    def __init__(
        self, run_dir: RunDir, role: wire.Role, *, name: str = "", device: str = "", environment: str = ""
    ) -> None:
        self.run_dir = run_dir
        self.role = role
        self.pid = os.getpid()
        self.ticks = start_ticks(self.pid)
        self.generation = self.ticks & 0xFFFFFFFF
        self.hub_pid = 0
        self._process = messages.Process(
            role=role.name, pid=self.pid, start_ticks=self.ticks, name=name, device=device, environment=environment
        )
        self._welcomed_before = False
        self._bequest = b""
        self._fill_hello: Callable[[Any], None] = lambda hello: None
        self._on_hub_lost: Callable[[], None] = lambda: None
        self._posted: deque[Callable[[], None]] = deque()
        self._request_ids = itertools.count(1)
        self.mailbox = Mailbox(run_dir.mailbox(role, self.pid), wire.encode(wire.Kind.WAKE, role, self.pid))
        self.outbox = Outbox()
        self._hub_line = HubLine(run_dir.hub)
        self.watcher = Watcher()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Node {self.role.name} pid {self.pid}, hub {self.hub_pid or 'sought'}>"

    def start(self) -> None:
        """Begin to watch; before it, nothing is noticed."""
        self.watcher.start()

    def join(self, fill_hello: Callable[[Any], None], on_hub_lost: Callable[[], None]) -> None:
        """Look for a hub, now and whenever it is lost.

        Args:
            fill_hello: adds what this process has to a `tensorhub.wire.Hello`; called on the mailbox's thread.
            on_hub_lost: called on the mailbox's thread when the hub has died.
        """
        self._fill_hello = fill_hello
        self._on_hub_lost = on_hub_lost
        self._say_hello()

    def _say_hello(self) -> None:
        if self.hub_pid or self._closed:
            return
        hello = messages.Hello(process=self._process, rejoining=self._welcomed_before, bequest=self._bequest)
        self._fill_hello(hello)
        try:
            self.send_hub(wire.Kind.HELLO, hello.SerializeToString())
        except PeerFull:
            log.debug("there has been no hub for very long; those that wait for one say the same")
        self.watcher.later(HELLO_INTERVAL_S, lambda: self.post(self._say_hello))

    def welcome(self, snapshot: Any) -> None:
        """Note who sent a snapshot, and what it bequeaths; the first one from a hub answers our HELLO."""
        self._bequest = snapshot.bequest
        if snapshot.hub_pid == self.hub_pid:
            return
        self.hub_pid = snapshot.hub_pid
        self._welcomed_before = True
        self.watcher.watch(snapshot.hub_pid, snapshot.hub_start_ticks, lambda pid: self.post(lambda: self._lost(pid)))

    def _lost(self, pid: int) -> None:
        if pid == self.hub_pid:
            self.hub_pid = 0
            # A fresh connection: frames queued for the dead hub must not reach the next one.
            self._hub_line.forget()
            self._on_hub_lost()
            self._say_hello()

    def next_request_id(self) -> int:
        return next(self._request_ids)

    def send_hub(self, kind: wire.Kind, head: bytes, *, request_id: int = 0, flags: int = 0) -> None:
        """Send to the hub; while there is none, the frame waits in the queue.

        Raises:
            PeerFull: the hub has not read for long.
        """
        self._hub_line.send(
            wire.encode(
                kind, self.role, self.pid, request_id=request_id, generation=self.generation, flags=flags, head=head
            )
        )

    def acknowledge(self, revision: int) -> None:
        """Tell the hub that a snapshot has arrived; losing it only delays an answer."""
        try:
            self.send_hub(wire.Kind.ACKNOWLEDGE, messages.Acknowledge(revision=revision).SerializeToString())
        except PeerFull:
            log.warning("the hub does not read its mail")

    def post(self, call: Callable[[], None]) -> None:
        """Have `call` run on the mailbox's thread; callable from any thread, and from signal handlers."""
        self._posted.append(call)
        self.mailbox.wake()

    def run_posted(self) -> None:
        """Run what was posted; the reader of the mailbox calls it for WAKE.

        A call that fails is logged and holds up nothing behind it: what was posted at the same time has no other wake.
        """
        while self._posted:
            try:
                call = self._posted.popleft()
            except IndexError:  # taken by the next reader: a call may make this thread step aside
                return
            try:
                call()
            except Exception:
                log.exception("something that was posted could not be done")

    def decode(self, frame: bytes) -> wire.Message | None:
        """Decode a frame; a bad one is logged and dropped."""
        try:
            return wire.decode(frame)
        except wire.WireError as exc:
            log.warning("dropped a frame that is not a message: %s", exc)
            return None

    def close(self) -> None:
        """Leave: stop watching, flush what is queued, remove the mailbox."""
        if self._closed:
            return
        self._closed = True
        self.watcher.close()
        self.outbox.close()
        self._hub_line.close()
        self.mailbox.close()
