"""`tensorhub serve`: starts the processes of a server, starts the dead again, and stops them all in order.

A thin parent. It serves nothing itself, so that nothing can crash it; what the server is doing it learns as any other
process does, from the hub's snapshots. One thread waits for everything: deaths (pidfds), signals (a pipe), mail, and
the next restart.

To stop: the hub is told, so that readiness ends at once; then the frontends finish their requests, then the workers
go, then the hub. What has not gone in time is killed.
"""

import logging
import os
import selectors
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tensorhub import logs
from tensorhub.errors import InvalidArgument
from tensorhub.frontend.catalog import Catalog
from tensorhub.hub.children import Child, signal_name
from tensorhub.hub.cloud import MIRROR_VARIABLE, mirror_folder
from tensorhub.hub.commands import commands, own_worker_command
from tensorhub.hub.phases import ENDING_IN, GRACE_S, NEXT_WHEN_STOPPING, NOTICE_S, Phase
from tensorhub.hub.ports import StartError, http_address, joined
from tensorhub.hub.region_keeper import RegionKeeper
from tensorhub.hub.restarts import DEATHS_LIMIT, WINDOW_S, is_refusal
from tensorhub.hub.start_checks import check_start
from tensorhub.hub.summary import Progress, has_failed, show_outcome, tell
from tensorhub.ipc import wire
from tensorhub.ipc.descriptors import allow_many
from tensorhub.ipc.gpus import find_gpus
from tensorhub.ipc.node import Node
from tensorhub.ipc.outbox import PeerFull
from tensorhub.ipc.rundir import RunDir, RunDirError
from tensorhub.ipc.stop_signals import came, stop_signals
from tensorhub.ipc.watch import runs_in_group
from tensorhub.protocol import messages
from tensorhub.settings import Settings, metrics_address

log = logging.getLogger(__name__)

_PROG = "tensorhub serve"
_ORPHANS_S = 5.0
"""How long the processes of a killed group have to vanish before their sockets are removed."""


def run(settings: Settings) -> int:
    """Run a server until SIGTERM or SIGINT.

    Returns:
        The exit status: 0 if it was told to stop; 1 if it could not start, or could not be kept alive.
    """
    run_dir = RunDir(Path(settings.server.run_dir))
    allow_many()
    with ExitStack() as held:
        try:
            logs.set_up(settings.as_strings(), "serve")
            settings, lock = check_start(settings, run_dir, held)
        except (RunDirError, StartError, InvalidArgument) as exc:
            sys.stderr.write(f"{_PROG}: {exc}\n")
            return 1
        except OSError as exc:
            sys.stderr.write(f"{_PROG}: {exc.strerror}: {exc.filename or run_dir.path}\n")
            return 1
        for warning in settings.warnings:
            log.warning("%s", warning)
        mirrors = held.enter_context(mirror_folder(settings.repository.model_repository))
        if mirrors:
            os.environ[MIRROR_VARIABLE] = mirrors  # of this process and its children, of which the hub is one
            held.callback(os.environ.pop, MIRROR_VARIABLE)
        wake_fd = held.enter_context(stop_signals())
        # The node's sockets must be there before the first child looks for us, and go after the last.
        node = Node(run_dir, wire.Role.TOOL, name="serve")
        held.callback(node.close)
        supervisor = Supervisor(settings, run_dir, node, wake_fd, lock)
        held.callback(supervisor.close)
        return supervisor.run()


