"""The frontend's side of the server: requests out to workers, answers back to the edge that asked.

One Gateway in each frontend process. It keeps the table of requests in flight and the newest catalog; it knows neither
HTTP nor gRPC. Its mailbox is read either by an event loop or by a thread of its own (see `gateways`); everything else
is the same code.

A request is answered exactly once from the edge's point of view: by the worker's last message, by the death of the
worker, or not at all after `cancel`. One that reaches its worker after the load that it was meant for has been retired
is sent again, to the load that took its place: clients do not notice a reload. So is the step of a sequence that is not
where it was looked for. The arena memory of a request is freed only when the worker is done with it or dead, also after
a cancel, because the model may still be reading; and not before a model that keeps inputs has let them go.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tensorhub import logs
from tensorhub.errors import InternalError, InvalidArgument, TensorhubError, Unavailable, error_for
from tensorhub.frontend.catalog import LATEST, NO_HUB, Catalog, ServedVersion
from tensorhub.frontend.port import InferReply, OnControl, OnReply, PlacedInput
from tensorhub.frontend.routing import nearest, regions_named
from tensorhub.frontend.tracer import FrontendTrace, Tracer
from tensorhub.ipc import wire
from tensorhub.ipc.arena_memory import Arena, Block
from tensorhub.ipc.handles import HandleServer
from tensorhub.ipc.node import Node
from tensorhub.ipc.outbox import PeerFull
from tensorhub.ipc.peer_arenas import PeerArenas
from tensorhub.protocol import messages
from tensorhub.protocol.affinity import CorrelationId, correlation_id, homes_of, next_home

log = logging.getLogger(__name__)

IN_FLIGHT_LIMIT = 8_192
"""Requests that one frontend has at one worker. Each holds some kilobytes; a worker that is this far behind will not
answer in a time that any client waits."""

QUEUE_FULL = "Exceeds maximum queue size"
"""Triton's text."""

_WORKER_DIED = "the worker process that ran the request has died; it is being restarted, try again"


class _InFlight:
    """One request at a worker."""

    __slots__ = ("frame", "on_reply", "placed", "target")

    def __init__(
        self, on_reply: OnReply | None, target: ServedVersion, placed: Sequence[PlacedInput], frame: bytes
    ) -> None:
        self.on_reply = on_reply  # None once it is cancelled
        self.target = target
        self.placed = placed
        self.frame = frame  # as it was sent, in case that it has to be sent again


class _TracedReplies:
    """Takes the replies to a traced request, and tells the hub the end of its trace with the last one."""

    __slots__ = ("_on_reply", "_tell", "_trace")

    def __init__(self, trace: FrontendTrace, on_reply: OnReply, tell: Callable[[Any], None]) -> None:
        self._trace = trace
        self._on_reply = on_reply
        self._tell = tell

    def __call__(self, reply: InferReply) -> None:
        """Pass a reply on."""
        final = reply.final
        replied_ns = time.monotonic_ns()
        try:
            self._on_reply(reply)
        finally:
            if final:
                self.end(replied_ns)

    def end(self, replied_ns: int) -> None:
        """Tell that the trace ends now."""
        self._tell(self._trace.ended(replied_ns, time.monotonic_ns()))


def _end_trace(on_reply: OnReply | None) -> None:
    """End the trace, if there is one, of a request to which no reply comes any more."""
    if isinstance(on_reply, _TracedReplies):
        on_reply.end(time.monotonic_ns())


class WorkerPeer:
    """A worker process, as long as it lives."""

    __slots__ = ("in_flight", "kept", "mailbox", "pid")

    def __init__(self, pid: int, mailbox: Path) -> None:
        self.pid = pid
        self.mailbox = mailbox
        self.in_flight: dict[int, _InFlight] = {}
        self.kept: dict[int, Sequence[PlacedInput]] = {}  # inputs of requests that models refer to


