"""`tensorhub-hub`: one loop that receives events, asks HubState what follows, and does it."""

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tensorhub import logs, settings
from tensorhub.errors import InternalError, InvalidArgument, TensorhubError, Unavailable
from tensorhub.hub import file_regions, inventory, placement
from tensorhub.hub.actions import Action, Answer, Asker, Send
from tensorhub.hub.bequest import Inheritance
from tensorhub.hub.catalogue import ModelCatalogue
from tensorhub.hub.clients import ClientWatch
from tensorhub.hub.cloud import mirror_folder
from tensorhub.hub.file_regions import FileRegions
from tensorhub.hub.loads import Load
from tensorhub.hub.metrics import MetricsPage
from tensorhub.hub.metrics_endpoint import MetricsEndpoint
from tensorhub.hub.plans import LoadFailure
from tensorhub.hub.poller import Poller
from tensorhub.hub.repository import check_model_name, poll_failure
from tensorhub.hub.runtime import RuntimeSettings
from tensorhub.hub.state import CALLER_ROLES, FRONTEND_ROLES, HubState
from tensorhub.hub.statistics import Gatherings, StatisticsBook
from tensorhub.hub.traces import Traces
from tensorhub.ipc import wire
from tensorhub.ipc.gpus import find_gpus
from tensorhub.ipc.lifeline import follow_parent
from tensorhub.ipc.node import Node
from tensorhub.ipc.outbox import PeerFull
from tensorhub.ipc.rundir import RunDir, RunDirError
from tensorhub.logs import set_up
from tensorhub.protocol import messages
from tensorhub.protocol.model_names import bare_name
from tensorhub.protocol.trace_settings import TraceStart

log = logging.getLogger(__name__)

_PROG = "tensorhub-hub"

ACKNOWLEDGE_TIMEOUT_S = 0.25
"""How long a control call waits for frontends that do not acknowledge a snapshot."""

RETIRE_TIMEOUT_S = 5.0
"""How long a load that was replaced is kept for processes that do not acknowledge the snapshot with the new one."""

WORKERS_TIMEOUT_S = 2.0
"""How long the start-up models wait for all workers to come, once the first one has."""

STATISTICS_TIMEOUT_S = 1.0
"""How long statistics wait for a worker whose loop is held up; what it reported last counts then."""

READY_TIMEOUT_S = 5.0
"""How long a model may take to say whether it is ready; Triton's kUserModelReadinessTimeoutMs."""

_NOT_READY = "a model says that it is not ready, or does not answer"

BEQUEST_INTERVAL_S = 1.0
"""How long the number of traces that are left may be known to the hub alone."""

_COUNTING_ROLES = frozenset(("WORKER", "HTTP", "GRPC"))

LOAD_CONTROL_OFF = "explicit model load / unload is not allowed if polling is enabled"


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """Something to do when everybody of `roles` has a revision of the snapshot."""

    revision: int
    roles: frozenset[str]
    call: Callable[[], None]


@dataclass(slots=True, eq=False)
class _Check:
    """Workers that are asked whether models are ready; `missing`: those that have not said yes."""

    missing: set[int]
    number: int = 0


@dataclass(slots=True, eq=False)
class _Joint:
    """Somebody who waits for several loads: with namespacing a name may mean several models."""

    asker: Asker
    waiting: int
    error: TensorhubError | None = None


