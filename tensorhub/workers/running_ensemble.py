"""A loaded ensemble at work: it carries out what `workers.ensemble` decides, with requests to the models of its steps.

An ensemble has no instance and no queue. Its request goes on with each answer of a step, on the thread that brings the
answer; `workers.continuations` sees to it that this is after the end of the step's run. Tensors pass from step to step
as they are. A step may write to what it is given if nothing else refers to that memory any more.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

from tensorhub.backends.calling import Cancel, ModelCall
from tensorhub.backends.privacy import is_private
from tensorhub.errors import InternalError, TensorhubError, error_for
from tensorhub.protocol.layouts import LIMIT
from tensorhub.protocol.model_spec import ModelSpec
from tensorhub.requests import InferRequest, InferResponse, Tally
from tensorhub.workers.calls import ModelCalls, Target
from tensorhub.workers.decode import RequestDecoder
from tensorhub.workers.encode import ResponseEncoder
from tensorhub.workers.ensemble import Action, EnsembleGraph, EnsembleRun, Respond, StepModel, StepRun
from tensorhub.workers.model import RunningModel
from tensorhub.workers.open_requests import OpenRequests
from tensorhub.workers.serving import ServingModel
from tensorhub.workers.statistics import Durations, StatisticsRecorder
from tensorhub.workers.straight import Left, Line, StraightRun, maybe_line

log = logging.getLogger(__name__)

_SENDERS = 8
"""Threads that send responses which the loop must not wait with; see `_Request.flush`."""


class RunningEnsemble:
    """One version of an ensemble, from its load to its unload; see `serving.ServingModel`.

    Args:
        calls: how the steps' models are reached.
        limit: no step has more requests at its model, the others wait; 0: no limit.
    """

    gathers = False
    quick = False
    readiness = None

    def __init__(
        self,
        news: Any,
        graph: EnsembleGraph,
        limit: int,
        spec: ModelSpec,
        decoder: RequestDecoder,
        encoder: ResponseEncoder,
        calls: ModelCalls,
        statistics: StatisticsRecorder,
    ) -> None:
        self.load_id: int = news.load_id
        self.news = news
        self.decoder = decoder
        self.encoder = encoder
        self.spec = spec
        self.graph = graph
        self.decoupled = self.graph.decoupled
        self.calls = calls
        self.limiter = _Limiter(len(graph.steps), limit)
        self.output_dims = {
            name: output.dims if output.reshape is None else output.reshape for name, output in spec.outputs.items()
        }
        self._step_models: dict[int, StepModel] = {}
        self._statistics = statistics
        self._lock = threading.Lock()
        self._requests: dict[int, _Going] = {}
        self._lines: tuple[object, dict[tuple[str, ...], Line | None]] = (None, {})
        self._open = OpenRequests(self._lock)
        self._senders: ThreadPoolExecutor | None = None

    def __repr__(self) -> str:
        return f"<RunningEnsemble {self.news.model} version {self.news.version}, {self._open.count} open>"

    def start(self) -> None:
        """See ServingModel."""

    def has_place_for(self, request: InferRequest) -> bool:
        """See ServingModel: sequences are the business of its steps."""
        return True

    def submit(self, request: InferRequest, inline_runs: int = 1) -> None:
        """See ServingModel."""
        started_ns = time.monotonic_ns()
        with self._lock:
            self._open.check(request)
            self._open.add()
        inline = inline_runs > 0
        if inline and request.trace is None and not request.correlation_id and not request.flags:
            line = self._line(request)
            if line is not None and line.steps[0].model.quick:
                self._go_straight(line, request, started_ns)
                return
        try:
            going = _Request(self, request, started_ns)
        except BaseException:
            self.closed()
            raise
        self._requests[id(request)] = going
        going.begin(inline=inline)

    def _line(self, request: InferRequest) -> Line | None:
        """Return the short way for a request, if there is one."""
        requested = tuple([item.name for item in request.requested]) or self.graph.outputs
        state, lines = self._lines
        if state is not self.calls.state:
            state, lines = self._lines = (self.calls.state, {})
        if requested not in lines:
            if len(lines) >= LIMIT:
                lines.clear()
            lines[requested] = self._new_line(requested)
        return lines[requested]

    def _new_line(self, requested: tuple[str, ...]) -> Line | None:
        if self.decoupled or self.limiter.limits:
            return None
        plan = self.graph.plan(requested)
        models = {}
        for index in plan.needed:
            step = self.graph.steps[index]
            model = self.calls.maybe_here(step.model, step.version)
            if isinstance(model, RunningModel) and model.runs_at_once:
                models[index] = model
        return maybe_line(self.graph, plan, models, batches=self.spec.max_batch_size > 0)

    def _go_straight(self, line: Line, request: InferRequest, started_ns: int) -> None:
        run = self._requests[id(request)] = StraightRun(line, request)
        result = run.go()
        if isinstance(result, InferResponse):
            tally = run.tally
            durations = Durations(tally.input_ns, tally.infer_ns, tally.output_ns)
            self.ended(request, started_ns, durations, failed=result.error is not None)
            request.respond(result)
            return
        try:
            going = _Request(self, request, started_ns)
        except TensorhubError as exc:
            self._give_up(request, started_ns, exc, result, run)
            return
        self._requests[id(request)] = going
        going.resume(result, run)

    def _give_up(
        self, request: InferRequest, started_ns: int, error: TensorhubError, left: Left, straight: StraightRun
    ) -> None:
        """Answer with an error, when the step that runs has ended: it reads the request's memory."""

        def answered(response: InferResponse | None, final: bool) -> None:
            if final:
                self.ended(request, started_ns, Durations(0, 0, 0), failed=True)
                request.fail(error)

        if left.at is not None and left.pending:
            straight.follow(self.calls.answers(left.at.model, answered))
        else:
            answered(None, True)

    def observe_cache_hit(self, request: InferRequest, lookup_start_ns: int) -> None:
        """See caching.CacheableModel."""
        with self._lock:
            self._statistics.observe_cache_hit(request, lookup_start_ns, time.monotonic_ns())

    def observe_cache_miss(self, duration_ns: int, now_ns: int) -> None:
        """See caching.CacheableModel."""
        with self._lock:
            self._statistics.observe_cache_miss(duration_ns, now_ns)

    def targets(self, indices: frozenset[int]) -> dict[int, Target]:
        """Return what the steps reach now.

        Raises:
            TensorhubError: one is not served.
        """
        steps = self.graph.steps
        return {index: self.calls.find(steps[index].model, steps[index].version) for index in indices}

    def step_models(self, targets: dict[int, Target]) -> dict[int, StepModel]:
        """Return what the models are that the steps reach."""
        found = {}
        for index, target in targets.items():
            model = self._step_models.get(target.load_id)
            if model is None:
                config = target.config
                model = self._step_models[target.load_id] = StepModel(
                    config.max_batch_size > 0,
                    target.decoupled,
                    {item.name: tuple(item.dims) for item in config.input},
                )
            found[index] = model
        return found

    def poll(self, inline_runs: int = 1) -> None:
        """See ServingModel."""

    def poll_on_loop(self) -> int | None:
        """See ServingModel."""
        return None

    def cancel(self, request: InferRequest) -> None:
        """See ServingModel."""
        request.cancelled = True
        going = self._requests.get(id(request))
        if going is not None:
            going.cancel()

    def ended(self, request: InferRequest, started_ns: int, durations: Durations, *, failed: bool) -> None:
        """A request has been decided upon finally: count it, before its answer is sent."""
        self._requests.pop(id(request), None)
        with self._lock:
            self._statistics.observe_run([request], started_ns, durations, time.monotonic_ns(), failed=failed)

    def senders(self) -> ThreadPoolExecutor:
        """Return the threads that may wait for a client."""
        with self._lock:
            if self._senders is None:
                self._senders = ThreadPoolExecutor(_SENDERS, thread_name_prefix=f"{self.news.model} sender")
            return self._senders

    def observe_response(
        self, request: InferRequest, response: InferResponse | None, output_start_ns: int, now_ns: int
    ) -> None:
        """See ServingModel."""
        with self._lock:
            self._statistics.observe_response(request, response, output_start_ns, now_ns)

    def statistics(self, now_ns: int, epoch_offset_ns: int) -> Any:
        """See ServingModel."""
        with self._lock:
            if not self._statistics.changed:
                return None
            return self._statistics.export(self.load_id, 0, now_ns, epoch_offset_ns)

    def report_all(self) -> None:
        """See ServingModel."""
        self._statistics.changed = True

    def closed(self) -> None:
        """See ServingModel."""
        self._open.closed()

    def hold(self) -> bool:
        """See ServingModel."""
        return self._open.hold()

    def release(self) -> None:
        """See ServingModel."""
        self._open.release()

    def drain(self, on_drained: Callable[[], None]) -> None:
        """See ServingModel."""
        self._open.drain(on_drained)

    def unload(self) -> None:
        """See ServingModel."""
        if self._senders is not None:
            self._senders.shutdown()


