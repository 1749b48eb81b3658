"""A server without processes: the real gateway, wire format and schedulers, with mailboxes and time that a test moves.

Everything that can happen in any order is a method of SmallServer: a frame arrives, a run ends, time passes, a worker
dies, the frontend hears of it, another worker comes, the model is loaded anew. The workers do as `workers.loop` does
with INFER and CANCEL. All keep books of what a client sees.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from tensorhub.errors import Cancelled, TensorhubError
from tensorhub.frontend.gateway import Gateway
from tensorhub.frontend.port import InferReply, PlacedInput
from tensorhub.ipc import wire
from tensorhub.ipc.arena_memory import Arena
from tensorhub.ipc.rundir import RunDir
from tensorhub.protocol import config_text, messages
from tensorhub.protocol.model_config import complete
from tensorhub.requests import FLAG_SEQUENCE_END, FLAG_SEQUENCE_START, InferRequest, Tensor
from tensorhub.tensors import DataType
from tensorhub.workers.schedulers.choice import choose_scheduler
from tensorhub.workers.schedulers.port import Reject
from tensorhub.workers.schedulers.sequence import SequenceScheduler
from tensorhub.workers.serving import NoPlace, Retired

US = 1_000
_MODEL = "m"
_HUB_PID = 2
_FRONTEND_PID = 3
_PATIENCE = 10_000
"""Rounds until everything must have ended."""


@dataclass(eq=False)
class Call:
    """What a client has asked, and what has become of it.

    Attributes:
        replies: it has got; an exception of `infer` counts as one.
        runs: how often a model was given it.
        cancelled: the client has gone.
    """

    name: str
    replies: list[InferReply] = field(default_factory=list)
    runs: int = 0
    cancelled: bool = False
    request_id: int = 0


class _Outbox:
    """Puts frames into the mailboxes of workers that live."""

    def __init__(self, boxes: dict[Path, deque[bytes]]) -> None:
        self._boxes = boxes

    def send(self, path: Path, *frames: bytes) -> None:
        if path in self._boxes:
            self._boxes[path].extend(frames)

    def forget(self, path: Path) -> None:
        self._boxes.pop(path, None)

    def close(self) -> None:
        """Nothing is held."""


class _Watcher:
    """Remembers whom to tell of which death."""

    def __init__(self) -> None:
        self.watched: dict[int, Callable[[int], None]] = {}

    def watch(self, pid: int, ticks: int, on_death: Callable[[int], None]) -> None:
        self.watched[pid] = on_death


class _Node:
    """The frontend's place among the others; see `ipc.node.Node`."""

    role = wire.Role.GRPC
    pid = _FRONTEND_PID
    generation = 1
    hub_pid = 0

    def __init__(self, boxes: dict[Path, deque[bytes]]) -> None:
        self.run_dir = RunDir(Path("/nowhere"))
        self.outbox = _Outbox(boxes)
        self.watcher = _Watcher()
        self._ids = count(1)

    def next_request_id(self) -> int:
        return next(self._ids)

    def decode(self, frame: bytes) -> wire.Message:
        return wire.decode(frame)

    def post(self, call: Callable[[], None]) -> None:
        call()

    def welcome(self, snapshot: Any) -> None:
        self.hub_pid = snapshot.hub_pid

    def acknowledge(self, revision: int) -> None:
        """No hub waits for it."""

    def close(self) -> None:
        """Nothing is held."""


