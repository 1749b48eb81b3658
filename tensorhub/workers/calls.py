"""Requests of models to models: the worker as a client of itself and of the others.

A model of the same worker is handed the tensors as they are: no copy, no message. A model of another worker is called
as a frontend would call it, with the same gateway: over the mailboxes, large tensors through the arena, and the death
of the other worker fails the call.

Who may wait for whom. A call goes through no thread but the caller's and those of the called model's instances, except
that answers of other workers come in through the worker's loop. So a model that waits must not run on the loop. One
that does it all the same, because it never did so before, steps aside: the loop goes on on another thread, and the
model never runs on it again.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from tensorhub.backends.calling import Cancel, ModelCall, OnResponse
from tensorhub.backends.privacy import secured
from tensorhub.errors import TensorhubError, error_for
from tensorhub.frontend.catalog import LATEST, ServedVersion, parse_version
from tensorhub.frontend.gateway import Gateway
from tensorhub.frontend.port import InferReply
from tensorhub.frontend.readiness import readiness_check
from tensorhub.ipc import wire
from tensorhub.protocol.model_spec import ModelSpec
from tensorhub.requests import InferRequest, InferResponse, Responder, Tally
from tensorhub.workers import continuations
from tensorhub.workers.call_messages import read_reply, write_request
from tensorhub.workers.serving import Retired, ServingModel

Target = ServedVersion
"""What a call reaches."""


class Loop(Protocol):
    """The worker's loop, as far as calls need it."""

    @property
    def models(self) -> Mapping[int, ServingModel]:
        """By load id."""

    @property
    def is_current(self) -> bool:
        """This is the loop's thread."""

    def step_aside(self) -> None:
        """If this is the loop's thread: let another one be it."""

    def post(self, call: Callable[[], None]) -> None:
        """Have `call` run on the loop's thread; from any thread, and at any point of it."""


class ModelCalls:
    """See the module, and `backends.calling.ModelCaller`."""

    def __init__(self, gateway: Gateway, loop: Loop) -> None:
        self._gateway = gateway
        self._loop = loop

    def call(self, call: ModelCall, on_response: OnResponse, *, inline: bool) -> Cancel:
        """See ModelCaller."""
        with continuations.waiting():
            return self.start(call, on_response, inline=inline)

    def start(
        self, call: ModelCall, on_response: OnResponse, *, inline: bool, held: ServingModel | None = None
    ) -> Cancel:
        """Do as `call` does, for one that comes back to this thread's continuations to go on, and does not wait.

        Args:
            held: what `maybe_hold` has returned for the model and version.
        """
        if held is not None:
            return self._call_here(call, held, on_response, 1 if inline else 0)
        target = self.find(call.model, call.version)
        model = self._loop.models.get(target.load_id)
        if model is None or (call.correlation_id and target.sequential and len(target.shares) > 1):
            # The workers that share a model have shared out its sequences as well.
            return self._call_by_message(call, target, on_response)
        try:
            return self._call_here(call, model, on_response, 1 if inline else 0)
        except Retired:
            if self.find(call.model, call.version).load_id == target.load_id:
                raise
            return self.start(call, on_response, inline=inline)

    def _call_here(self, call: ModelCall, model: ServingModel, on_response: OnResponse, inline_runs: int) -> Cancel:
        request = model.decoder.accept_call(call, time.monotonic_ns())
        request.responder = _Answers(model, on_response)
        if call.trace is not None:
            request.trace = call.trace.called(request)
        try:
            model.submit(request, inline_runs)
        except TensorhubError:
            if call.trace is not None and request.trace is not None:
                call.trace.refused()
            raise
        if model.gathers:
            model.poll(inline_runs)
        return lambda: model.cancel(request)

    def _call_by_message(self, call: ModelCall, target: ServedVersion, on_response: OnResponse) -> Cancel:
        remote = _RemoteCall(on_response, call.tally, self._gateway.credit if target.decoupled else None)
        flags = wire.FLAG_FROM_HTTP | (wire.FLAG_STREAM if target.decoupled else 0)
        body, placed = write_request(call, target, self._gateway.reserve)
        origin = None if call.trace is None else call.trace.called_elsewhere()
        try:
            request_id = self._gateway.infer(target, body, remote.replied, flags=flags, placed=placed, origin=origin)
        except TensorhubError:
            if call.trace is not None and origin is not None:
                call.trace.refused()
            raise
        remote.started(request_id)

        return lambda: self._gateway.interrupt(request_id)

    def maybe_hold(self, target: ServedVersion, *, in_sequence: bool) -> ServingModel | None:
        """Hold what a call of this version reaches, if that is in this worker and takes requests; see OpenRequests.

        Args:
            in_sequence: the call will have a correlation id, which may belong to another worker.
        """
        model = self._loop.models.get(target.load_id)
        if model is None or (in_sequence and target.sequential and len(target.shares) > 1) or not model.hold():
            return None
        return model

    @property
    def state(self) -> object:
        """Another object whenever `find` may find something else."""
        return self._gateway.catalog

    def maybe_here(self, model: str, version: int) -> ServingModel | None:
        """Return what a call would reach, if that is a model of this worker which needs no other worker's say."""
        try:
            target = self.find(model, version)
        except TensorhubError:
            return None
        return self._loop.models.get(target.load_id)

    @staticmethod
    def answers(model: ServingModel, on_response: OnResponse) -> Responder:
        """Return the responder of a request that this worker has made of a model of its own."""
        return _Answers(model, on_response)

    def find(self, model: str, version: int) -> ServedVersion:
        """Return the version of a model that a call of it reaches; -1: the newest.

        Raises:
            TensorhubError: it is not served.
        """
        return self._gateway.catalog.find(model, version)

    @property
    def on_loop(self) -> bool:
        """This is the loop's thread: it must not wait."""
        return self._loop.is_current

    def is_quick(self, model: str, version: int) -> bool:
        """Whether `call` may run the model on the calling thread."""
        try:
            target = self.find(model, version)
        except TensorhubError:
            return False
        found = self._loop.models.get(target.load_id)
        return found is not None and found.quick

    def is_ready(self, model: str, version: int | str) -> bool:
        """See ModelCaller."""
        if isinstance(version, str):
            version = parse_version(version)
        found = self._gateway.catalog.models.get(model)
        if found is None:
            return False
        if version == LATEST and found.ready_versions:
            version = found.ready_versions[-1]
        served = found.versions.get(version)
        if served is None or not served.ready:
            return False
        return not served.asks_ready or self._says_ready(served)

    def _says_ready(self, served: ServedVersion) -> bool:
        """Ask a model whether it is ready, and wait for its answer."""
        done = threading.Event()
        errors: list[TensorhubError | None] = []

        def answered(error: TensorhubError | None) -> None:
            errors.append(error)
            done.set()

        self.control(readiness_check((served.load_id,)), answered)
        if not done.is_set():
            self.may_block()
            done.wait()
        return errors[0] is None

    def is_decoupled(self, model: str, version: int) -> bool:
        """See ModelCaller."""
        return self.find(model, version).decoupled

    def control(self, operation: Any, on_result: Callable[[TensorhubError | None], None]) -> None:
        """See ModelCaller."""

        def answered(result: Any, error: TensorhubError | None) -> None:
            if error is None and result.code:
                error = error_for(result.code - 1, result.message)
            on_result(error)

        self._gateway.control(operation, answered)

    def may_block(self) -> None:
        """See ModelCaller."""
        model = continuations.maybe_owner()
        if model is not None:
            model.keep_off_the_loop()
        self._loop.step_aside()

    def soon(self, call: Callable[[], None]) -> None:
        """See ModelCaller."""
        self._loop.post(call)