class Supervisor:
    """See the module. For one thread.

    Args:
        lock: the descriptor that holds the run directory; the hub holds it as well, and a hub whose supervisor was
            killed until it has ended.
    """

    def __init__(self, settings: Settings, run_dir: RunDir, node: Node, wake_fd: int, lock: int) -> None:
        self._settings = settings
        self._run_dir = run_dir
        self._node = node
        self._wake_fd = wake_fd
        gpus = [gpu.uuid for gpu in find_gpus()] if settings.processes.gpu_workers else []
        self._children = [
            Child(command, (lock,) if command.role is wire.Role.HUB else ()) for command in commands(settings, gpus)
        ]
        self._groups: list[int] = []  # ids of process groups that were killed and may not be gone yet
        self._catalog = Catalog()
        self._phase = Phase.STARTING
        self._start_failed: bool | None = None
        self._phase_ends = float("inf")
        self._stop_deadline = float("inf")
        self._exit_status = 0
        self._joined: set[str] = set()  # the roles of which a process has taken part in the server
        self._progress = Progress(sys.stderr, time.monotonic())
        self._selector = selectors.DefaultSelector()
        self._own_wanted: set[str] = set()
        self._regions = RegionKeeper(run_dir, node.pid)

    def __repr__(self) -> str:
        return f"<Supervisor {self._phase.value}, {self._children!r}>"

    def run(self) -> int:
        """Start everything, and return the exit status when everything has ended."""
        self._selector.register(self._wake_fd, selectors.EVENT_READ, self._signalled)
        self._selector.register(self._node.mailbox.fd, selectors.EVENT_READ, self._read_mail)
        for child in self._children:
            self._start(child)
        self._node.start()
        self._node.join(self._regions.fill, lambda: None)
        self._read_mail()
        while self._phase is not Phase.STOPPED:
            for key, _ in self._selector.select(self._timeout_s()):
                key.data()
            self._do_what_is_due()
        return self._exit_status

    def close(self) -> None:
        """Kill what still runs, and remove what the dead have left."""
        for child in self._children:
            if child.process is not None:
                child.end(signal.SIGKILL)
                self._bury(child)
        deadline = time.monotonic() + _ORPHANS_S
        while any(map(runs_in_group, self._groups)) and time.monotonic() < deadline:
            time.sleep(0.01)
        self._regions.close()
        self._run_dir.forget_the_dead()
        self._selector.close()
        self._progress.end()

    def _timeout_s(self) -> float | None:
        due = [self._phase_ends, self._progress.due_s]
        if not self._phase.stopping:
            due += [child.restarts.restart_at for child in self._children if child.restarts.restart_at is not None]
        soonest = min(due)
        return None if soonest == float("inf") else max(0.0, soonest - time.monotonic())

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        if not self._phase.stopping:
            for child in self._children:
                if child.restarts.due(now):
                    self._start(child)
            if now >= self._progress.due_s:
                self._progress.show(self._catalog, now)
            return
        if now >= self._phase_ends:
            for child in self._of_phase():
                log.warning("%s has not ended in time and is killed", child.command.name)
                child.end(signal.SIGKILL)
            if self._phase is Phase.NOTIFYING:
                self._enter(Phase.FRONTENDS)
            else:
                self._phase_ends = float("inf")
        while self._phase.stopping and self._phase is not Phase.NOTIFYING and not self._of_phase():
            self._enter(NEXT_WHEN_STOPPING[self._phase])

    def _of_phase(self) -> list[Child]:
        """The running children that this phase is to stop."""
        roles = ENDING_IN[self._phase]
        return [child for child in self._children if child.process is not None and child.command.role in roles]

    # Children

    def _start(self, child: Child) -> None:
        # What a killed group has left could not be told from the living when its leader was buried.
        self._run_dir.forget_the_dead()
        try:
            child.start()
        except OSError as exc:
            log.error("cannot start %s: %s", child.command.name, exc)
            self._mourn(child)
            return
        self._selector.register(child.pidfd, selectors.EVENT_READ, lambda: self._died(child))

    def _bury(self, child: Child) -> int:
        self._selector.unregister(child.pidfd)
        pid, status = child.bury()
        self._groups = [group for group in (*self._groups, pid) if runs_in_group(group)]
        self._run_dir.forget(pid)
        self._run_dir.forget_the_dead()
        if child.command.role is wire.Role.HUB:
            self._run_dir.hub.unlink(missing_ok=True)
        return status

    def _died(self, child: Child) -> None:
        pid = child.process.pid if child.process is not None else 0
        status = self._bury(child)
        if self._phase.stopping:
            return
        if child.command.own and child.command.name not in self._own_wanted:
            self._children.remove(child)
            return
        how = f"was killed by {signal_name(-status)}" if status < 0 else f"ended with status {status}"
        log.error("%s (pid %d) %s", child.command.name, pid, how)
        if is_refusal(status, joined=child.command.role.name in self._joined):
            log.error("%s cannot start; the reason is above", child.command.name)
            self._stop(1)
            return
        self._mourn(child)

    def _mourn(self, child: Child) -> None:
        """Decide what becomes of a child that is dead."""
        child.restarts = child.restarts.died(time.monotonic())
        if not child.restarts.given_up:
            return
        log.error(
            "%s has died %d times within %.0f s and is not started any more", child.command.name, DEATHS_LIMIT, WINDOW_S
        )
        if child.command.vital:
            self._stop(1)

    # Mail

    def _read_mail(self) -> None:
        while (frame := self._node.mailbox.receive_nowait()) is not None:
            message = self._node.decode(frame)
            if message is None:
                continue
            if message.kind is wire.Kind.WAKE:
                self._node.run_posted()
            elif message.kind is wire.Kind.SNAPSHOT:
                self._new_snapshot(message.head)
            elif message.kind is wire.Kind.CONTROL_RESULT and self._phase is Phase.NOTIFYING:
                self._phase_ends = 0.0

    def _new_snapshot(self, head: bytes) -> None:
        try:
            snapshot = messages.Snapshot.FromString(head)
        except messages.DecodeError as exc:
            log.warning("a snapshot cannot be read: %s", exc)
            return
        if snapshot.hub_pid == self._node.hub_pid and snapshot.revision <= self._catalog.revision:
            return
        self._node.welcome(snapshot)
        self._regions.follow(snapshot)
        self._catalog = Catalog(snapshot)
        logs.change(snapshot.log_changes)
        self._node.acknowledge(snapshot.revision)
        self._joined.add(wire.Role.HUB.name)
        self._joined.update(process.role for process in snapshot.processes)
        self._match_own_workers(snapshot.own_workers)
        if self._phase is Phase.STARTING:
            self._watch_start()

    def _match_own_workers(self, wanted: Iterable[Any]) -> None:
        """Start the workers of models' own that are new; those that are not wanted any more end by themselves."""
        environments = {item.name: item.environment for item in wanted}
        self._own_wanted = set(environments)
        if self._phase.stopping:
            return
        here = {child.command.name for child in self._children}
        for name in sorted(self._own_wanted - here):
            child = Child(own_worker_command(self._settings, name, environments[name]))
            self._children.append(child)
            self._start(child)
        for child in [item for item in self._children if item.command.own and item.process is None]:
            if child.command.name not in self._own_wanted:
                self._children.remove(child)

    def _watch_start(self) -> None:
        catalog = self._catalog
        if not catalog.started:
            self._progress.show(catalog, time.monotonic())
            return
        if self._start_failed is None:  # judged once: what clients load from now on is not part of the start
            self._start_failed = self._settings.repository.exit_on_error and any(
                map(has_failed, catalog.models.values())
            )
        failed = self._start_failed
        present = {process.role for process in catalog.processes}
        expected = {
            child.command.role.name
            for child in self._children
            if child.command.role in (wire.Role.HTTP, wire.Role.GRPC)
        }
        if not failed and not expected <= present:
            return
        self._progress.end()
        show_outcome(self._settings, self._catalog.models.values(), failed=failed, stream=sys.stderr)
        if failed:
            tell(sys.stderr, "error: creating server: Internal - failed to load all models\n")
            self._stop(1)
            return
        self._phase = Phase.SERVING
        if self._settings.http.allow_http:
            log.info("Started HTTPService at %s", http_address(self._settings))
        if self._settings.metrics.allow_metrics:
            place = joined(metrics_address(self._settings), self._settings.metrics.metrics_port)
            log.info("Started Metrics Service at %s", place)

    # Stopping

    def _signalled(self) -> None:
        if came(self._wake_fd):
            self._stop(0)

    def _stop(self, status: int) -> None:
        """Begin to stop; what is asked after that changes nothing."""
        if self._phase.stopping or self._phase is Phase.STOPPED:
            return
        self._progress.end()
        log.info("stopping")
        self._exit_status = status
        self._stop_deadline = time.monotonic() + self._settings.server.exit_timeout_secs
        self._enter(Phase.NOTIFYING)
        if not self._node.hub_pid:
            self._phase_ends = 0.0
            return
        operation = messages.Control()
        operation.shutdown.SetInParent()
        try:
            self._node.send_hub(
                wire.Kind.CONTROL, operation.SerializeToString(), request_id=self._node.next_request_id()
            )
        except PeerFull:
            log.warning("the hub does not read its mail")
            self._phase_ends = 0.0

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        now = time.monotonic()
        if phase is Phase.NOTIFYING:
            self._phase_ends = now + NOTICE_S
            return
        if phase is Phase.STOPPED:
            return
        least = 0.0 if phase is Phase.FRONTENDS else GRACE_S
        self._phase_ends = max(self._stop_deadline, now + least)
        for child in self._of_phase():
            child.end(signal.SIGTERM)