class Hub:
    """The loop; see the module."""

    def __init__(
        self, node: Node, chosen: settings.Settings, catalogue: ModelCatalogue, gpus: Sequence[str] = ()
    ) -> None:
        self._node = node
        self._settings = chosen
        self._catalogue = catalogue
        self._strings = chosen.as_strings()
        self._runtime = RuntimeSettings(self._strings, TraceStart.read(chosen.tracing.trace_config))
        names = placement.worker_names(chosen.processes.workers, len(gpus), chosen.processes.gpu_workers)
        self._state = HubState(names, time.time_ns(), chosen.shared_memory)
        self._state.lifecycle.gpu_count = len(gpus)
        self._clients = ClientWatch(node.watcher, self._client_died, enabled=chosen.shared_memory.shm_reap)
        self._files = FileRegions(node, chosen.shared_memory, self._state, self._clients)
        self._self = messages.Process(role="HUB", pid=node.pid, start_ticks=node.ticks)
        self._held: list[_Held] = []
        self._joints: dict[Asker, _Joint] = {}
        self._book = StatisticsBook()
        self._inheritance = Inheritance(time.monotonic_ns(), self._runtime, self._state, self._book)
        self._gatherings = Gatherings()
        self._checks: list[_Check] = []
        self._traces = Traces(self._runtime.traces, self._later)
        self._metrics = MetricsPage(chosen, self._state, self._book)
        self._bequest_due = False
        self._begun = False
        self._rejoining = False
        self._silent = False
        self._running = True
        self._poller = Poller(
            catalogue.fingerprints,
            lambda found: node.post(lambda: self._found(found)),
            chosen.repository.repository_poll_secs,
        )

    def run(self) -> None:
        """Serve until `stop`.

        Raises:
            OSError: --shm-socket cannot be had.
        """
        self._node.start()
        self._files.open(self._do)
        receive = self._node.mailbox.receive
        receive_nowait = self._node.mailbox.receive_nowait
        while self._running:
            frame = receive()
            while frame is not None:
                try:
                    self._handle(frame)
                except Exception:
                    log.exception("a message could not be dealt with")
                frame = receive_nowait()
            if self._state.dirty and not self._silent:
                self._publish()
            self._release_held()

    def close(self) -> None:
        """Let go of what `run` has opened, and finish what is written."""
        self._files.close()
        self._traces.close()

    def stop(self) -> None:
        """End; from any thread, and from signal handlers."""
        self._node.post(self._stop)

    def _stop(self) -> None:
        self._state.stop()
        self._publish()
        self._poller.close()
        self._running = False

    def _handle(self, frame: bytes) -> None:
        message = self._node.decode(frame)
        if message is None:
            return
        kind = message.kind
        if kind is wire.Kind.HELLO:
            self._hello(messages.Hello.FromString(message.head))
        elif kind is wire.Kind.REPORT:
            report = messages.Report.FromString(message.head)
            if report.unlinked:
                self._do(self._state.reap([(item.owner, item.name) for item in report.unlinked]))
            elif report.HasField("trace"):
                if self._traces.take(report.trace):
                    self._state.touch()
                elif self._runtime.traces.setting(report.trace.model).trace_count > 0:
                    self._bequeath_later()
            elif report.HasField("readiness"):
                self._readiness_reported(message.sender, report.readiness.ready, message.request_id)
            elif report.HasField("statistics"):
                self._statistics_reported(message.sender, report.statistics, message.request_id)
            else:
                self._do(self._state.reported(message.sender, report, message.request_id))
        elif kind is wire.Kind.ACKNOWLEDGE:
            self._state.acknowledged(message.sender, messages.Acknowledge.FromString(message.head).revision)
        elif kind is wire.Kind.CONTROL:
            self._control(message)
        elif kind is wire.Kind.WAKE:
            self._node.run_posted()

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        self._node.watcher.later(delay_s, lambda: self._node.post(call))

    def _bequeath_later(self) -> None:
        """Tell everybody soon how many traces are left: a count changes too often to be told each time."""
        if not self._bequest_due:
            self._bequest_due = True
            self._later(BEQUEST_INTERVAL_S, self._bequeath)

    def _bequeath(self) -> None:
        self._bequest_due = False
        self._state.touch()

    def _hello(self, hello: Any) -> None:
        process = hello.process
        if hello.rejoining and not self._rejoining and not self._begun:
            # They had another hub before, and what they know of it is better than what we know without the workers.
            self._rejoining = self._silent = True
            self._node.watcher.later(WORKERS_TIMEOUT_S, lambda: self._node.post(self._speak))
        if self._inheritance.take(hello.bequest):
            logs.change(self._runtime.log_changes)
            self._traces.resume()
        new = process.pid not in self._state.processes
        self._files.recover(process.pid, hello.system_regions)
        self._do(self._state.hello(hello))
        if new:
            self._node.watcher.watch(
                process.pid, process.start_ticks, lambda pid: self._node.post(lambda: self._died(pid, process.role))
            )
        if process.role == "WORKER":
            if hello.HasField("statistics"):
                self._book.reported(process.pid, hello.statistics)
            for region in (*hello.system_regions, *hello.cuda_regions):
                self._clients.watch(region.client_pid, region.client_ticks)
            if all(self._state.lifecycle.pids.values()):
                self._begin()
            else:
                self._node.watcher.later(WORKERS_TIMEOUT_S, lambda: self._node.post(self._begin))

    def _client_died(self, pid: int, ticks: int) -> None:
        """On the watcher's thread."""
        self._node.post(lambda: self._do(self._state.client_died(pid, ticks)))

    def _begin(self) -> None:
        """Load what is wanted, once it is known what the workers have already."""
        self._speak()
        if not self._begun:
            self._begun = True
            plans, failed, brought = self._catalogue.startup(self._state.lifecycle.rejoined)
            self._do(self._state.begin(plans, failed, time.monotonic_ns(), brought))
            if self._settings.repository.model_control_mode == "poll":
                self._poller.start()

    def _found(self, found: Mapping[str, str]) -> None:
        """Follow what has changed in the repository."""
        plans, failed, removed = self._catalogue.follow(found)
        for failure in failed:
            self._state.lifecycle.cannot_load(failure)
        for plan in plans:
            self._do(self._state.load(plan, None, time.monotonic_ns()))
        for name in removed:
            self._do(self._state.unload(name))

    def _speak(self) -> None:
        self._silent = False

    def _died(self, pid: int, role: str) -> None:
        self._do(self._state.died(pid))
        self._book.died(pid)
        self._gatherings.died(pid)
        self._node.outbox.forget(self._node.run_dir.mailbox(wire.Role[role], pid))
        self._node.run_dir.forget(pid)

    # Control calls

    def _control(self, message: wire.Message) -> None:
        asker = Asker(message.role.name, message.sender, message.request_id, message.generation)
        try:
            operation = messages.Control.FromString(message.head)
            self._do(self._decide(operation.WhichOneof("operation"), operation, asker))
        except TensorhubError as exc:
            self._answer(asker, _failure(exc))
        except messages.DecodeError as exc:
            self._answer(asker, _failure(InternalError(f"a control call cannot be read: {exc}")))

    def _decide(self, kind: str | None, operation: Any, asker: Asker) -> list[Action]:
        state = self._state
        if kind == "load_model":
            self._check_control()
            return self._load(operation.load_model, asker)
        if kind == "unload_model":
            self._check_control()
            unload = operation.unload_model
            keys = state.lifecycle.keys(unload.name)
            gone = [action for key in keys for action in state.unload(key, with_steps=unload.unload_dependents)]
            return [*gone, Answer(asker)]
        if kind == "register_system":
            return state.register("system", self._clients.mark(operation.register_system, operation.peer), asker)
        if kind == "register_cuda":
            return state.register("cuda", self._clients.mark(operation.register_cuda, operation.peer), asker)
        if kind == "unregister_system":
            region = operation.unregister_system
            return state.unregister("system", region.owner, region.name, asker)
        if kind == "unregister_cuda":
            region = operation.unregister_cuda
            return state.unregister("cuda", region.owner, region.name, asker)
        if kind == "repository_index":
            index = state.index(self._catalogue.names(), self._catalogue.duplicates(), time.monotonic_ns())
            self._answer(asker, messages.ControlResult(index=index))
            return []
        if kind == "statistics":
            self._statistics(operation.statistics, asker)
            return []
        if kind == "check_ready":
            self._check_ready(operation.check_ready.load_ids, asker)
            return []
        if kind == "change_log":
            self._change_log(operation.change_log, asker)
            return []
        if kind == "change_trace":
            self._change_trace(operation.change_trace, asker)
            return []
        if kind == "shutdown":
            self._state.stop()
            return [Answer(asker)]
        raise InvalidArgument("an empty control call")

    def _check_control(self) -> None:
        if self._settings.repository.model_control_mode != "explicit":
            raise Unavailable(LOAD_CONTROL_OFF)

    def _load(self, request: Any, asker: Asker) -> list[Action]:
        """A client wants a model loaded; what is in the cloud is fetched first, on a thread."""
        if not self._catalogue.remote or request.files:
            return self._load_local(request, asker)

        def fetch() -> None:
            error: TensorhubError | None = None
            try:
                self._catalogue.refresh(check_model_name(request.name))
            except TensorhubError as exc:
                error = exc
            except OSError as exc:
                log.error("model '%s' cannot be fetched: %s", request.name, exc)
                error = poll_failure(request.name)
            self._node.post(lambda: self._fetched(request, asker, error))

        threading.Thread(target=fetch, name="fetch", daemon=True).start()
        return []

    def _fetched(self, request: Any, asker: Asker, error: TensorhubError | None) -> None:
        try:
            self._do([Answer(asker, error)] if error is not None else self._load_local(request, asker))
        except TensorhubError as exc:
            self._answer(asker, _failure(exc))

    def _load_local(self, request: Any, asker: Asker) -> list[Action]:
        override = request.config if request.has_config else None
        check_model_name(request.name)
        keys = [request.name] if request.files or request.folder else self._catalogue.keys(request.name)
        try:
            plans = [self._catalogue.plan(key, override, dict(request.files), request.folder) for key in keys]
        except TensorhubError as exc:
            if self._catalogue.has_no_version(request.name):
                self._state.lifecycle.cannot_load(LoadFailure(request.name, exc.message, known=True))
            self._forget_files()
            raise
        if len(plans) > 1:
            asker = self._joint(asker, len(plans))
        actions: list[Action] = []
        for plan in plans:
            actions += self._state.load(plan, asker, time.monotonic_ns(), self._catalogue.steps_of(plan))
        return actions

    def _joint(self, asker: Asker, count: int) -> Asker:
        """Return who asks for several loads in the place of somebody, who hears when all of them have ended."""
        stand_in = Asker("", 0, time.monotonic_ns(), 0)
        self._joints[stand_in] = _Joint(asker, count)
        return stand_in

    def _part_answered(self, joint: "_Joint", answer: Answer) -> None:
        joint.error = joint.error or answer.error
        joint.waiting -= 1
        if not joint.waiting:
            del self._joints[answer.asker]
            self._do([Answer(joint.asker, joint.error)])

    def _forget_files(self) -> None:
        """Remove the files of requests that no load needs any more."""
        self._catalogue.keep({load.path for load in self._state.lifecycle.loads.values()})

    # Settings that change while the server runs

    def _change_log(self, operation: Any, asker: Asker) -> None:
        if self._runtime.change_log(operation.options):
            logs.change(self._runtime.log_changes)
            self._state.touch()
        result = messages.ControlResult(code=operation.code, message=operation.message)
        result.log_options.update({name: self._strings[name] for name in logs.OPTIONS})
        self._answer(asker, result)

    def _change_trace(self, operation: Any, asker: Asker) -> None:
        known = operation.model in self._state.lifecycle.models and self._serves(operation.model)
        shown = self._runtime.change_trace(operation, known=known)
        if operation.values or operation.cleared:
            self._state.touch()
        self._answer(asker, messages.ControlResult(trace=shown))

    def _serves(self, model: str) -> bool:
        return any(version.current for version in self._state.lifecycle.models[model].versions.values())

    # Statistics

    def _statistics(self, operation: Any, asker: Asker) -> None:
        loads = inventory.served(self._state.lifecycle.models, operation.model, operation.version)
        pids = self._state.lifecycle.running({name for load in loads for name in load.workers})
        self._gather(pids, lambda: self._answer(asker, messages.ControlResult(statistics=self._totals(loads))))

    def _totals(self, loads: Sequence[Load]) -> list[Any]:
        found = []
        for load in loads:
            total = self._book.total(load.load_id).statistics
            total.name, total.version = bare_name(load.model), str(load.version)
            found.append(total)
        return found

    def make_page(self, page: "Future[str]") -> None:
        """Make the metrics page; from any thread."""
        self._node.post(lambda: self._gather(list(self._state.processes), lambda: self._finish_page(page)))

    def _finish_page(self, page: "Future[str]") -> None:
        try:
            page.set_result(self._metrics.render())
        except Exception as exc:
            page.set_exception(exc)
            raise

    def _gather(self, pids: Sequence[int], then: Callable[[], None]) -> None:
        """Ask these processes for what they have counted, and call `then` when they have told."""
        order = messages.Order()
        order.report_statistics.SetInParent()
        asked = [pid for pid in pids if self._state.processes[pid].role in _COUNTING_ROLES]
        self._ask(dict.fromkeys(asked, order), then, STATISTICS_TIMEOUT_S)

    def _ask(self, orders: Mapping[int, Any], then: Callable[[], None], timeout_s: float) -> None:
        """Send each process its `tensorhub.wire.Order`, and call `then` when all have answered, or the time is up."""
        number = self._gatherings.ask(orders, then)
        for pid, order in orders.items():
            role = self._state.processes[pid].role
            self._send(role, pid, wire.Kind.ORDER, order.SerializeToString(), number, 0)
        if orders:
            self._later(timeout_s, lambda: self._gatherings.settle(number))

    # Readiness

    def _check_ready(self, load_ids: Sequence[int], asker: Asker) -> None:
        """Ask models, where they are, whether they are ready; one that cannot be asked or does not answer is not."""
        lifecycle = self._state.lifecycle
        orders: dict[int, Any] = {}
        for load_id in load_ids:
            load = lifecycle.loads.get(load_id)
            pids = lifecycle.running(load.workers) if load is not None else ()
            if not pids:
                raise Unavailable(_NOT_READY)
            for pid in pids:
                orders.setdefault(pid, messages.Order()).check_ready.load_ids.append(load_id)
        check = _Check(set(orders))

        def settled() -> None:
            self._checks.remove(check)
            self._answer(asker, _failure(Unavailable(_NOT_READY)) if check.missing else messages.ControlResult())

        self._checks.append(check)
        check.number = self._gatherings.next_id
        self._ask(orders, settled, READY_TIMEOUT_S)

    def _readiness_reported(self, pid: int, ready: bool, number: int) -> None:
        for check in self._checks:
            if check.number == number and ready:
                check.missing.discard(pid)
        self._gatherings.answered(pid, number)

    def _statistics_reported(self, pid: int, report: Any, number: int) -> None:
        if pid in self._state.processes:
            self._book.reported(pid, report)
            self._gatherings.answered(pid, number)

    # Actions

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Answer) and action.asker.role == file_regions.ROLE:
                self._hold(partial(self._files.answer, action.asker, action.error), ACKNOWLEDGE_TIMEOUT_S)
            elif isinstance(action, Answer) and action.asker in self._joints:
                self._part_answered(self._joints[action.asker], action)
            elif isinstance(action, Answer):
                self._answer(action.asker, messages.ControlResult() if action.error is None else _failure(action.error))
            elif action.after_snapshot:
                self._hold(partial(self._order, action), RETIRE_TIMEOUT_S, CALLER_ROLES)
            else:
                self._order(action)

    def _order(self, action: Send) -> None:
        self._send("WORKER", action.pid, wire.Kind.ORDER, action.order.SerializeToString(), action.request_id, 0)

    def _answer(self, asker: Asker, result: Any) -> None:
        """Answer when every frontend has what will be published next, or in a quarter of a second."""
        head = result.SerializeToString()
        self._hold(
            lambda: self._send(
                asker.role, asker.pid, wire.Kind.CONTROL_RESULT, head, asker.request_id, asker.generation
            ),
            ACKNOWLEDGE_TIMEOUT_S,
        )

    def _hold(self, call: Callable[[], None], timeout_s: float, roles: frozenset[str] = FRONTEND_ROLES) -> None:
        """Do it when everybody of these roles has what will be published next, or after a while."""
        held = _Held(self._state.revision + (1 if self._state.dirty else 0), roles, call)
        self._held.append(held)
        if not self._state.all_have(held.revision, roles):
            self._node.watcher.later(timeout_s, lambda: self._node.post(lambda: self._release_held(held)))

    def _release_held(self, overdue: "_Held | None" = None) -> None:
        waiting, self._held = self._held, []
        for held in waiting:
            if held is overdue or self._state.all_have(held.revision, held.roles):
                held.call()
            else:
                self._held.append(held)

    def _publish(self) -> None:
        self._book.keep(self._state.lifecycle.loads.keys())
        self._forget_files()
        snapshot = self._state.publish(self._self, self._strings)
        self._runtime.fill(snapshot)
        snapshot.bequest = self._inheritance.leave(snapshot.revision)
        head = snapshot.SerializeToString()
        for process in list(self._state.processes.values()):
            self._send(process.role, process.pid, wire.Kind.SNAPSHOT, head, 0, 0)
        self._files.forget_closed()

    def _send(self, role: str, pid: int, kind: wire.Kind, head: bytes, request_id: int, generation: int) -> None:
        if pid not in self._state.processes:
            return
        frame = wire.encode(
            kind, wire.Role.HUB, self._node.pid, request_id=request_id, generation=generation, head=head
        )
        try:
            self._node.outbox.send(self._node.run_dir.mailbox(wire.Role[role], pid), frame)
        except PeerFull:
            log.warning("process %d takes no mail", pid)


