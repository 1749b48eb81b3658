"""The worker's loop: one mailbox, from which everything that happens to a worker comes, in order.

The loop decodes requests, schedules them, and runs the models that are quick. Loading happens on loader threads (see
`loads`), other models on the threads of their instances; both send their answers themselves and `post` what concerns
the loop.

A request is open from its arrival until its final answer, keyed by (frontend's pid, request id). It is closed exactly
once, by whoever answers it, which releases the regions that it pinned. The arena slots of an answer stay taken until
the frontend says RELEASE, or dies.
"""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tensorhub.errors import InternalError, TensorhubError
from tensorhub.frontend.gateway import Gateway
from tensorhub.ipc import wire
from tensorhub.ipc.arena_memory import Arena
from tensorhub.ipc.handed_out import TRIAL, HandedOut
from tensorhub.ipc.node import Node
from tensorhub.ipc.outbox import PeerFull
from tensorhub.ipc.peer_arenas import PeerArenas
from tensorhub.ipc.regions import RegionTable
from tensorhub.memory import Memory, Slot
from tensorhub.option_kinds import Scoped
from tensorhub.protocol import messages
from tensorhub.protocol.metrics_config import MetricsConfig
from tensorhub.requests import InferRequest, InferResponse
from tensorhub.workers.alarms import Alarms
from tensorhub.workers.calls import ModelCalls
from tensorhub.workers.device_health import DeviceHealth
from tensorhub.workers.flow import Window
from tensorhub.workers.lent_inputs import KeptInputs, kept_inputs
from tensorhub.workers.loading import load, refuse
from tensorhub.workers.loads import WorkerLoads
from tensorhub.workers.readiness import ask_all
from tensorhub.workers.reaper import Reaper
from tensorhub.workers.report import process_statistics
from tensorhub.workers.request_trace import RequestTrace
from tensorhub.workers.serving import NoPlace, Retired, ServingModel
from tensorhub.workers.turns import Turns

if TYPE_CHECKING:
    from tensorhub.workers.cache_stores import CacheStore

log = logging.getLogger(__name__)

Key = tuple[int, int]
"""(frontend's pid, request id)."""

SlotKey = tuple[int, int, int]
"""(frontend's pid, request id, number of the answer)."""

_GATHER_LIMIT = 64
"""Messages that are taken before models that batch are polled: enough to fill a batch, and a few milliseconds."""

_ANSWER_DELAY_NS = 30_000
"""How long an answer may wait for others to the same frontend while there is more to run."""

_TOGETHER_FOR_HTTP = 8
"""Answers of a batch that leave for an HTTP process in one message: it works on the first while the last are being
written. PERF: batches of 32 over HTTP, 1.2 to 1.4 times the requests. A gRPC process has more to do for an answer than
a worker has, and is best woken once."""

REPORT_INTERVAL_S = 0.5
"""A busy worker tells the hub this often what it has counted: what is lost when it
dies. An idle one is silent."""


class _Token(NamedTuple):
    """How to find the client of a request again; `heard`: it reads the answers."""

    key: Key
    generation: int
    mailbox: Path
    model: ServingModel
    from_http: bool
    window: Window | None
    heard: bool = True


_Answer = tuple[_Token, int, bytes]
"""Whose it is, the number of its slots, and the frame."""


