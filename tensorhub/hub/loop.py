"""The hub's loop: one thread that receives, asks HubState what follows, and has it carried out.

    processes      --HELLO, REPORT, ACKNOWLEDGE--> state, statistics, traces
    control calls  --CONTROL--> `control`, and with models `model_control`
    what follows   --> `outgoing`, at the end of each turn with a new snapshot if anything has changed

Other threads (of the watcher, the metrics page, the poller, the socket for files) post calls, which run here.
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from tensorhub import logs, settings
from tensorhub.hub import file_regions, placement
from tensorhub.hub.account import open_account
from tensorhub.hub.actions import Answer
from tensorhub.hub.bequest import Inheritance
from tensorhub.hub.catalogue import ModelCatalogue
from tensorhub.hub.clients import ClientWatch
from tensorhub.hub.control import ControlCalls
from tensorhub.hub.file_regions import FileRegions
from tensorhub.hub.metrics import MetricsPage
from tensorhub.hub.model_control import ModelControl
from tensorhub.hub.outgoing import ACKNOWLEDGE_TIMEOUT_S, Outgoing
from tensorhub.hub.questions import Questions
from tensorhub.hub.runtime import RuntimeSettings
from tensorhub.hub.state import FRONTEND_ROLES, HubState
from tensorhub.hub.statistics import StatisticsBook
from tensorhub.hub.traces import Traces
from tensorhub.ipc import wire
from tensorhub.ipc.node import Node
from tensorhub.protocol import messages
from tensorhub.protocol.trace_settings import TraceStart

log = logging.getLogger(__name__)

WORKERS_TIMEOUT_S = 2.0
"""How long the start-up models wait for all workers to come, once the first one has."""

HEIR_DELAY_S = 4.0
"""How long what depends on it waits, after this hub's beginning, for somebody to tell what another one has left."""

BEQUEST_INTERVAL_S = 1.0
"""How long the number of traces that are left may be known to the hub alone."""