def _failure(error: TensorhubError) -> Any:
    return messages.ControlResult(code=1 + error.code, message=error.message)


def _open_metrics(chosen: settings.Settings, hub: Hub) -> MetricsEndpoint | ExitStack:
    """Serve metrics, unless they are switched off, until the result is closed.

    Raises:
        Unavailable: the port is taken, or the address is not one of this host.
    """
    if not chosen.metrics.allow_metrics:
        return ExitStack()
    place = settings.metrics_address(chosen), chosen.metrics.metrics_port
    try:
        endpoint = MetricsEndpoint(*place, hub.make_page)
    except OSError as exc:
        raise Unavailable(
            f"cannot serve metrics at {place[0]}:{place[1]} (--metrics-address, --metrics-port): {exc.strerror or exc}"
        ) from exc
    endpoint.start()
    return endpoint


def main(argv: Sequence[str] | None = None) -> int:
    """Run the hub until SIGTERM. Returns the exit status: 1 if it cannot start."""
    try:
        chosen = settings.load(sys.argv[1:] if argv is None else argv)
        settings.check_servable(chosen)
    except settings.HelpRequested:
        sys.stdout.write(settings.help_text(_PROG))
        return 0
    except settings.SettingsError as exc:
        sys.stderr.write(f"{_PROG}: {exc}\n")
        return 1
    supervised = follow_parent()
    set_up(chosen, "hub")
    run_dir = RunDir(Path(chosen.server.run_dir))
    paths = chosen.repository.model_repository
    gpus = [gpu.uuid for gpu in find_gpus()] if chosen.processes.gpu_workers else []
    try:
        run_dir.open()
        with mirror_folder(paths) as mirrors, run_dir.lock():
            catalogue = ModelCatalogue(
                chosen.repository,
                gpus,
                supervised=supervised,
                mirrors_in=mirrors,
                rate_limit=chosen.rate_limiter.rate_limit == "execution_count",
            )
            catalogue.check()
            run_dir.forget_the_dead()
            node = Node(run_dir, wire.Role.HUB)
            hub = Hub(node, chosen, catalogue, gpus)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: hub.stop())
            with ExitStack() as held:
                held.callback(catalogue.close)
                held.callback(node.close)
                held.callback(hub.close)
                held.callback(_open_metrics(chosen, hub).close)
                hub.run()
    except (RunDirError, TensorhubError) as exc:
        sys.stderr.write(f"{_PROG}: {exc}\n")
        return 1
    except OSError as exc:
        sys.stderr.write(f"{_PROG}: --shm-socket={chosen.shared_memory.shm_socket}: {exc.strerror or exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