class _Answers:
    """The responder of a request that came from a model of this worker."""

    __slots__ = ("_model", "_on_response")

    def __init__(self, model: ServingModel, on_response: OnResponse) -> None:
        self._model = model
        self._on_response = on_response

    def __call__(self, request: InferRequest, response: InferResponse | None, final: bool) -> None:
        if request.trace is not None:
            request.trace.responded(response, final, time.monotonic_ns())
        answer = _Answer(self._model.spec, request, response)
        if self._model.decoupled:
            # A model that goes on sending must not wait, nor its caller for the end of its run.
            started_ns = time.monotonic_ns()
            answer.prepare()
            with continuations.waiting():
                self._deliver(answer.response, final)
            self._model.observe_response(request, response, started_ns, time.monotonic_ns())
        else:
            continuations.later(lambda: self._deliver(answer.response, final), answer.prepare)

    def _deliver(self, response: InferResponse | None, final: bool) -> None:
        try:
            self._on_response(response, final)
        finally:
            if final:
                self._model.closed()


class _Answer:
    """A response on its way from a model to the one that called it."""

    __slots__ = ("_inputs", "_spec", "_wanted", "response")

    def __init__(self, spec: ModelSpec, request: InferRequest, response: InferResponse | None) -> None:
        self._spec = spec
        self._inputs = list(request.inputs.values())
        self._wanted = {item.name for item in request.requested}
        self.response = response

    def prepare(self) -> None:
        """Take hold of the outputs, as clients see them: no reshapes, and nothing that was not asked for."""
        if self.response is None or self.response.error is not None:
            return
        specs, wanted = self._spec.outputs, self._wanted
        outputs = [tensor for tensor in self.response.outputs if not wanted or tensor.name in wanted]
        parameters = self.response.parameters
        self.response = None  # nothing else must refer to the tensors now
        try:
            outputs = secured(outputs, self._inputs)
        except TensorhubError as exc:
            self.response = InferResponse(error=exc)
            return
        for index, tensor in enumerate(outputs):
            spec = specs.get(tensor.name)
            if spec is not None and spec.reshape is not None:
                outputs[index] = tensor.renamed(tensor.name, spec.client_shape(tensor.shape))
        self.response = InferResponse(outputs, parameters)


class _RemoteCall:
    """A call that another worker answers, until its last answer.

    Args:
        credit: if the model is decoupled: gives it credit for so many responses of a request.
    """

    __slots__ = ("_credit", "_lock", "_on_response", "_request_id", "_started_ns", "_taken", "_tally")

    def __init__(
        self, on_response: OnResponse, tally: Tally | None, credit: Callable[[int, int], None] | None = None
    ) -> None:
        self._on_response = on_response
        self._tally = tally
        self._started_ns = time.monotonic_ns()
        self._credit = credit
        self._lock = threading.Lock()
        self._request_id = 0
        self._taken = 0

    def started(self, request_id: int) -> None:
        """The request is on its way; answers may have come already."""
        self._request_id = request_id
        self._give_credit(0)

    def _took(self) -> None:
        self._give_credit(1)

    def _give_credit(self, count: int) -> None:
        with self._lock:
            self._taken += count
            if self._taken < wire.CREDIT_STEP or not self._request_id:
                return
            count, self._taken = self._taken, 0
        if self._credit is not None:
            self._credit(self._request_id, count)

    def replied(self, reply: InferReply) -> None:
        if reply.error is not None:
            response: InferResponse | None = InferResponse(error=reply.error)
        else:
            response = None if reply.empty else read_reply(reply)
        if reply.final:
            if self._tally is not None:
                self._tally.add(0, time.monotonic_ns() - self._started_ns, 0)
        elif response is not None and self._credit is not None:
            response.taken = self._took
        self._on_response(response, reply.final)