class _Worker:
    """A process with one load of the model, and loads that it has had before."""

    def __init__(self, server: SmallServer, name: str, pid: int) -> None:
        self._server = server
        self.name = name
        self.pid = pid
        self.mailbox: deque[bytes] = deque()
        self.load_id = 0
        self._schedulers: dict[int, Any] = {}
        self._open: dict[int, tuple[InferRequest, Call, int]] = {}
        self.running: list[tuple[int, int, list[InferRequest]]] = []

    def load(self, load_id: int) -> None:
        """Load the model anew; what is open goes to its end with the load that it has."""
        self.load_id = load_id
        self._schedulers[load_id] = choose_scheduler(self._server.config, 1, {}, 2)

    def take(self, frame: bytes) -> None:
        message = wire.decode(frame)
        if message.kind is wire.Kind.CANCEL:
            self._cancel(message.request_id)
            return
        if message.kind is not wire.Kind.INFER:
            return
        try:
            self._submit(message)
        except TensorhubError as exc:
            stale = wire.FAILURE_STALE if isinstance(exc, Retired) else 0
            self._answer(message.request_id, wire.Kind.FAILURE, exc.code | wire.FAILURE_REFUSED | stale)
        self.poll()

    def _submit(self, message: wire.Message) -> None:
        if message.number != self.load_id:
            raise Retired("unloaded")
        body = messages.ModelInferRequest.FromString(message.head)
        call = self._server.calls[body.id]
        request = _request(body, message.deadline_ns)
        scheduler = self._schedulers[self.load_id]
        seeks = message.flags & wire.FLAG_SEEKS and isinstance(scheduler, SequenceScheduler)
        if seeks and not scheduler.has_place_for(request):
            raise NoPlace("elsewhere")
        scheduler.enqueue(request, self._server.now_ns)
        self._server.note_queued(call, request)
        self._open[message.request_id] = (request, call, self.load_id)

    def _cancel(self, request_id: int) -> None:
        if request_id in self._open:
            request, _, load_id = self._open[request_id]
            for taken_out in self._schedulers[load_id].cancel(request):
                self._end(taken_out, wire.Kind.FAILURE, Cancelled("").code)
            self.poll()

    def poll(self) -> None:
        for load_id, scheduler in self._schedulers.items():
            for decision in scheduler.poll(self._server.now_ns):
                if isinstance(decision, Reject):
                    self._end(decision.request, wire.Kind.FAILURE, decision.error.code)
                    continue
                real = [request for request in decision.requests if request.model == _MODEL and request.request_id]
                for request in real:
                    self._server.note_run(request)
                self.running.append((load_id, decision.instance, real))

    def finish(self, which: int) -> None:
        """A run ends: its requests are answered, and the instance is free."""
        if self.running:
            load_id, instance, requests = self.running.pop(which % len(self.running))
            for request in requests:
                self._end(request, wire.Kind.RESULT, 0)
            self._schedulers[load_id].release(instance)
            self.poll()

    def next_deadline_ns(self) -> int | None:
        found = [due_ns for item in self._schedulers.values() if (due_ns := item.next_deadline_ns()) is not None]
        return min(found, default=None)

    @property
    def waiting(self) -> int:
        return sum(item.waiting for item in self._schedulers.values())

    def _end(self, request: InferRequest, kind: wire.Kind, flags: int) -> None:
        (request_id,) = [key for key, (item, _, _) in self._open.items() if item is request]
        del self._open[request_id]
        self._answer(request_id, kind, flags)

    def _answer(self, request_id: int, kind: wire.Kind, flags: int) -> None:
        frame = wire.encode(kind, wire.Role.WORKER, self.pid, request_id=request_id, generation=1, flags=flags)
        self._server.mailbox.append(frame)


def _request(body: Any, deadline_ns: int) -> InferRequest:
    """What the worker's decoder makes of a message, as far as schedulers look at it."""
    parameters = body.parameters
    rows, length = parameters["rows"].int64_param, parameters["length"].int64_param
    request = InferRequest(_MODEL, 1, body.id, {"x": Tensor("x", DataType.UINT8, (rows, length), bytes(rows * length))})
    request.batch_size = rows
    request.priority = parameters["priority"].int64_param
    request.timeout_us = parameters["timeout"].int64_param
    request.correlation_id = parameters["sequence_id"].int64_param
    request.flags = parameters["flags"].int64_param
    request.deadline_ns = deadline_ns
    return request


