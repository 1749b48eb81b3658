"""The control calls of frontends, workers and `tensorhub serve`: one method for each operation of `wire.Control`.

Each returns what its operation leads to at once. An operation that has to ask other processes first returns nothing and
answers later; one that cannot be carried out raises its error, and the asker hears that.
"""

from collections.abc import Sequence
from typing import Any

from tensorhub import logs
from tensorhub.errors import InternalError, InvalidArgument, Unavailable
from tensorhub.hub import inventory
from tensorhub.hub.actions import Action, Answer, Asker
from tensorhub.hub.clients import ClientWatch
from tensorhub.hub.loads import Load
from tensorhub.hub.model_control import ModelControl
from tensorhub.hub.outgoing import Outgoing
from tensorhub.hub.questions import Questions
from tensorhub.hub.runtime import RuntimeSettings
from tensorhub.hub.state import HubState
from tensorhub.hub.statistics import StatisticsBook
from tensorhub.ipc import wire
from tensorhub.protocol import messages
from tensorhub.protocol.model_names import bare_name

_NOT_READY = "a model says that it is not ready, or does not answer"


class ControlCalls:
    """See the module. For the hub's loop."""

    def __init__(
        self,
        state: HubState,
        models: ModelControl,
        clients: ClientWatch,
        runtime: RuntimeSettings,
        book: StatisticsBook,
        questions: Questions,
        outgoing: Outgoing,
    ) -> None:
        self._state = state
        self._models = models
        self._clients = clients
        self._runtime = runtime
        self._book = book
        self._questions = questions
        self._outgoing = outgoing
        self._operations = {
            "load_model": self._load_model,
            "unload_model": self._unload_model,
            "register_system": self._register_system,
            "register_cuda": self._register_cuda,
            "unregister_system": self._unregister_system,
            "unregister_cuda": self._unregister_cuda,
            "repository_index": self._index,
            "statistics": self._statistics,
            "check_ready": self._check_ready,
            "change_log": self._change_log,
            "change_trace": self._change_trace,
            "shutdown": self._shutdown,
        }

    def take(self, message: wire.Message) -> None:
        """Carry out a CONTROL message; whatever is wrong with it is the answer."""
        asker = Asker(message.role.name, message.sender, message.request_id, message.generation)
        self._outgoing.attempt(asker, lambda: self._carry_out(message.head, asker))

    def _carry_out(self, head: bytes, asker: Asker) -> Sequence[Action]:
        try:
            control = messages.Control.FromString(head)
        except messages.DecodeError as exc:
            raise InternalError(f"a control call cannot be read: {exc}") from exc
        operation = self._operations.get(control.WhichOneof("operation"))
        if operation is None:
            raise InvalidArgument("an empty control call")
        return operation(control, asker)

    # Models and regions

    def _load_model(self, control: Any, asker: Asker) -> list[Action]:
        return self._models.load(control.load_model, asker)

    def _unload_model(self, control: Any, asker: Asker) -> list[Action]:
        return self._models.unload(control.unload_model, asker)

    def _register_system(self, control: Any, asker: Asker) -> list[Action]:
        return self._state.register("system", self._clients.mark(control.register_system, control.peer), asker)

    def _register_cuda(self, control: Any, asker: Asker) -> list[Action]:
        return self._state.register("cuda", self._clients.mark(control.register_cuda, control.peer), asker)

    def _unregister_system(self, control: Any, asker: Asker) -> list[Action]:
        region = control.unregister_system
        return self._state.unregister("system", region.owner, region.name, asker)

    def _unregister_cuda(self, control: Any, asker: Asker) -> list[Action]:
        region = control.unregister_cuda
        return self._state.unregister("cuda", region.owner, region.name, asker)

    def _index(self, control: Any, asker: Asker) -> list[Action]:
        self._outgoing.answer(asker, messages.ControlResult(index=self._models.index()))
        return []

    # What others have to be asked about

    def _statistics(self, control: Any, asker: Asker) -> list[Action]:
        operation = control.statistics
        loads = inventory.served(self._state.lifecycle.models, operation.model, operation.version)
        self._questions.gather(
            self._state.lifecycle.workers.running({name for load in loads for name in load.workers}),
            lambda: self._outgoing.answer(asker, messages.ControlResult(statistics=self._totals(loads))),
        )
        return []

    def _totals(self, loads: Sequence[Load]) -> list[Any]:
        found = []
        for load in loads:
            total = self._book.total(load.load_id).statistics
            total.name, total.version = bare_name(load.model), str(load.version)
            found.append(total)
        return found

    def _check_ready(self, control: Any, asker: Asker) -> list[Action]:
        def then(ready: bool) -> None:
            self._outgoing.do([Answer(asker, None if ready else Unavailable(_NOT_READY))])

        self._questions.check_ready(control.check_ready.load_ids, then)
        return []

    # The server itself

    def _change_log(self, control: Any, asker: Asker) -> list[Action]:
        operation = control.change_log
        if self._runtime.change_log(operation.options):
            logs.change(self._runtime.log_changes)
            self._state.touch()
        result = messages.ControlResult(code=operation.code, message=operation.message)
        result.log_options.update({name: self._runtime.options[name] for name in logs.OPTIONS})
        self._outgoing.answer(asker, result)
        return []

    def _change_trace(self, control: Any, asker: Asker) -> list[Action]:
        operation = control.change_trace
        known = operation.model in self._state.lifecycle.models and self._serves(operation.model)
        shown = self._runtime.change_trace(operation, known=known)
        if operation.values or operation.cleared:
            self._state.touch()
        self._outgoing.answer(asker, messages.ControlResult(trace=shown))
        return []

    def _serves(self, model: str) -> bool:
        return any(version.current for version in self._state.lifecycle.models[model].versions.values())

    def _shutdown(self, control: Any, asker: Asker) -> list[Action]:
        self._state.stop()
        return [Answer(asker)]
