"""What the hub sends, each thing when its time has come: snapshots, orders to workers, answers to control calls.

An answer waits until every frontend has the snapshot that shows what the call has changed, so that a client sees its
own change through any of them. A load that was replaced is retired only when everybody who sends requests knows its
successor. Nobody is waited for without an end: who does not acknowledge holds things up for a while and no more.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tensorhub.errors import InternalError, TensorhubError
from tensorhub.hub.actions import Action, Answer, Asker
from tensorhub.hub.state import CALLER_ROLES, FRONTEND_ROLES, HubState
from tensorhub.ipc import wire
from tensorhub.ipc.node import Node
from tensorhub.ipc.outbox import PeerFull
from tensorhub.protocol import messages

log = logging.getLogger(__name__)

ACKNOWLEDGE_TIMEOUT_S = 5.0
"""How long a control call waits for frontends that do not acknowledge a snapshot: longer than one that lives is ever
late, because without it a client may not see its own change."""

RETIRE_TIMEOUT_S = 5.0
"""How long a load that was replaced is kept for processes that do not acknowledge the snapshot with the new one."""

Later = Callable[[float, Callable[[], None]], None]
"""Has a call made after some seconds, on the hub's loop."""


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """Something to do when everybody of `roles` has a revision of the snapshot."""

    revision: int
    roles: frozenset[str]
    call: Callable[[], None]


class Outgoing:
    """See the module. For the hub's loop."""

    def __init__(self, node: Node, state: HubState, later: Later) -> None:
        self._node = node
        self._state = state
        self._later = later
        self._held: list[_Held] = []
        self._takers: dict[str, Callable[[Answer], None]] = {}

    def __repr__(self) -> str:
        return f"<Outgoing, {len(self._held)} held>"

    def hand_answers(self, role: str, take: Callable[[Answer], None]) -> None:
        """Have the answers to askers of a role, who are in this process, taken at once instead of sent."""
        self._takers[role] = take

    def attempt(self, asker: Asker, work: Callable[[], Sequence[Action]]) -> None:
        """Carry out what is decided for somebody; whatever goes wrong with it is the answer."""
        try:
            self.do(work())
        except TensorhubError as exc:
            self.do([Answer(asker, exc)])
        except Exception as exc:  # a fault of ours, or of the system: nobody is to wait for ever because of it
            log.exception("a control call could not be carried out")
            self.do([Answer(asker, InternalError(f"{type(exc).__name__}: {exc}"))])

    def do(self, actions: Sequence[Action]) -> None:
        """Carry out what was decided."""
        for action in actions:
            if isinstance(action, Answer):
                taker = self._takers.get(action.asker.role)
                if taker is not None:
                    taker(action)
                elif action.error is not None:
                    self.refuse(action.asker, action.error)
                else:
                    self.answer(action.asker, messages.ControlResult())
            elif action.after_snapshot:
                self.hold(
                    partial(self.order, action.pid, action.order, action.request_id), RETIRE_TIMEOUT_S, CALLER_ROLES
                )
            else:
                self.order(action.pid, action.order, action.request_id)

    def order(self, pid: int, order: Any, request_id: int) -> None:
        """Send a process a `tensorhub.wire.Order`; its report comes with the same request id."""
        self._send(pid, wire.Kind.ORDER, order.SerializeToString(), request_id)

    def answer(self, asker: Asker, result: Any) -> None:
        """Answer with a `tensorhub.wire.ControlResult` when every frontend has what will be published next."""
        head = result.SerializeToString()
        self.hold(
            lambda: self._send(asker.pid, wire.Kind.CONTROL_RESULT, head, asker.request_id, asker.generation),
            ACKNOWLEDGE_TIMEOUT_S,
        )

    def refuse(self, asker: Asker, error: TensorhubError) -> None:
        """Answer with an error; see `answer`."""
        self.answer(asker, messages.ControlResult(code=1 + error.code, message=error.message))

    def hold(self, call: Callable[[], None], timeout_s: float, roles: frozenset[str] = FRONTEND_ROLES) -> None:
        """Do it when everybody of these roles has what will be published next, or after a while."""
        held = _Held(self._state.revision + (1 if self._state.dirty else 0), roles, call)
        self._held.append(held)
        if not self._state.all_have(held.revision, roles):
            self._later(timeout_s, lambda: self.release(held))

    def release(self, overdue: "_Held | None" = None) -> None:
        """Do what has waited for revisions that everybody has by now, and what is overdue."""
        waiting, self._held = self._held, []
        for held in waiting:
            if held is overdue or self._state.all_have(held.revision, held.roles):
                held.call()
            else:
                self._held.append(held)

    def publish(self, snapshot: Any) -> None:
        """Send a `tensorhub.wire.Snapshot` to everybody."""
        head = snapshot.SerializeToString()
        for pid in list(self._state.processes):
            self._send(pid, wire.Kind.SNAPSHOT, head, 0)

    def _send(self, pid: int, kind: wire.Kind, head: bytes, request_id: int, generation: int = 0) -> None:
        process = self._state.processes.get(pid)
        if process is None:
            return
        frame = wire.encode(
            kind, wire.Role.HUB, self._node.pid, request_id=request_id, generation=generation, head=head
        )
        try:
            self._node.outbox.send(self._node.run_dir.mailbox(wire.Role[process.role], pid), frame)
        except PeerFull:
            log.warning("process %d takes no mail", pid)