class Hub:
    """See the module."""

    def __init__(
        self, node: Node, chosen: settings.Settings, catalogue: ModelCatalogue, gpus: Sequence[str] = ()
    ) -> None:
        self._node = node
        self._self = messages.Process(role="HUB", pid=node.pid, start_ticks=node.ticks)
        self._runtime = RuntimeSettings(chosen.as_strings(), TraceStart.read(chosen.tracing.trace_config))
        names = placement.worker_names(chosen.processes.workers, len(gpus), chosen.processes.gpu_workers)
        self._account = open_account(node, chosen.shared_memory, lambda: self._files.grown_byte_size())
        self._state = HubState(
            names, time.time_ns(), chosen.shared_memory, self._account.registered, self._account.grown
        )
        self._state.lifecycle.gpu_count = len(gpus)
        self._book = StatisticsBook()
        self._inheritance = Inheritance(time.monotonic_ns(), self._runtime, self._state, self._book, catalogue.seen)
        self._traces = Traces(self._runtime.traces, self._later)
        self._metrics = MetricsPage(chosen, self._state, self._book)
        self._outgoing = Outgoing(node, self._state, self._later)
        self._outgoing.hand_answers(file_regions.ROLE, self._answer_file)
        self._clients = ClientWatch(node.watcher, self._client_died, enabled=chosen.shared_memory.shm_reap)
        self._files = FileRegions(node, chosen.shared_memory, self._state, self._clients, self._account.inherited)
        self._models = ModelControl(chosen.repository, catalogue, self._state, self._outgoing, node.post)
        self._questions = Questions(self._state, self._book, self._outgoing, self._later)
        self._control = ControlCalls(
            self._state, self._models, self._clients, self._runtime, self._book, self._questions, self._outgoing
        )
        self._bequest_due = False
        self._begun = False
        self._rejoining = False
        self._silent = False
        self._kept: Any = None
        self._until_known: list[Callable[[], None]] | None = []  # waits for what another hub has left
        self._running = True

    def run(self) -> None:
        """Serve until `stop`.

        Raises:
            OSError: --shm-socket cannot be had.
        """
        self._node.start()
        self._files.open(self._outgoing.do, self._when_known)
        self._later(HEIR_DELAY_S, self._now_known)
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
            self._outgoing.release()

    def close(self) -> None:
        """Let go of what `run` has opened, and finish what is written."""
        self._files.close()
        self._account.close()
        self._traces.close()

    def stop(self) -> None:
        """End; from any thread, and from signal handlers."""
        self._node.post(self._stop)

    def _stop(self) -> None:
        self._state.stop()
        self._publish()
        self._models.close()
        self._running = False

    def _handle(self, frame: bytes) -> None:
        message = self._node.decode(frame)
        if message is None:
            return
        kind = message.kind
        if kind is wire.Kind.HELLO:
            self._hello(messages.Hello.FromString(message.head))
        elif kind is wire.Kind.REPORT:
            self._reported(message.sender, messages.Report.FromString(message.head), message.request_id)
        elif kind is wire.Kind.ACKNOWLEDGE:
            self._state.acknowledged(message.sender, messages.Acknowledge.FromString(message.head).revision)
        elif kind is wire.Kind.CONTROL:
            self._control.take(message)
        elif kind is wire.Kind.WAKE:
            self._node.run_posted()

    def _reported(self, sender: int, report: Any, request_id: int) -> None:
        """A process tells something; `request_id` is that of the order that it answers, 0 if it was not asked."""
        if report.unlinked:
            self._outgoing.do(self._state.reap([(item.owner, item.name) for item in report.unlinked]))
        elif report.HasField("trace"):
            if self._traces.take(report.trace):
                self._state.touch()
            elif self._runtime.traces.setting(report.trace.model).trace_count > 0:
                self._bequeath_later()
        elif report.HasField("made_region"):
            self._files.made(sender, report.made_region, request_id)
        elif report.HasField("readiness"):
            self._questions.readiness_reported(sender, report.readiness.ready, request_id)
        elif report.HasField("statistics"):
            self._questions.statistics_reported(sender, report.statistics, request_id)
        else:
            self._outgoing.do(self._state.reported(sender, report, request_id))

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
            self._later(WORKERS_TIMEOUT_S, self._speak)
        if self._inheritance.take(hello.bequest, hello.known):
            logs.change(self._runtime.log_changes)
            self._traces.resume()
        new = process.pid not in self._state.processes
        self._files.recover(process.pid, hello.system_regions)
        self._outgoing.do(self._state.hello(hello))
        if new:
            self._node.watcher.watch(
                process.pid, process.start_ticks, lambda pid: self._node.post(lambda: self._died(pid, process.role))
            )
            if process.role == wire.Role.TOOL.name and hello.rejoining:
                self._kept = hello
                if self._begun:
                    self._take_kept()
        if process.role == "WORKER":
            self._models.adopt(hello.models)
            if hello.HasField("statistics"):
                self._book.reported(process.pid, hello.statistics)
            for region in (*hello.system_regions, *hello.cuda_regions):
                self._clients.watch(region.client_pid, region.client_ticks)
            if not self._all_have_come():
                self._later(WORKERS_TIMEOUT_S, self._begin)
        if self._all_have_come():
            self._begin()

    def _all_have_come(self) -> bool:
        """Whether all workers are there, and after another hub somebody who knows what that one had unloaded."""
        pids = self._state.lifecycle.workers.pids.values()
        if not pids or not all(pids):
            return False
        return not self._rejoining or any(item.role in FRONTEND_ROLES for item in self._state.processes.values())

    def _client_died(self, pid: int, ticks: int) -> None:
        """On the watcher's thread."""
        self._node.post(lambda: self._outgoing.do(self._state.client_died(pid, ticks)))

    def _begin(self) -> None:
        """Load what is wanted, once it is known what the workers have already."""
        self._speak()
        if not self._begun:
            self._begun = True
            self._outgoing.do(self._state.lifecycle.restore(self._inheritance.known))
            self._models.begin()

    def _speak(self) -> None:
        self._silent = False
        self._take_kept()
        self._now_known()

    def _when_known(self, call: Callable[[], None]) -> None:
        """Call in turn, as soon as it is known what another hub has left, if there was one."""
        if self._until_known is None:
            call()
        else:
            self._until_known.append(call)

    def _now_known(self) -> None:
        waiting, self._until_known = self._until_known or (), None
        for call in waiting:
            call()

    def _take_kept(self) -> None:
        """Go on with the regions that the supervisor has kept, unless workers have told of theirs, who know better."""
        hello, self._kept = self._kept, None
        if hello is not None and not self._state.lifecycle.rejoined:
            for region in (*hello.system_regions, *hello.cuda_regions):
                self._clients.watch(region.client_pid, region.client_ticks)
            self._outgoing.do(self._state.regions.kept("system", hello.system_regions))
            self._outgoing.do(self._state.regions.kept("cuda", hello.cuda_regions))

    def _died(self, pid: int, role: str) -> None:
        self._outgoing.do(self._state.died(pid))
        self._book.died(pid)
        self._questions.died(pid)
        self._node.outbox.forget(self._node.run_dir.mailbox(wire.Role[role], pid))
        self._files.worker_died(pid)
        self._node.run_dir.forget(pid)

    # What others are told

    def _answer_file(self, answer: Answer) -> None:
        """Answer a client of --shm-socket when every frontend knows of its region."""
        self._outgoing.hold(lambda: self._files.answer(answer.asker, answer.error), ACKNOWLEDGE_TIMEOUT_S)

    def make_page(self, page: "Future[str]") -> None:
        """Make the metrics page; from any thread.

        Not before the processes have told what they have counted under another hub: counters must not go backwards.
        """
        self._node.post(lambda: self._when_known(lambda: self._make_page(page)))

    def _make_page(self, page: "Future[str]") -> None:
        self._questions.gather(list(self._state.processes), lambda: self._finish_page(page))

    def _finish_page(self, page: "Future[str]") -> None:
        try:
            page.set_result(self._metrics.render())
        except Exception as exc:
            page.set_exception(exc)
            raise

    def _publish(self) -> None:
        self._book.keep(self._state.lifecycle.loads.keys())
        self._models.forget_files()
        snapshot = self._state.publish(self._self, self._runtime.options)
        self._runtime.fill(snapshot)
        snapshot.bequest = self._inheritance.leave(snapshot.revision)
        self._outgoing.publish(snapshot)
        self._files.forget_closed()