class WorkerLoop:
    """See the module."""

    def __init__(
        self,
        node: Node,
        gateway: Gateway,
        memory: Memory,
        peers: PeerArenas,
        regions: RegionTable,
        *,
        arena: Arena,
        loader_threads: int,
        metrics: MetricsConfig,
        load_retries: int = 0,
        backends: Sequence[Scoped] = (),
        turns: Turns | None = None,
        cache: "CacheStore | None" = None,
        refusal: str = "",
        health: DeviceHealth | None = None,
        handed_out: HandedOut | None = None,
    ) -> None:
        self._arena = arena
        self._cache = cache
        self._node = node
        self._gateway = gateway
        self.calls = ModelCalls(gateway, self)
        self._memory = memory
        self._peers = peers
        self._regions = regions
        self._health = health or DeviceHealth()
        self._handed_out = handed_out
        self._alarms = Alarms()
        self._gathering: dict[ServingModel, None] = {}
        self._due_ns: dict[ServingModel, int] = {}  # when those that wait for more are to be polled again
        self._loads = WorkerLoads(
            partial(refuse, reason=refusal)
            if refusal
            else partial(
                load,
                memory=memory,
                alarms=self._alarms,
                calls=self.calls,
                metrics=metrics,
                backends=backends,
                turns=turns,
                cache=cache,
            ),
            node.post,
            node.watcher.later,
            self._report,
            threads=loader_threads,
            retries=load_retries,
        )
        self._models = self._loads.models
        self._frontends: dict[int, Path] = {}
        self._open: dict[Key, InferRequest] = {}
        self._slots: dict[SlotKey, list[Slot]] = {}
        self._slot_numbers = itertools.count(1)
        self._kept = KeptInputs[_Token](node.post, lambda token: self._tell(token, wire.Kind.RELEASE))
        self._answers: list[_Answer] = []
        self._answers_due_ns = 0
        self._report_due = False
        self._stopping = False
        self._running = True
        self._thread = 0
        self._successors: list[threading.Thread] = []

    def __repr__(self) -> str:
        return f"<WorkerLoop {self._node!r}, {len(self._models)} models, {len(self._open)} requests open>"

    def run(self) -> None:
        """Work until `stop` has been called and the last request has been answered."""
        self._gateway.open(self._fill_hello, self._handed_out.hub_lost if self._handed_out is not None else None)
        self._turn()
        for thread in self._successors:  # which may grow meanwhile
            thread.join()
        self._kept.close()
        self._alarms.close()
        self._loads.close()

    @property
    def models(self) -> Mapping[int, ServingModel]:
        """By load id."""
        return self._models

    @property
    def is_current(self) -> bool:
        """This is the loop's thread."""
        return threading.get_ident() == self._thread

    def step_aside(self) -> None:
        """If this is the loop's thread, let another one be it: this one is going to wait for another model.

        The mailbox is read by one thread at a time: this one does not come back to it. What is still on its stack
        (the end of a run) may happen on any thread.
        """
        if self.is_current:
            self._send_answers()
            self._thread = 0
            successor = threading.Thread(target=self._turn, name="loop")
            self._successors.append(successor)
            successor.start()

    def post(self, call: Callable[[], None]) -> None:
        """Have `call` run on the loop's thread; from any thread, and at any point of it."""
        self._node.post(call)

    def _turn(self) -> None:
        """Be the loop, until the end or until this thread has stepped aside."""
        me = self._thread = threading.get_ident()
        mailbox = self._node.mailbox
        receive, receive_nowait = mailbox.receive, mailbox.receive_nowait
        self._end_turn(me)  # that of the thread before this one, which has gone to wait in the middle of it
        while self._running and self._thread == me:
            frame = receive() if not self._due_ns else self._receive_in_time()
            taken = 0
            while frame is not None:
                self._take(frame)
                if self._thread != me:
                    return
                taken += 1
                if taken == _GATHER_LIMIT or (self._answers_due_ns and time.monotonic_ns() >= self._answers_due_ns):
                    break
                frame = receive_nowait()
            self._end_turn(me)

    def _end_turn(self, me: int) -> None:
        """Do together what the messages of a turn have brought about."""
        if self._gathering:
            self._poll_gathered()
        if self._answers and self._thread == me:
            self._send_answers()

    def _receive_in_time(self) -> bytes | None:
        """Receive, at most until a model is due, which then gathers."""
        frame = self._node.mailbox.receive_until(min(self._due_ns.values()))
        now_ns = time.monotonic_ns()
        for model in [model for model, due_ns in self._due_ns.items() if due_ns <= now_ns]:
            self._gathering[model] = None
        return frame

    def _take(self, frame: bytes) -> None:
        try:
            self._handle(frame)
        except Exception:
            log.exception("a message could not be dealt with")

    def _poll_gathered(self) -> None:
        """Let the models that batch have together what has arrived."""
        gathering, me = self._gathering, self._thread
        while gathering:
            model = next(iter(gathering))
            del gathering[model]
            due_ns = model.poll_on_loop()
            if self._thread != me:
                return  # the others are the next thread's
            if due_ns is not None:
                self._due_ns[model] = due_ns
            else:
                self._due_ns.pop(model, None)

    def _send_answers(self) -> None:
        answers, self._answers, self._answers_due_ns = self._answers, [], 0
        if len(answers) == 1:
            self._post(answers)
            return
        by_frontend: dict[int, list[_Answer]] = {}
        for answer in answers:
            by_frontend.setdefault(answer[0].key[0], []).append(answer)
        for together in by_frontend.values():
            self._post(together)

    def stop(self, timeout_s: float) -> None:
        """Take no more requests, answer those that are open, end; from any thread, and from signal handlers."""
        self._node.post(lambda: self._stop(timeout_s))

    def _stop(self, timeout_s: float) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._node.watcher.later(timeout_s, lambda: self._node.post(self._end))
        self._end_if_idle()

    def _end(self) -> None:
        for request in list(self._open.values()):
            if isinstance(request.token, _Token) and request.token.window is not None:
                request.token.window.close()  # its model would wait for ever
        self._running = False

    def _end_if_idle(self) -> None:
        if self._stopping and not self._open:
            self._running = False

    def reap(self) -> None:
        """Begin to tell the hub of regions that have lost their name; before `run`."""
        Reaper(self._node, self._regions, self._report).start()

    def _fill_hello(self, hello: Any) -> None:
        hello.models.extend(self._loads.news())
        for model in self._models.values():
            model.report_all()
        if hello.rejoining:
            hello.statistics.CopyFrom(self._statistics())
        for region in self._regions.snapshot():
            (hello.cuda_regions if hasattr(region, "raw_handle") else hello.system_regions).append(region)

    def _handle(self, frame: bytes) -> None:
        message = self._node.decode(frame)
        if message is None:
            return
        kind = message.kind
        if kind is wire.Kind.INFER:
            self._infer(message)
        elif kind is wire.Kind.RELEASE and message.number:
            self._release((message.sender, message.request_id, message.number))
        elif kind is wire.Kind.CANCEL:
            request = self._open.get((message.sender, message.request_id))
            if request is not None:
                _cancel(request, heard=message.number == wire.CANCEL_HEARD)
        elif kind is wire.Kind.CREDIT:
            request = self._open.get((message.sender, message.request_id))
            if request is not None and isinstance(request.token, _Token) and request.token.window is not None:
                request.token.window.give(message.number)
        elif kind is wire.Kind.ORDER:
            self._order(message)
        else:
            self._gateway.dispatch(message)

    # Requests

    def _infer(self, message: wire.Message) -> None:
        arrival_ns = time.monotonic_ns()
        sender = message.sender
        mailbox = self._frontends.get(sender) or self._meet(sender, message.role)
        key = (sender, message.request_id)
        model = self._models.get(message.number)
        try:
            if model is None:
                raise Retired("the model has been unloaded or reloaded meanwhile; try again")
            request = model.decoder.decode(message, arrival_ns)
        except TensorhubError as exc:
            self._fail(mailbox, key, message.generation, exc, wire.FAILURE_REFUSED)
            return
        except Exception as exc:
            log.exception("a request could not be decoded")
            error = InternalError(f"{type(exc).__name__}: {exc}")
            self._fail(mailbox, key, message.generation, error, wire.FAILURE_REFUSED)
            return
        flags = message.flags
        if flags & wire.FLAG_SEEKS and not model.has_place_for(request):
            for lease in request.leases:
                lease.release()
            elsewhere = NoPlace("the sequence is not on this worker; try again")
            self._fail(mailbox, key, message.generation, elsewhere, wire.FAILURE_REFUSED)
            return
        window = Window() if model.decoupled and flags & wire.FLAG_STREAM else None
        request.token = _Token(key, message.generation, mailbox, model, flags & wire.FLAG_FROM_HTTP != 0, window)
        request.responder = self._respond
        if flags & wire.FLAG_TRACED:
            self._trace(request, message.tail)
        self._open[key] = request
        if not self._report_due:
            self._report_later()
        try:
            model.submit(request)
            if model.gathers:
                self._gathering[model] = None
        except TensorhubError as exc:
            del self._open[key]
            for lease in request.leases:
                lease.release()
            if request.trace is not None:
                request.trace.responded(None, True, time.monotonic_ns())
            self._fail(mailbox, key, message.generation, exc, wire.FAILURE_REFUSED)

    def _trace(self, request: InferRequest, tail: bytes) -> None:
        """Have a request traced."""
        origin = messages.RequestExtras.FromString(tail).trace
        request.trace = RequestTrace(origin, request, lambda fragment: self._report(messages.Report(trace=fragment)))
        request.trace.queued(request, time.monotonic_ns())

    def _meet(self, pid: int, role: wire.Role) -> Path:
        """Note a frontend at its first request."""
        mailbox = self._frontends[pid] = self._node.run_dir.mailbox(role, pid)
        self._node.watcher.watch(pid, None, lambda dead: self._node.post(lambda: self._frontend_died(dead)))
        return mailbox

    def _frontend_died(self, pid: int) -> None:
        mailbox = self._frontends.pop(pid, None)
        if mailbox is not None:
            self._node.outbox.forget(mailbox)
        self._peers.forget(pid)
        for key in [key for key in self._open if key[0] == pid]:
            request = self._open.get(key)
            if request is not None:
                _cancel(request)
        for slot_key in [slot_key for slot_key in list(self._slots) if slot_key[0] == pid]:
            self._release(slot_key)

    def _release(self, key: SlotKey) -> None:
        for slot in self._slots.pop(key, ()):
            slot.free()

    def _respond(self, request: InferRequest, response: InferResponse | None, final: bool) -> None:
        """The responder of every request; on any thread."""
        token = request.token
        if not isinstance(token, _Token):
            raise TypeError(f"a request of another worker: {request!r}")
        if not final and token.window is not None:
            token.window.take()
        more = 0 if final else wire.FAILURE_MORE
        output_start_ns = time.monotonic_ns() if token.model.decoupled else 0
        if request.trace is not None:
            request.trace.responded(response, final, time.monotonic_ns())
        if final and request.leases and (kept := kept_inputs(request, response)):
            self._tell(token, wire.Kind.KEEP)
            self._kept.keep(token, kept)
        try:
            if not token.heard and not final:
                pass  # nobody reads it
            elif response is None:
                self._send(token, wire.Kind.RESULT, wire.FLAG_FINAL_ONLY, b"", b"")
            elif response.error is not None:
                self._fail(token.mailbox, token.key, token.generation, response.error, more)
            else:
                self._send_response(request, token, response, final)
        except TensorhubError as exc:
            self._fail(token.mailbox, token.key, token.generation, exc, more)
        except Exception as exc:
            log.exception("an answer could not be sent")
            error = InternalError(f"{type(exc).__name__}: {exc}")
            self._fail(token.mailbox, token.key, token.generation, error, more)
        finally:
            if output_start_ns:
                token.model.observe_response(request, response, output_start_ns, time.monotonic_ns())
            if final:
                self._close_request(request, token)

    def _send_response(self, request: InferRequest, token: _Token, response: InferResponse, final: bool) -> None:
        head, tail, flags, slots = token.model.encoder.encode(request, response, from_http=token.from_http)
        number = 0
        if slots:
            number = next(self._slot_numbers)
            self._slots[(*token.key, number)] = slots
        try:
            self._send(token, wire.Kind.RESULT if final else wire.Kind.PARTIAL, flags, head, tail, number)
        except wire.WireError:
            self._release((*token.key, number))
            raise
        if slots and token.key[0] not in self._frontends:
            self._release((*token.key, number))  # its funeral was before these slots

    def _tell(self, token: _Token, kind: wire.Kind) -> None:
        """Tell an asker something about a request that is no answer."""
        node = self._node
        sender, request_id = token.key
        if sender in self._frontends:
            frame = wire.encode(kind, wire.Role.WORKER, node.pid, request_id=request_id, generation=token.generation)
            try:
                node.outbox.send(token.mailbox, frame)
            except PeerFull:
                log.warning("frontend %d takes no mail", sender)

    def _send(self, token: _Token, kind: wire.Kind, flags: int, head: bytes, tail: bytes, number: int = 0) -> None:
        node = self._node
        sender, request_id = token.key
        if sender not in self._frontends:
            return
        frame = wire.encode(
            kind,
            wire.Role.WORKER,
            node.pid,
            request_id=request_id,
            generation=token.generation,
            flags=flags,
            number=number,
            head=head,
            tail=tail,
        )
        # A partial answer goes at once: the last one may come from another thread, and must not overtake it.
        if kind is wire.Kind.PARTIAL or threading.get_ident() != self._thread:
            self._post([(token, number, frame)])
            return
        if not self._answers:
            self._answers_due_ns = time.monotonic_ns() + _ANSWER_DELAY_NS
        self._answers.append((token, number, frame))
        if token.from_http and len(self._answers) >= _TOGETHER_FOR_HTTP:
            self._send_answers()

    def _post(self, answers: Sequence[_Answer]) -> None:
        """Send answers to one frontend."""
        try:
            self._node.outbox.send(answers[0][0].mailbox, *[frame for _, _, frame in answers])
        except PeerFull:
            for token, number, _ in answers:
                log.warning("frontend %d takes no mail: an answer is lost", token.key[0])
                self._release((*token.key, number))

    def _fail(self, mailbox: Path, key: Key, generation: int, error: TensorhubError, flags: int) -> None:
        frame = wire.encode(
            wire.Kind.FAILURE,
            wire.Role.WORKER,
            self._node.pid,
            request_id=key[1],
            generation=generation,
            flags=error.code | flags | (wire.FAILURE_STALE if isinstance(error, Retired) else 0),
            head=error.message.encode("utf-8", "replace"),
        )
        if key[0] in self._frontends:
            try:
                self._node.outbox.send(mailbox, frame)
            except PeerFull:
                log.warning("frontend %d takes no mail: an answer is lost", key[0])
        self._health.after(error)

    def _close_request(self, request: InferRequest, token: _Token) -> None:
        if self._open.pop(token.key, None) is None:
            return
        for lease in request.leases:
            lease.release()
        token.model.closed()
        if self._stopping:
            self._node.post(self._end_if_idle)

    # Orders of the hub

    def _order(self, message: wire.Message) -> None:
        order = messages.Order.FromString(message.head)
        kind = order.WhichOneof("order")
        if kind == "load_model":
            self._loads.load(order.load_model)
        elif kind == "unload_model":
            self._loads.unload(order.unload_model.load_id)
        elif kind == "end":
            self.stop(0.0)
        elif kind == "check_ready":
            self._check_ready(order.check_ready.load_ids, message.request_id)
        elif kind == "release_handed_out":
            if self._handed_out is not None:
                self._handed_out.release(order.release_handed_out.numbers)
        elif kind == "make_region":
            self._make_region(order.make_region.owner, message.request_id)
        elif kind == "report_statistics":
            self._report(messages.Report(statistics=self._statistics()), message.request_id)
        else:
            self._report_of(message.request_id, lambda: self._region_order(kind, order, message.sender))

    def _make_region(self, owner: str, request_id: int) -> None:
        """Make a region as for an output, for a client that wants to know whether it can take one."""
        made = messages.MadeRegion()
        try:
            if self._handed_out is None:
                raise InternalError("this worker makes no regions for outputs")
            made.name = self._handed_out.make(memoryview(TRIAL), owner)
        except TensorhubError as exc:
            made.code, made.message = 1 + exc.code, exc.message
        self._report(messages.Report(made_region=made), request_id)

    def _check_ready(self, load_ids: Sequence[int], request_id: int) -> None:
        """Ask models whether they are ready; what is not loaded is not."""

        def answered(ready: bool) -> None:
            self._report(messages.Report(readiness=messages.Readiness(ready=ready)), request_id)

        models = [self._models.get(load_id) for load_id in load_ids]
        if None in models:
            answered(False)
            return
        ask_all([model.readiness for model in models if model is not None and model.readiness is not None], answered)

    def _region_order(self, kind: str | None, order: Any, hub_pid: int) -> str:
        """Carry out an order about a region; return the GPU that it lies on, "" for none."""
        if kind == "open_system_region":
            self._regions.open_system(order.open_system_region.region, hub_pid)
        elif kind == "open_cuda_region":
            return str(self._regions.open_cuda(order.open_cuda_region.region))
        elif kind == "close_region":
            self._regions.close(order.close_region.name, order.close_region.owner)
        return ""

    def _report_of(self, request_id: int, work: Callable[[], str]) -> None:
        own_gpu = self._regions.gpu
        try:
            region_gpu = work()
        except TensorhubError as exc:
            self._report(messages.Report(code=1 + exc.code, message=exc.message, own_gpu=own_gpu), request_id)
            self._health.after(exc)
        except Exception:
            log.exception("an order could not be carried out")
            error = InternalError("a worker could not do its part; its log says why")
            self._report(messages.Report(code=1 + error.code, message=error.message, own_gpu=own_gpu), request_id)
        else:
            self._report(messages.Report(region_gpu=region_gpu, own_gpu=own_gpu), request_id)

    def _report(self, report: Any, request_id: int = 0) -> None:
        try:
            self._node.send_hub(wire.Kind.REPORT, report.SerializeToString(), request_id=request_id)
        except PeerFull:
            log.warning("the hub takes no mail")

    # Statistics

    def _statistics(self) -> Any:
        copies = self._regions.device_copies
        return process_statistics(self._models.values(), len(self._open), self._arena, copies, self._cache)

    def _report_later(self) -> None:
        self._report_due = True
        self._node.watcher.later(REPORT_INTERVAL_S, lambda: self._node.post(self._report_unasked))

    def _report_unasked(self) -> None:
        self._report_due = False
        self._report(messages.Report(statistics=self._statistics()))
        if self._open or self._slots:
            self._report_later()


def _cancel(request: InferRequest, *, heard: bool = False) -> None:
    """No answers of a request are wanted any more; `heard`: those that its model gives all the same are read."""
    token = request.token
    if isinstance(token, _Token):
        if not heard:
            request.token = token._replace(heard=False)
        token.model.cancel(request)
        if token.window is not None and not heard:
            token.window.close()
