"""A loaded model version at work: its queue, its instances and their threads.

Requests come in on the worker's loop. A run happens on the loop if the model has proved quick (see `history`), else on
the thread of its instance. Whoever finishes a run asks the scheduler for the next one, so that a busy model needs no
help from the loop. A quick model's batch that waits for more is begun by the loop in time; what else is due at a time
comes from the alarms' thread, and runs on the threads of the instances.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import Any
from weakref import WeakMethod

from tensorhub.backends.port import ComputeTimes, LoadedModel, ModelInstance
from tensorhub.errors import Cancelled, InternalError, TensorhubError, Unavailable
from tensorhub.protocol.model_spec import ModelSpec
from tensorhub.requests import InferRequest, InferResponse
from tensorhub.workers import continuations
from tensorhub.workers.alarms import Alarms
from tensorhub.workers.decode import RequestDecoder
from tensorhub.workers.encode import ResponseEncoder
from tensorhub.workers.history import RunHistory
from tensorhub.workers.open_requests import OpenRequests
from tensorhub.workers.ordering import ResponseOrder
from tensorhub.workers.readiness import Readiness
from tensorhub.workers.schedulers.default import DefaultScheduler
from tensorhub.workers.schedulers.dynamic import DynamicBatcher
from tensorhub.workers.schedulers.port import Decision, Run, Scheduler
from tensorhub.workers.schedulers.sequence import SequenceScheduler
from tensorhub.workers.state_outputs import StateOutputs
from tensorhub.workers.statistics import Durations, Failure, StatisticsRecorder
from tensorhub.workers.straight import Ran
from tensorhub.workers.turns import ModelTurns

log = logging.getLogger(__name__)

_NO_LIMIT = 1 << 62


class RunningModel:
    """One version, from its load to its unload.

    Attributes:
        load_id: names this load in every message.
        news: the `tensorhub.wire.ModelVersion` that the hub is told.
        decoder: turns messages into requests for it.
        encoder: turns its responses into messages.
        decoupled: a request may outlive its run.
        spec: what its requests and responses look like.
        readiness: whom to ask whether it is ready; None: it is.
        gathers: after `submit`, take what else has arrived, and then `poll`.
    """

    def __init__(
        self,
        news: Any,
        loaded: LoadedModel,
        instances: Sequence[tuple[str, ModelInstance]],
        decoder: RequestDecoder,
        encoder: ResponseEncoder,
        scheduler: Scheduler,
        *,
        decoupled: bool,
        spec: ModelSpec,
        alarms: Alarms,
        statistics: StatisticsRecorder,
        order: ResponseOrder | None = None,
        states: StateOutputs | None = None,
        turns: ModelTurns | None = None,
    ) -> None:
        self.load_id: int = news.load_id
        self.news = news
        self.decoder = decoder
        self.encoder = encoder
        self.decoupled = decoupled
        self.spec = spec
        checks = [check for _, made in instances if (check := getattr(made, "readiness_check", None)) is not None]
        self.readiness = Readiness(news.model, checks) if checks else None
        news.asks_ready = bool(checks)
        self._loaded = loaded
        self._instances = instances
        self._scheduler = scheduler
        self.gathers = scheduler.gathers
        self._alarms = alarms
        self._alarm_ns = 0
        self._on_alarm = WeakMethod(self._alarmed)
        self._order = order
        self._states = states
        self._turns = turns
        self._growing = scheduler if turns is not None and isinstance(scheduler, DynamicBatcher) else None
        self._staged = 0
        self._told_pending = 0
        self._history = RunHistory()
        plain = not decoupled and order is None and states is None and turns is None
        self._direct = scheduler if plain and isinstance(scheduler, DefaultScheduler) else None
        self._statistics = statistics
        self._lock = threading.Lock()
        self._open = OpenRequests(self._lock)
        self._queues: list[SimpleQueue[Run | None]] = [SimpleQueue() for _ in instances]
        self._threads = [
            threading.Thread(target=self._serve, args=(index,), name=name, daemon=True)
            for index, (name, _) in enumerate(instances)
        ]

    def __repr__(self) -> str:
        news = self.news
        return f"<RunningModel {news.model} version {news.version}, {self._open.count} open, {self._scheduler!r}>"

    def start(self) -> None:
        """Start the instances' threads."""
        for thread in self._threads:
            thread.start()

    @property
    def quick(self) -> bool:
        """A run of it may be on any thread."""
        return self._history.quick and not self.decoupled

    def keep_off_the_loop(self) -> None:
        """It waits for other models: run it on its own threads only."""
        self._history.keep_off_the_loop()

    def has_place_for(self, request: InferRequest) -> bool:
        """See ServingModel."""
        scheduler = self._scheduler
        if not isinstance(scheduler, SequenceScheduler):
            return True
        with self._lock:
            return scheduler.has_place_for(request)

    def submit(self, request: InferRequest, inline_runs: int = _NO_LIMIT) -> None:
        """Take a request; it may have been answered when this returns.

        Args:
            inline_runs: how many runs may be on this thread, if the model is quick. A thread that is not the loop's
                has other things to do than to run what happens to wait for the model as well.

        Raises:
            Unavailable: the queue is full, or (Retired) the model is being unloaded; the request was not taken.
        """
        now_ns = time.monotonic_ns()
        with self._lock:
            self._open.check(request)
            try:
                self._scheduler.enqueue(request, now_ns)
            except Unavailable:
                self._statistics.observe_failure(request, Failure.REJECTED, now_ns)
                raise
            self._open.add()
            if self._states is not None:
                self._states.watch(request)
            if self.gathers:
                return
            decisions = self._decide(now_ns)
        self._start_runs(self._rejected(decisions), inline_runs)

    @property
    def runs_at_once(self) -> bool:
        """Its requests have nothing to wait for but a free instance: see `run_at_once`."""
        return self._direct is not None

    def run_at_once(self, request: InferRequest, answered: Callable[[], bool]) -> Ran:
        """See straight.Model."""
        scheduler = self._direct
        if scheduler is None or not self._history.quick:
            return Ran.NOT
        with self._lock:
            instance = None if self._open.draining else scheduler.maybe_take()
            if instance is None:
                return Ran.NOT
            self._open.add()
        level = continuations.enter(self)
        self._execute(Run(instance, (request,)))
        over = answered()
        continuations.run_over(level)
        drained = None
        with self._lock:
            scheduler.release(instance)
            waiting = scheduler.waiting
            if over:
                drained = self._open.end()
        continuations.leave(level)
        if waiting:
            self.poll(0)
        if drained is not None:
            drained()
        return Ran.ANSWERED if over else Ran.PENDING

    def observe_cache_hit(self, request: InferRequest, lookup_start_ns: int) -> None:
        """See caching.CacheableModel."""
        with self._lock:
            self._statistics.observe_cache_hit(request, lookup_start_ns, time.monotonic_ns())

    def observe_cache_miss(self, duration_ns: int, now_ns: int) -> None:
        """See caching.CacheableModel."""
        with self._lock:
            self._statistics.observe_cache_miss(duration_ns, now_ns)

    def poll(self, inline_runs: int = _NO_LIMIT) -> None:
        """Start what can start; `inline_runs` as for `submit`."""
        with self._lock:
            decisions = self._decide(time.monotonic_ns())
        self._start_runs(self._rejected(decisions), inline_runs)

    def poll_on_loop(self) -> int | None:
        """See ServingModel."""
        with self._lock:
            decisions = self._decide(time.monotonic_ns(), on_loop=True)
        self._start_runs(self._rejected(decisions), on_loop=True)
        with self._lock:
            return self._see_to_deadline(time.monotonic_ns(), on_loop=True)

    def _decide(self, now_ns: int, *, on_loop: bool = False) -> list[Decision]:
        """Ask the scheduler what is next, and have the alarms ask again in time; with the lock held.

        Args:
            on_loop: the loop asks, and asks again in time if it can.
        """
        decisions = self._scheduler.poll(now_ns)
        for decision in decisions:
            if not isinstance(decision, Run):
                self._statistics.observe_failure(decision.request, Failure.REJECTED, now_ns)
        self._see_to_deadline(now_ns, on_loop=on_loop)
        if self._order is not None:
            for decision in decisions:
                if isinstance(decision, Run):
                    for request in decision.requests:
                        self._order.join(request)
        return decisions

    def _see_to_deadline(self, now_ns: int, *, on_loop: bool) -> int | None:
        """Set the alarm, or return when the loop is to ask again; with the lock held.

        The loop is late when it runs a model that is slow for once: so may a batch be, but no timeout.
        """
        due_ns = self._scheduler.next_deadline_ns()
        if due_ns is None:
            return None
        if on_loop and self.quick and self._scheduler.delays_only:
            return due_ns
        if not now_ns < self._alarm_ns <= due_ns:
            self._alarm_ns = due_ns
            self._alarms.at(due_ns, self._on_alarm)
        return None

    def _rejected(self, decisions: list[Decision]) -> list[Run]:
        """Answer those that are rejected; return the rest, but for those that wait for their turn."""
        runs = []
        for decision in decisions:
            if isinstance(decision, Run):
                runs.append(decision)
            else:
                decision.request.fail(decision.error)
        if self._turns is None:
            return runs
        for run in runs:
            with self._lock:
                self._staged += len(_given(run))
            self._turns.take(run.instance, partial(self._turn_has_come, run))
        return []

    def _turn_has_come(self, run: Run) -> None:
        """Start a run that has waited for its turn."""
        with self._lock:
            self._staged -= len(_given(run))
        self._queues[run.instance].put(run)

    def _alarmed(self) -> None:
        """On the alarms' thread."""
        with self._lock:
            self._alarm_ns = 0
            decisions = self._decide(time.monotonic_ns())
        for run in self._rejected(decisions):
            self._queues[run.instance].put(run)

    def _start_runs(self, runs: list[Run], inline_runs: int = _NO_LIMIT, *, on_loop: bool = False) -> None:
        while runs:
            run = runs.pop(0)
            if inline_runs and self.quick:
                inline_runs -= 1
                level = continuations.enter(self)
                again = self._execute(run)
                continuations.run_over(level)
                with self._lock:
                    self._scheduler.release(run.instance, again)
                    decisions = self._decide(time.monotonic_ns(), on_loop=on_loop)
                runs += self._rejected(decisions)
                continuations.leave(level)
            else:
                self._queues[run.instance].put(run)

    def _serve(self, index: int) -> None:
        """The thread of an instance."""
        queue = self._queues[index]
        while (run := queue.get()) is not None:
            while run is not None:
                if self._growing is not None:
                    run = self._grown(run, self._growing)
                level = continuations.enter(self)
                again = self._execute(run)
                continuations.run_over(level)
                run = self._next_run(index, again)
                del again
                continuations.leave(level)

    def _grown(self, run: Run, scheduler: DynamicBatcher) -> Run:
        """Let those join a batch that have come while it waited for its turn."""
        with self._lock:
            joining = scheduler.grow(run.requests)
            if self._order is not None:
                for request in joining:
                    self._order.join(request)
        return replace(run, requests=[*run.requests, *joining]) if joining else run

    def _next_run(self, index: int, again: Sequence[InferRequest]) -> Run | None:
        """Free an instance, start what can start now, and return what that instance itself is to run.

        A function of its own, so that its names do not keep the last requests, and with them their memory, alive while
        the instance's thread waits.
        """
        with self._lock:
            self._scheduler.release(index, again)
            decisions = self._decide(time.monotonic_ns())
        own: Run | None = None
        runs = self._rejected(decisions)
        if self._turns is not None:
            # After what is next has been staged, so that it is compared with what others have staged.
            self._turns.done(index)
        for run in runs:
            if run.instance == index:
                own = run
            else:
                self._queues[run.instance].put(run)
        return own

    def _execute(self, run: Run) -> Sequence[InferRequest]:
        """Run a batch, answer what the backend has left unanswered, and count it.

        Returns:
            The requests that the model wants to see again.
        """
        requests = run.requests
        started_ns = time.monotonic_ns()
        error: TensorhubError | None = None
        times: ComputeTimes | None = None
        traces = [request.trace for request in requests if request.trace is not None]
        for trace in traces:
            trace.started()
        if self.decoupled:
            for request in requests:
                request.response_start_ns = started_ns
        try:
            times = self._instances[run.instance][1].execute(requests)
        except TensorhubError as exc:
            error = exc
        except BaseException as exc:  # SystemExit too: this thread has more to run
            log.exception("model '%s' failed", self.news.model)
            error = InternalError(f"{type(exc).__name__}: {exc}")
        for request in requests:
            if not request.answered and (error is not None or not (self.decoupled or request.deferred)):
                request.fail(error or InternalError("expected a single response, got 0"))
        if run.padded:
            requests = _given(run)
        ended_ns = time.monotonic_ns()
        durations = Durations.between(started_ns, times, ended_ns)
        for request in requests:
            if request.tally is not None:
                request.tally.add(*durations)
        with self._lock:
            self._statistics.observe_run(requests, started_ns, durations, ended_ns, failed=error is not None)
        for trace in traces:
            trace.ran(started_ns, times, ended_ns)
        self._history.observe(ended_ns - started_ns, len(requests))
        return _wanted_again(requests) if self._scheduler.repeats else ()

    def observe_response(
        self, request: InferRequest, response: InferResponse | None, output_start_ns: int, now_ns: int
    ) -> None:
        """Count a response of a decoupled model; see StatisticsRecorder."""
        with self._lock:
            self._statistics.observe_response(request, response, output_start_ns, now_ns)

    def statistics(self, now_ns: int, epoch_offset_ns: int) -> Any:
        """Return what has been counted, as `tensorhub.wire.LoadStatistics`, or None if it is what it was last time."""
        with self._lock:
            pending = self._scheduler.waiting + self._staged
            if not self._statistics.changed and pending == self._told_pending:
                return None
            self._told_pending = pending
            told = self._statistics.export(self.load_id, pending, now_ns, epoch_offset_ns)
            told.batches_closed.update((why.value, count) for why, count in self._scheduler.batches_closed.items())
            return told

    def report_all(self) -> None:
        """Have the next `statistics` return everything: whoever had the last one is dead."""
        self._statistics.changed = True

    def cancel(self, request: InferRequest) -> None:
        """The client has gone: drop the request if it waits, else tell the model."""
        request.cancelled = True
        with self._lock:
            taken_out = self._scheduler.cancel(request)
            for waiting in taken_out:
                self._statistics.observe_failure(waiting, Failure.CANCELED, time.monotonic_ns())
        for waiting in taken_out:
            waiting.fail(Cancelled(""))

    def closed(self) -> None:
        """A request that was submitted has been answered finally."""
        self._open.closed()

    def hold(self) -> bool:
        """See ServingModel."""
        return self._open.hold()

    def release(self) -> None:
        """See ServingModel."""
        self._open.release()

    def drain(self, on_drained: Callable[[], None]) -> None:
        """Take no more requests, and call `on_drained` once when the last one has been answered."""
        self._open.drain(on_drained)

    def unload(self) -> None:
        """End the threads and let the model go; it has been drained. Errors of the model are logged."""
        for queue in self._queues:
            queue.put(None)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        if self._turns is not None:
            self._turns.leave()  # not before: the run that has answered the last request may still have resources
        for name, instance in self._instances:
            try:
                instance.finalize()
            except BaseException:
                log.exception("finalize of '%s' failed", name)
        try:
            self._loaded.unload()
        except BaseException:
            log.exception("unload of '%s' failed", self.news.model)


def _wanted_again(requests: Sequence[InferRequest]) -> list[InferRequest]:
    """Return the rescheduled requests; nobody waits for those that were cancelled meanwhile."""
    again = []
    for request in requests:
        if request.rescheduled and not request.answered:
            if request.cancelled:
                request.fail(Cancelled(""))
            else:
                again.append(request)
    return again


def _given(run: Run) -> Sequence[InferRequest]:
    """The requests of a run that are somebody's."""
    return [request for request in run.requests if request.correlation_id] if run.padded else run.requests