class SmallServer:
    """One frontend, and workers that share one model.

    Attributes:
        now_ns: the time of all.
        config: the model's, complete.
        calls: by name.
    """

    def __init__(self, text: str, workers: int = 2) -> None:
        self.config = complete(config_text.parse_text(text, "test"), name=_MODEL)
        self.now_ns = 1
        self.calls: dict[str, Call] = {}
        self.mailbox: deque[bytes] = deque()
        self._boxes: dict[Path, deque[bytes]] = {}
        self._node = _Node(self._boxes)
        self._arena = Arena(1 << 20)
        self.gateway = Gateway(self._node, self._arena)  # type: ignore[arg-type]
        self._names = [f"cpu{number}" for number in range(workers)]
        self._pids = count(100)
        self._revisions = count(1)
        self._load_id = 1
        self.workers: dict[str, _Worker] = {}
        self._dead: list[int] = []
        self._expiries: dict[str, int] = {}
        for name in self._names:
            self.start(name)
        self.publish()

    def close(self) -> None:
        """Give back what the gateway holds."""
        self.gateway.close_down()

    # What a client does

    def infer(self, name: str, deadline_us: int = 0, **parameters: int) -> None:
        """Ask; the parameters are rows, length, priority, timeout, sequence_id and flags ("s" 1, "e" 2)."""
        call = self.calls[name] = Call(name)
        body = messages.ModelInferRequest(model_name=_MODEL, id=name)
        for key, value in ({"rows": 1, "length": 1} | parameters).items():
            body.parameters[key].int64_param = value
        deadline_ns = self.now_ns + deadline_us * US if deadline_us else 0
        placed = [PlacedInput(0, self.gateway.reserve(64), 0, 64)]
        try:
            target = self.gateway.catalog.find(_MODEL, -1)
            call.request_id = self.gateway.infer(
                target, body.SerializeToString(), call.replies.append, placed=placed, deadline_ns=deadline_ns
            )
        except TensorhubError as exc:
            placed[0].reservation.free()
            call.replies.append(InferReply(error=exc))

    def cancel(self, call: Call) -> None:
        """The client goes, if it is still waiting."""
        if not call.replies and not call.cancelled:
            call.cancelled = True
            self.gateway.cancel(call.request_id)

    # What happens meanwhile

    def deliver(self) -> None:
        """The next answer reaches the frontend."""
        if self.mailbox:
            self.gateway.handle(self.mailbox.popleft())

    def arrive(self, name: str) -> None:
        """The next frame reaches a worker."""
        worker = self.workers.get(name)
        if worker is not None and worker.mailbox:
            worker.take(worker.mailbox.popleft())

    def pass_time(self, by_us: int) -> None:
        """Let time pass as the workers' alarms have it: what falls due on the way is polled then."""
        end_ns = self.now_ns + by_us * US
        while True:
            due = [(at, worker) for worker in self.workers.values() if (at := worker.next_deadline_ns()) is not None]
            at_ns, first = min(due, key=lambda item: item[0], default=(end_ns + 1, None))
            if first is None or at_ns > end_ns:
                break
            self.now_ns = max(self.now_ns, at_ns)
            first.poll()
        self.now_ns = end_ns

    def finish(self, name: str, which: int) -> None:
        """A run on a worker ends."""
        if name in self.workers:
            self.workers[name].finish(which)

    def kill(self, name: str) -> None:
        """A worker dies; what it has sent is on its way, what was sent to it is lost."""
        worker = self.workers.pop(name, None)
        if worker is not None:
            del self._boxes[self._path(worker.pid)]
            self._dead.append(worker.pid)

    def bury(self) -> None:
        """The frontend hears of a death."""
        if self._dead:
            pid = self._dead.pop(0)
            on_death = self._node.watcher.watched.get(pid)
            if on_death is not None:  # else it came and went without the frontend's hearing of it
                on_death(pid)

    def start(self, name: str) -> None:
        """A worker comes in the place of a dead one, and loads the model."""
        if name not in self.workers:
            worker = self.workers[name] = _Worker(self, name, next(self._pids))
            self._boxes[self._path(worker.pid)] = worker.mailbox
            worker.load(self._load_id)

    def reload(self) -> None:
        """The model is loaded anew; the frontend hears of it before the old load takes no more requests."""
        self._load_id += 1
        self.publish()
        for worker in self.workers.values():
            worker.load(self._load_id)

    def publish(self) -> None:
        """The hub's newest snapshot reaches the frontend."""
        snapshot = messages.Snapshot(revision=next(self._revisions), hub_pid=_HUB_PID, started=True)
        version = snapshot.models.add(name=_MODEL, wanted=True, known=True).versions.add(
            model=_MODEL, version=1, state="READY", config=self.config.SerializeToString(), load_id=self._load_id
        )
        version.shares.extend(self._names)
        for worker in self.workers.values():
            snapshot.processes.add(role="WORKER", pid=worker.pid, name=worker.name)
            version.workers.append(worker.pid)
        self.gateway.handle(wire.encode(wire.Kind.SNAPSHOT, wire.Role.HUB, _HUB_PID, head=snapshot.SerializeToString()))

    def settle(self, by_us: int) -> None:
        """Let everything that has begun come to its end."""
        while self._dead:
            self.bury()
        for name in self._names:
            self.start(name)
        self.publish()
        for _ in range(_PATIENCE):
            if not self._busy:
                return
            for name in self._names:
                self.arrive(name)
                self.finish(name, 0)
            self.deliver()
            self.pass_time(by_us)
        raise AssertionError("something never ends")

    @property
    def _busy(self) -> bool:
        return bool(self.mailbox) or any(item.mailbox or item.running or item.waiting for item in self.workers.values())

    def _path(self, pid: int) -> Path:
        return self._node.run_dir.mailbox(wire.Role.WORKER, pid)

    # The books

    def note_queued(self, call: Call, request: InferRequest) -> None:
        """A worker has taken a request: from here on its timeout counts, if the model rejects those that are late."""
        policy = self.config.dynamic_batching.default_queue_policy
        own, default = request.timeout_us, policy.default_timeout_microseconds
        timeout_us = own if policy.allow_timeout_override and 0 < own < default else default
        if timeout_us and policy.timeout_action == policy.REJECT:
            self._expiries[call.name] = self.now_ns + timeout_us * US

    def note_run(self, request: InferRequest) -> None:
        """A model is given a request."""
        call = self.calls[request.request_id]
        call.runs += 1
        assert call.runs == 1, "served twice"
        assert not [reply for reply in call.replies if reply.final], "served after its answer"
        assert self.now_ns < self._expiries.get(call.name, self.now_ns + 1), "served after its timeout"
        assert not 0 < request.deadline_ns <= self.now_ns, "served after its deadline"

    def check(self) -> None:
        """Nobody has been answered twice, or after having gone."""
        for call in self.calls.values():
            assert len(call.replies) <= 1, f"{call.name} was answered twice"
            assert not (call.cancelled and call.replies), f"{call.name} had gone"

    def check_all_answered(self) -> None:
        """Everybody who waits has been answered, and no memory is held."""
        self.check()
        lost = [call.name for call in self.calls.values() if not call.replies and not call.cancelled]
        assert lost == []
        assert self.gateway.idle

    def errors(self) -> Sequence[TensorhubError]:
        """What clients have been told went wrong."""
        return [reply.error for call in self.calls.values() for reply in call.replies if reply.error is not None]


FLAGS = {"": 0, "s": FLAG_SEQUENCE_START, "e": FLAG_SEQUENCE_END, "se": FLAG_SEQUENCE_START | FLAG_SEQUENCE_END}