class _Going(Protocol):
    """A request on its way."""

    def cancel(self) -> None:
        """Nobody wants the answer any more."""


class _Limiter:
    """How many requests of each step are at its model; what is more waits here. Thread-safe."""

    def __init__(self, steps: int, limit: int) -> None:
        self.limits = limit > 0
        self._limit = limit
        self._lock = threading.Lock()
        self._in_flight = [0] * steps
        self._waiting: list[deque[Callable[[], None]]] = [deque() for _ in range(steps)]

    def enter(self, step: int, start: Callable[[], None]) -> None:
        """Do `start` now, or when others have left."""
        if self._limit:
            with self._lock:
                if self._in_flight[step] >= self._limit:
                    self._waiting[step].append(start)
                    return
                self._in_flight[step] += 1
        start()

    def leave(self, step: int) -> None:
        """A request has been answered finally."""
        if not self._limit:
            return
        with self._lock:
            start = self._waiting[step].popleft() if self._waiting[step] else None
            if start is None:
                self._in_flight[step] -= 1
        if start is not None:
            start()


class _Request:
    """One request on its way through the steps."""

    def __init__(self, ensemble: RunningEnsemble, request: InferRequest, started_ns: int) -> None:
        graph, spec = ensemble.graph, ensemble.spec
        requested = tuple([item.name for item in request.requested]) or graph.outputs
        try:
            targets = ensemble.targets(graph.plan(requested).needed)
        except TensorhubError as exc:
            raise error_for(exc.code, f"in ensemble '{graph.name}', {exc.message}") from exc
        self._ensemble = ensemble
        self._request = request
        self._started_ns = started_ns
        self._tally = Tally()
        self._run = EnsembleRun(
            graph,
            ensemble.step_models(targets),
            requested,
            ensemble.output_dims,
            request.request_id,
            request.batch_size if spec.max_batch_size > 0 else 0,
            (request.correlation_id, request.flags),
        )
        self._lock = threading.Lock()
        self._cancels: dict[int, Cancel] = {}
        self._responses: deque[Respond | Callable[[], None]] = deque()
        self._sending = False
        # Until its end, so that a model which is unloaded or replaced meanwhile takes it all the same.
        self._held: dict[int, ServingModel] = {}
        for index, target in targets.items():
            held = ensemble.calls.maybe_hold(target, in_sequence=bool(request.correlation_id))
            if held is not None:
                self._held[index] = held

    def begin(self, *, inline: bool) -> None:
        self._go_on(lambda: self._run.begin(self._request.inputs), inline=inline)

    def resume(self, left: Left, straight: StraightRun) -> None:
        """Go on where the short way has ended."""
        self._tally = straight.tally
        step, running = left.at, None
        if step is not None:
            running = StepRun(step.step, (), {}, frozenset(), frozenset(), (0, 0), self._request.batch_size, False)
            if left.pending:
                self._cancels[id(running)] = straight.cancel
        if self._request.cancelled:
            self._run.cancel()
        self._go_on(lambda: self._run.resume(left.values, left.done, running), inline=True)
        if step is None or running is None:
            return
        if left.pending:
            straight.follow(self._ensemble.calls.answers(step.model, partial(self._answered, running, Tally())))
        for response, final in left.answers:
            self._answered(running, Tally(), response, final)

    def cancel(self) -> None:
        with self._lock:
            self._run.cancel()
            cancels = list(self._cancels.values())
        for cancel in cancels:
            cancel()

    def _go_on(self, event: Callable[[], list[Action]], *, inline: bool) -> None:
        """Tell the run what has happened, and do what follows."""
        last: Respond | None = None
        starts: list[StepRun] = []
        with self._lock:
            for action in event():
                if isinstance(action, Respond):
                    self._responses.append(action)
                    last = action
                else:
                    starts.append(action.run)
        if last is not None:
            self._send(last)
        if len(starts) > 1 and inline:
            # Those that run elsewhere first, so that they run beside the others.
            calls = self._ensemble.calls
            starts.sort(key=lambda run: calls.is_quick(run.step.model, run.step.version))
        limiter = self._ensemble.limiter
        for run in starts:
            if limiter.limits:
                limiter.enter(run.step.index, partial(self._start, run, inline=inline))
            else:
                self._start(run, inline=inline)

    def _start(self, run: StepRun, *, inline: bool) -> None:
        request, step = self._request, run.step
        correlation_id, flags = run.sequence
        tally = Tally()
        call = ModelCall(
            step.model,
            step.version,
            list(run.inputs.values()),
            tuple(step.outputs),
            request.request_id,
            correlation_id,
            flags,
            request.priority,
            request.timeout_us,
            request.parameters,
            frozenset([name for name in run.exclusive if name in run.given or is_private(run.inputs[name])]),
            tally,
            request.trace,
        )
        run.inputs.clear()
        try:
            on_response = partial(self._answered, run, tally)
            cancel = self._ensemble.calls.start(call, on_response, inline=inline, held=self._held.get(step.index))
        except TensorhubError as exc:
            self._refused(run, exc)
            return
        except Exception as exc:
            log.exception("a step of ensemble '%s' could not be started", self._ensemble.graph.name)
            self._refused(run, InternalError(f"{type(exc).__name__}: {exc}"))
            return
        with self._lock:
            if not run.over:
                self._cancels[id(run)] = cancel
        if request.cancelled:
            cancel()

    def _refused(self, run: StepRun, error: TensorhubError) -> None:
        self._ensemble.limiter.leave(run.step.index)
        self._go_on(lambda: self._run.failed(run, error), inline=False)

    def _answered(self, run: StepRun, tally: Tally, response: InferResponse | None, final: bool) -> None:
        if final:
            with self._lock:
                self._cancels.pop(id(run), None)
                self._tally.add(tally.input_ns, tally.infer_ns, tally.output_ns)
            self._ensemble.limiter.leave(run.step.index)
        taken = None if response is None else response.taken
        self._go_on(lambda: self._took(run, response, final), inline=True)
        if taken is not None:
            # When what has come of it is sent: a client that reads slowly makes the step's worker wait.
            with self._lock:
                self._responses.append(taken)
            self._flush_somewhere()

    def _took(self, run: StepRun, response: InferResponse | None, final: bool) -> list[Action]:
        actions = self._run.answered(run, response, final)
        if response is not None:
            response.outputs.clear()  # the callers' frames must not count among who refers to the tensors
        return actions

    def _send(self, last: Respond) -> None:
        if last.final:
            failed = last.response is not None and last.response.error is not None
            tally = self._tally
            durations = Durations(tally.input_ns, tally.infer_ns, tally.output_ns)
            self._ensemble.ended(self._request, self._started_ns, durations, failed=failed)
            for model in self._held.values():
                model.release()
        self._flush_somewhere()

    def _flush_somewhere(self) -> None:
        if self._ensemble.decoupled and self._ensemble.calls.on_loop:
            # The client of a stream may let us wait, and what ends the wait comes in through the loop.
            self._ensemble.senders().submit(self._flush)
        else:
            self._flush()

    def _flush(self) -> None:
        """Send what is to be sent, in its order, whichever threads bring it."""
        while True:
            with self._lock:
                if self._sending or not self._responses:
                    return
                self._sending = True
                action = self._responses.popleft()
            try:
                if isinstance(action, Respond):
                    self._request.respond(action.response, action.final)
                else:
                    action()
            finally:
                with self._lock:
                    self._sending = False