class Gateway:
    """See the module; implements `frontend.port.GatewayPort`."""

    def __init__(self, node: Node, arena: Arena) -> None:
        self.catalog = Catalog()
        self._node = node
        self._arena = arena
        self._peers = PeerArenas(node.run_dir)
        self.handles = HandleServer(node.run_dir.handles(node.pid), arena.fd)
        self._workers: dict[int, WorkerPeer] = {}
        self._controls: dict[int, OnControl] = {}
        self._observers: dict[Callable[[], None], None] = {}
        self._tracer = Tracer(node.pid, node.role.name)

    def __repr__(self) -> str:
        return f"<Gateway {self._node!r}, {self.in_flight} requests in flight, {self._arena!r}>"

    @property
    def in_flight(self) -> int:
        """Requests that a worker has not answered yet."""
        return sum(len(worker.in_flight) for worker in self._workers.values())

    @property
    def idle(self) -> bool:
        """Nothing is in flight and no memory is held."""
        return self.in_flight == 0 and self._arena.blocks == 0 and not self._controls

    def open(
        self, fill_hello: Callable[[Any], None] = lambda hello: None, on_hub_lost: Callable[[], None] | None = None
    ) -> None:
        """Take part in the server: be reachable, and look for the hub.

        Args:
            fill_hello: adds what this process has to a `tensorhub.wire.Hello`.
            on_hub_lost: called on the mailbox's thread when the hub has died.
        """
        self._node.start()
        self.handles.start()

        def fill(hello: Any) -> None:
            hello.known.extend(self.catalog.known)
            fill_hello(hello)

        def hub_lost() -> None:
            self._hub_lost()
            if on_hub_lost is not None:
                on_hub_lost()

        self._node.join(fill, hub_lost)

    def reserve(self, byte_size: int) -> Block:
        """See GatewayPort."""
        return self._arena.allocate(byte_size)

    def infer(
        self,
        target: ServedVersion,
        body: bytes,
        on_reply: OnReply,
        *,
        flags: int = 0,
        placed: Sequence[PlacedInput] = (),
        deadline_ns: int = 0,
        owner: str = "",
        traceparent: str = "",
        origin: Any = None,
    ) -> int:
        """See GatewayPort.

        Args:
            origin: the `tensorhub.wire.TraceOrigin` of a request that a traced request of this worker makes.
        """
        trace = None
        if origin is not None:
            flags |= wire.FLAG_TRACED
        if self._tracer.active and self._node.role is not wire.Role.WORKER:
            trace = self._tracer.sample(target.model, traceparent)
            if trace is not None:
                flags |= wire.FLAG_TRACED
                on_reply = self._traced(trace, on_reply)
                origin = trace.origin()
        try:
            if len(target.shares) > 1 and target.sequential and (sequence := correlation_id(body)):
                worker, _ = self._home(target, sequence)
                flags |= wire.FLAG_SEEKS
            else:
                worker = self._pick(target, body, owner)
            if len(body) > wire.MAX_BODY_SIZE:
                raise InvalidArgument(
                    f"the request has {len(body)} bytes beside its large tensors; allowed are {wire.MAX_BODY_SIZE}"
                )
            tail = _request_extras(placed, owner, origin) if placed or owner or origin is not None else b""
            node = self._node
            request_id = node.next_request_id()
            frame = wire.encode(
                wire.Kind.INFER,
                node.role,
                node.pid,
                request_id=request_id,
                generation=node.generation,
                flags=flags,
                deadline_ns=deadline_ns,
                number=target.load_id,
                head=body,
                tail=tail,
            )
            worker.in_flight[request_id] = _InFlight(on_reply, target, placed, frame)
            try:
                self._post(worker, frame)
            except PeerFull:
                del worker.in_flight[request_id]
                raise Unavailable(QUEUE_FULL) from None
        except BaseException:
            free_placed(placed)
            _end_trace(on_reply)
            raise
        if worker.pid not in self._workers and worker.in_flight.pop(request_id, None) is not None:
            # It died between the choice and the send, and its funeral did not see this request.
            free_placed(placed)
            _end_trace(on_reply)
            raise Unavailable(_WORKER_DIED)
        return request_id

    @property
    def tracing(self) -> bool:
        """See GatewayPort."""
        return self._tracer.active

    def _traced(self, trace: FrontendTrace, on_reply: OnReply) -> "_TracedReplies":
        """Tell the hub that a trace begins, before its request is sent."""
        received_ns = time.monotonic_ns()
        self._tell(trace.begun(received_ns, time.monotonic_ns()))
        return _TracedReplies(trace, on_reply, self._tell)

    def _tell(self, fragment: Any) -> None:
        """Tell the hub of a trace; if it takes no mail, the trace is lost."""
        with suppress(PeerFull):
            self._node.send_hub(wire.Kind.REPORT, messages.Report(trace=fragment).SerializeToString())

    def _post(self, worker: WorkerPeer, frame: bytes) -> None:
        """Send a frame.

        Raises:
            PeerFull: the worker takes no more.
        """
        self._node.outbox.send(worker.mailbox, frame)

    def _pick(self, target: ServedVersion, body: bytes, owner: str) -> WorkerPeer:
        """Choose the worker with the fewest of our requests; for tensors on a GPU, one that is near to them."""
        best: WorkerPeer | None = None
        workers: Sequence[int] = target.workers
        if self.catalog.has_cuda:
            catalog = self.catalog
            workers = nearest(workers, catalog.devices, catalog.cuda_regions(owner), regions_named(body))
        for pid in workers:
            worker = self._workers.get(pid)
            if worker is not None and (best is None or len(worker.in_flight) < len(best.in_flight)):
                best = worker
        return _checked(best)

    def _home(self, target: ServedVersion, sequence: CorrelationId, after: int = 0) -> tuple[WorkerPeer, bool]:
        """Choose the worker where the step of a sequence is looked for; see `affinity.next_home`."""
        pids = [target.shares[name] for name in homes_of(sequence, tuple(target.shares))]
        pid, last = next_home(pids, self._workers, after)
        return _checked(self._workers.get(pid)), last

    def cancel(self, request_id: int) -> None:
        """See GatewayPort."""
        worker = self._holder(request_id)
        entry = worker.in_flight.get(request_id) if worker is not None else None
        if worker is not None and entry is not None:
            on_reply, entry.on_reply = entry.on_reply, None
            self._send_quietly(worker, wire.Kind.CANCEL, request_id)
            _end_trace(on_reply)

    def interrupt(self, request_id: int) -> None:
        """Tell the model that no more answers are wanted, and go on to wait for what it answers all the same."""
        worker = self._holder(request_id)
        if worker is not None:
            self._send_quietly(worker, wire.Kind.CANCEL, request_id, wire.CANCEL_HEARD)

    def credit(self, request_id: int, count: int) -> None:
        """See GatewayPort."""
        worker = self._holder(request_id)
        if worker is not None:
            self._send_quietly(worker, wire.Kind.CREDIT, request_id, count)

    def _holder(self, request_id: int) -> WorkerPeer | None:
        """Return the worker that a request is at; None: it has been answered."""
        return next((worker for worker in list(self._workers.values()) if request_id in worker.in_flight), None)

    def observe(self, on_change: Callable[[], None]) -> None:
        """See GatewayPort."""
        self._observers[on_change] = None

    def forget(self, on_change: Callable[[], None]) -> None:
        """See GatewayPort."""
        self._observers.pop(on_change, None)

    def control(self, operation: Any, on_result: OnControl) -> None:
        """See GatewayPort."""
        if not self._node.hub_pid:
            on_result(None, Unavailable(NO_HUB))
            return
        byte_size = operation.ByteSize()
        if byte_size > wire.MAX_BODY_SIZE:
            error = (
                f"the call has {byte_size} bytes; allowed are {wire.MAX_BODY_SIZE}. Put large files of a model into "
            )
            on_result(None, InvalidArgument(f"{error}the model repository"))
            return
        request_id = self._node.next_request_id()
        self._controls[request_id] = on_result
        try:
            self._node.send_hub(wire.Kind.CONTROL, operation.SerializeToString(), request_id=request_id)
        except PeerFull:
            if self._controls.pop(request_id, None) is not None:
                on_result(None, Unavailable("the hub is too busy; try again"))

    def _send_quietly(self, worker: WorkerPeer, kind: wire.Kind, request_id: int, number: int = 0) -> None:
        """Send a message whose loss a full or dying worker makes up for by dying."""
        node = self._node
        try:
            self._post(
                worker,
                wire.encode(
                    kind, node.role, node.pid, request_id=request_id, generation=node.generation, number=number
                ),
            )
        except PeerFull:
            log.warning("worker %d takes no mail", worker.pid)

    def handle(self, frame: bytes) -> None:
        """Deal with one frame of the mailbox."""
        message = self._node.decode(frame)
        if message is not None:
            self.dispatch(message)

    def dispatch(self, message: wire.Message) -> None:
        """Deal with one message."""
        kind = message.kind
        if kind is wire.Kind.RESULT or kind is wire.Kind.PARTIAL or kind is wire.Kind.FAILURE:
            self._replied(message)
        elif kind is wire.Kind.KEEP or kind is wire.Kind.RELEASE:
            self._inputs_kept(message)
        elif kind is wire.Kind.CONTROL_RESULT:
            self._controlled(message)
        elif kind is wire.Kind.SNAPSHOT:
            self._new_snapshot(message.head)
        elif kind is wire.Kind.ORDER:
            self._report(message.request_id)
        elif kind is wire.Kind.WAKE:
            self._node.run_posted()

    def _replied(self, message: wire.Message) -> None:
        worker = self._workers.get(message.sender)
        if worker is None or message.generation != self._node.generation:
            return
        request_id = message.request_id
        kind = message.kind
        if kind is wire.Kind.FAILURE and message.flags & wire.FAILURE_STALE and self._resend(worker, request_id):
            return
        final = kind is wire.Kind.RESULT or (kind is wire.Kind.FAILURE and not message.flags & wire.FAILURE_MORE)
        entry = worker.in_flight.pop(request_id, None) if final else worker.in_flight.get(request_id)
        if entry is None or entry.on_reply is None:
            if message.number:
                self._send_quietly(worker, wire.Kind.RELEASE, request_id, message.number)
            if entry is not None and final:
                free_placed(entry.placed)
            return
        if final and entry.placed:
            free_placed(entry.placed)
        try:
            reply = self._reply(worker, message, final)
        except (InternalError, messages.DecodeError) as exc:
            self._send_quietly(worker, wire.Kind.RELEASE, request_id, message.number)
            log.exception("an answer of worker %d cannot be read", worker.pid)
            reply = InferReply(error=InternalError(str(exc)), final=final)
        entry.on_reply(reply)

    def _inputs_kept(self, message: wire.Message) -> None:
        """A model refers to inputs of a request beyond its end; or it does so no more."""
        worker = self._workers.get(message.sender)
        if worker is None or message.generation != self._node.generation:
            return
        if message.kind is wire.Kind.RELEASE:
            free_placed(worker.kept.pop(message.request_id, ()))
        elif (entry := worker.in_flight.get(message.request_id)) is not None:
            worker.kept[message.request_id], entry.placed = entry.placed, ()

    def _resend(self, worker: WorkerPeer, request_id: int) -> bool:
        """Send a request that its worker had no use for elsewhere.

        If it came too late for its load, to the one that serves its model now: the hub has a load retired only when the
        frontends know what serves instead, so the catalog has it. If it is the step of a sequence that is not there, to
        the next worker that may have it.

        Returns:
            False if the failure must be dealt with as any other: nobody waits, or there is nowhere else.
        """
        entry = worker.in_flight.get(request_id)
        if entry is None or entry.on_reply is None:
            return False
        old = wire.decode(entry.frame)
        named = old.flags & wire.FLAG_VERSION or messages.ModelInferRequest.FromString(old.head).model_version
        try:
            target = self.catalog.find(entry.target.model, entry.target.version if named else LATEST)
            moves = target.load_id != entry.target.load_id
            if not moves and not old.flags & wire.FLAG_SEEKS:
                return False
            flags = old.flags & ~wire.FLAG_SEEKS
            if len(target.shares) > 1 and target.sequential and (sequence := correlation_id(old.head)):
                successor, last = self._home(target, sequence, 0 if moves else worker.pid)
                flags |= 0 if last else wire.FLAG_SEEKS
            else:
                owner = messages.RequestExtras.FromString(old.tail).owner if old.tail else ""
                successor = self._pick(target, old.head, owner)
            entry.target = target
            entry.frame = wire.encode(**(old._asdict() | {"number": target.load_id, "flags": flags}))
            # In the new table before it leaves the old one, so that `cancel` finds it.
            successor.in_flight[request_id] = entry
            if successor is not worker:
                del worker.in_flight[request_id]
            self._node.outbox.send(successor.mailbox, entry.frame)
        except PeerFull:
            self._give_up(request_id, entry, Unavailable("Exceeds maximum queue size"))
        except TensorhubError as exc:
            self._give_up(request_id, entry, exc)
        return True

    def _give_up(self, request_id: int, entry: _InFlight, error: TensorhubError) -> None:
        for worker in self._workers.values():
            worker.in_flight.pop(request_id, None)
        free_placed(entry.placed)
        if entry.on_reply is not None:
            entry.on_reply(InferReply(error=error))

    def _reply(self, worker: WorkerPeer, message: wire.Message, final: bool) -> InferReply:
        if message.kind is wire.Kind.FAILURE:
            flags = message.flags
            error = error_for(flags & wire.FAILURE_CODE, message.head.decode("utf-8", "replace"))
            return InferReply(error=error, final=final, refused=flags & wire.FAILURE_REFUSED != 0)
        if message.flags & wire.FLAG_FINAL_ONLY:
            return InferReply(empty=True)
        if not message.flags & wire.FLAG_HEAD_ONLY:
            return InferReply(message.head, final=final)
        outputs: list[bytes | memoryview] = []
        for output in messages.ResponseExtras.FromString(message.tail).outputs:
            if output.HasField("slot"):
                outputs.append(self._peers.view(worker.pid, output.slot.offset, output.slot.byte_size))
            else:
                outputs.append(output.inline)
        request_id, number = message.request_id, message.number
        release = (lambda: self._send_quietly(worker, wire.Kind.RELEASE, request_id, number)) if number else None
        return InferReply(message.head, outputs, final=final, release=release)

    def _controlled(self, message: wire.Message) -> None:
        on_result = self._controls.pop(message.request_id, None)
        if on_result is None or message.generation != self._node.generation:
            return
        on_result(messages.ControlResult.FromString(message.head), None)

    def _new_snapshot(self, head: bytes) -> None:
        snapshot = messages.Snapshot.FromString(head)
        node = self._node
        if snapshot.hub_pid == node.hub_pid and snapshot.revision <= self.catalog.revision:
            return
        node.welcome(snapshot)
        for process in snapshot.processes:
            if process.role == wire.Role.WORKER.name and process.pid not in self._workers:
                self._workers[process.pid] = WorkerPeer(
                    process.pid, node.run_dir.mailbox(wire.Role.WORKER, process.pid)
                )
                node.watcher.watch(
                    process.pid, process.start_ticks, lambda pid: node.post(lambda: self._worker_died(pid))
                )
        self.catalog = Catalog(snapshot)
        logs.change(snapshot.log_changes)
        self._tracer.follow(snapshot.traces, contexts=snapshot.trace_contexts)
        node.acknowledge(snapshot.revision)
        for on_change in list(self._observers):
            on_change()

    def _report(self, request_id: int) -> None:
        """Tell the hub what this process has in flight: the one order that a frontend gets."""
        statistics = messages.ProcessStatistics(
            open_requests=self.in_flight, arena_byte_size=self._arena.byte_size, arena_used=self._arena.used
        )
        report = messages.Report(statistics=statistics)
        try:
            self._node.send_hub(wire.Kind.REPORT, report.SerializeToString(), request_id=request_id)
        except PeerFull:
            log.warning("the hub takes no mail")

    def _worker_died(self, pid: int) -> None:
        worker = self._workers.pop(pid, None)
        if worker is None:
            return
        self._node.outbox.forget(worker.mailbox)
        self._peers.forget(pid)
        error = Unavailable(_WORKER_DIED)
        for placed in worker.kept.values():
            free_placed(placed)
        for request_id in list(worker.in_flight):
            entry = worker.in_flight.pop(request_id, None)
            if entry is not None:
                free_placed(entry.placed)
                if entry.on_reply is not None:
                    entry.on_reply(InferReply(error=error))

    def _hub_lost(self) -> None:
        error = Unavailable("the hub has died before it answered; try again")
        for request_id in list(self._controls):
            on_result = self._controls.pop(request_id, None)
            if on_result is not None:
                on_result(None, error)

    def close_down(self) -> None:
        """Leave the server, when nobody reads the mailbox any more."""
        self._node.close()
        self.handles.close()
        self._arena.close()


def _request_extras(placed: Sequence[PlacedInput], owner: str, origin: Any) -> bytes:
    extras = messages.RequestExtras(owner=owner, trace=origin)
    for item in placed:
        block = item.reservation
        if not isinstance(block, Block):
            raise TypeError(f"a reservation of another gateway: {block!r}")
        extras.inputs.add(index=item.index).data.MergeFrom(
            _ArenaRef(offset=block.offset + item.offset, byte_size=item.byte_size)
        )
    return bytes(extras.SerializeToString())


_ArenaRef = messages.message_class("tensorhub.wire.ArenaRef")


def _checked(worker: WorkerPeer | None) -> WorkerPeer:
    """Return the worker that was chosen.

    Raises:
        Unavailable: there is none, or it has enough to do.
    """
    if worker is None:
        raise Unavailable(_WORKER_DIED)
    if len(worker.in_flight) >= IN_FLIGHT_LIMIT:
        raise Unavailable(QUEUE_FULL)
    return worker


def free_placed(placed: Sequence[PlacedInput]) -> None:
    """Give back the arena memory of a request that no worker reads any more."""
    for item in placed:
        item.reservation.free()
