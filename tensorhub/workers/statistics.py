"""What a worker counts of one loaded model version, in Triton's terms. Pure: times in, sums out.

All times are CLOCK_MONOTONIC in nanoseconds. Counting a run costs some twenty additions, whatever its batch size; what
can be worked out when somebody asks is worked out then. A recorder is not thread-safe: its model calls it with the
model's lock held, which it holds around a run's end anyway.

Source of what counts as what: Triton's `InferenceStatsAggregator`, and its Python backend. A run that failed as a whole
is an execution without inferences; an error that a model returned for one request is a success, because the model did
answer.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

from tensorhub.backends.port import ComputeTimes
from tensorhub.protocol import messages
from tensorhub.requests import InferRequest, InferResponse
from tensorhub.workers.latencies import Latencies

RESPONSE_INDEX_LIMIT = 1_000
"""Responses of one request that are counted each by its index; later ones are counted with the last of these."""


class Failure(Enum):
    """Why a request failed; the values are Triton's, as its metrics show them."""

    REJECTED = "REJECTED"
    CANCELED = "CANCELED"
    BACKEND = "BACKEND"
    OTHER = "OTHER"


class Durations(NamedTuple):
    """The three parts of a computation, in ns."""

    input: int
    infer: int
    output: int

    @classmethod
    def between(cls, started_ns: int, times: ComputeTimes | None, ended_ns: int) -> "Durations":
        """Divide a run; one that a backend does not divide is all inference."""
        if times is None:
            return cls(0, ended_ns - started_ns, 0)
        return cls(times.input_end_ns - started_ns, times.output_start_ns - times.input_end_ns, ended_ns - times[1])


class _Batch:
    """Executions of one batch size."""

    __slots__ = ("count", "infer_ns", "input_ns", "output_ns")

    def __init__(self) -> None:
        self.count = self.input_ns = self.infer_ns = self.output_ns = 0


class _Response:
    """Responses with one index; [count, ns] by what became of them."""

    __slots__ = ("cancel", "compute_infer", "compute_output", "empty_response", "fail", "success")

    def __init__(self) -> None:
        self.compute_infer = [0, 0]
        self.compute_output = [0, 0]
        self.success = [0, 0]
        self.fail = [0, 0]
        self.empty_response = [0, 0]
        self.cancel = [0, 0]


class StatisticsRecorder:
    """The counters of one load of one model version; see the module.

    Args:
        latencies: kept beside the sums, if they are asked for.
        load_ns: how long loading took.

    Attributes:
        changed: something has been counted since the last `export`.
        gpu, gpu_byte_size: the ordinal of a GPU, and what loading has taken of its memory; 0: none, or it is not known.
    """

    def __init__(self, latencies: Latencies | None = None, load_ns: int = 0) -> None:
        self._latencies = latencies
        self._load_ns = load_ns
        self.gpu = self.gpu_byte_size = 0
        self.inference_count = 0
        self.execution_count = 0
        self.success_count = 0
        self._success_ns = 0
        self._queue_ns = 0
        self._input_ns = 0
        self._infer_ns = 0
        self._output_ns = 0
        self._computed_count = 0
        self._failures = dict.fromkeys(Failure, 0)
        self._fail_ns = 0
        self._hit_count = self._hit_ns = 0
        self._miss_count = self._miss_ns = 0
        self._last_ns = 0
        self._batches: dict[int, _Batch] = {}
        self._responses: list[_Response] = []
        self.changed = True

    def __repr__(self) -> str:
        return f"<StatisticsRecorder {self.success_count} successes, {self.execution_count} executions>"

    def observe_run(
        self, requests: Sequence[InferRequest], started_ns: int, durations: Durations, ended_ns: int, *, failed: bool
    ) -> None:
        """Count one execution of a batch.

        Args:
            requests: the batch; of each, its arrival and its batch size count.
            started_ns: when the requests left the queue.
            durations: how long the parts took; of an ensemble, the sums over its steps.
            failed: none of the requests could be served: the backend raised.
        """
        if len(requests) == 1:
            request = requests[0]
            rows, total_ns, queue_ns = (
                request.batch_size,
                ended_ns - request.arrival_ns,
                started_ns - request.arrival_ns,
            )
            count = 1
        else:
            count = len(requests)
            rows = sum(request.batch_size for request in requests)
            arrivals_ns = sum(request.arrival_ns for request in requests)
            total_ns, queue_ns = count * ended_ns - arrivals_ns, count * started_ns - arrivals_ns
        input_ns, infer_ns, output_ns = durations
        batch = self._batches.get(rows)
        if batch is None:
            batch = self._batches[rows] = _Batch()
        batch.count += 1
        batch.input_ns += input_ns
        batch.infer_ns += infer_ns
        batch.output_ns += output_ns
        self.execution_count += 1
        self._last_ns = started_ns
        self.changed = True
        if failed:
            self._failures[Failure.BACKEND] += count
            self._fail_ns += total_ns
            return
        self.inference_count += rows
        self.success_count += count
        self._computed_count += count
        self._success_ns += total_ns
        self._queue_ns += queue_ns
        self._input_ns += count * input_ns
        self._infer_ns += count * infer_ns
        self._output_ns += count * output_ns
        if self._latencies is not None:
            self._observe_latencies(self._latencies, requests, started_ns, durations, ended_ns)

    @staticmethod
    def _observe_latencies(
        latencies: Latencies, requests: Sequence[InferRequest], started_ns: int, durations: Durations, ended_ns: int
    ) -> None:
        for request in requests:
            latencies.observe("success", ended_ns - request.arrival_ns, ended_ns)
            latencies.observe("queue", started_ns - request.arrival_ns, ended_ns)
            if not request.response_start_ns:  # else it is counted when its first response is sent
                latencies.observe_first_response(ended_ns - request.arrival_ns)
        latencies.observe("compute_input", durations.input, ended_ns, len(requests))
        latencies.observe("compute_infer", durations.infer, ended_ns, len(requests))
        latencies.observe("compute_output", durations.output, ended_ns, len(requests))

    def observe_failure(self, request: InferRequest, reason: Failure, now_ns: int) -> None:
        """Count a request that failed without an execution: rejected by the queue, or cancelled in it."""
        self._failures[reason] += 1
        self._fail_ns += now_ns - request.arrival_ns
        self.changed = True

    def observe_cache_hit(self, request: InferRequest, lookup_start_ns: int, now_ns: int) -> None:
        """Count a request that the response cache answered: a success without an inference."""
        self.success_count += 1
        self._success_ns += now_ns - request.arrival_ns
        self._queue_ns += lookup_start_ns - request.arrival_ns
        self._hit_count += 1
        self._hit_ns += now_ns - lookup_start_ns
        if self._latencies is not None:
            self._latencies.observe("success", now_ns - request.arrival_ns, now_ns)
            self._latencies.observe("queue", lookup_start_ns - request.arrival_ns, now_ns)
            self._latencies.observe("cache_hit", now_ns - lookup_start_ns, now_ns)
            self._latencies.observe_first_response(now_ns - request.arrival_ns)
        self._last_ns = now_ns
        self.changed = True

    def observe_cache_miss(self, duration_ns: int, now_ns: int) -> None:
        """Count a look-up in vain, with what it took to look and to put the response into the cache afterwards."""
        self._miss_count += 1
        self._miss_ns += duration_ns
        if self._latencies is not None:
            self._latencies.observe("cache_miss", duration_ns, now_ns)
        self._success_ns += duration_ns
        self.changed = True

    def observe_response(
        self, request: InferRequest, response: InferResponse | None, output_start_ns: int, now_ns: int
    ) -> None:
        """Count one response of a decoupled model, by its place among the responses of its request.

        Args:
            response: None for the end of the request without a further response.
            output_start_ns: when the model handed it over; `now_ns`: when it was sent. The model is taken to have
                worked on it since its run began or, from the second one on, since the response before it.
        """
        responses = self._responses
        index = min(request.response_count, RESPONSE_INDEX_LIMIT - 1)
        if len(responses) <= index:
            responses.append(_Response())
        entry = responses[index]
        started_ns = request.response_start_ns
        if response is None:
            target = entry.cancel if request.cancelled else entry.empty_response
        else:
            _add(entry.compute_infer, output_start_ns - started_ns)
            _add(entry.compute_output, now_ns - output_start_ns)
            target = entry.success if response.error is None else entry.fail
            if self._latencies is not None and request.response_count == 0:
                self._latencies.observe_first_response(now_ns - request.arrival_ns)
        _add(target, now_ns - started_ns)
        request.response_count += 1
        request.response_start_ns = now_ns
        self.changed = True

    def export(self, load_id: int, pending: int, now_ns: int, epoch_offset_ns: int) -> Any:
        """Return a `tensorhub.wire.LoadStatistics`.

        Args:
            pending: requests in the model's queue.
            now_ns: CLOCK_MONOTONIC.
            epoch_offset_ns: what to add to a monotonic time to get one since 1970.
        """
        out = messages.LoadStatistics(load_id=load_id, pending=pending, load_ns=self._load_ns)
        self.changed = False
        if self._latencies is not None:
            self.changed = self._latencies.ages
            self._latencies.export(out, now_ns)
        out.failures.update((reason.value, count) for reason, count in self._failures.items() if count)
        shown = out.statistics
        shown.last_inference = (self._last_ns + epoch_offset_ns) // 1_000_000 if self._last_ns else 0
        shown.inference_count = self.inference_count
        shown.execution_count = self.execution_count
        stats = shown.inference_stats
        computed = self._computed_count
        for target, count, duration_ns in (
            (stats.success, self.success_count, self._success_ns),
            (stats.fail, sum(self._failures.values()), self._fail_ns),
            (stats.queue, self.success_count, self._queue_ns),
            (stats.compute_input, computed, self._input_ns),
            (stats.compute_infer, computed, self._infer_ns),
            (stats.compute_output, computed, self._output_ns),
            (stats.cache_hit, self._hit_count, self._hit_ns),
            (stats.cache_miss, self._miss_count, self._miss_ns),
        ):
            target.count, target.ns = count, max(0, duration_ns)
        for size, batch in sorted(self._batches.items()):
            entry = shown.batch_stats.add(batch_size=size)
            for target, duration_ns in (
                (entry.compute_input, batch.input_ns),
                (entry.compute_infer, batch.infer_ns),
                (entry.compute_output, batch.output_ns),
            ):
                target.count, target.ns = batch.count, max(0, duration_ns)
        if self.gpu_byte_size:
            shown.memory_usage.add(type="GPU", id=self.gpu, byte_size=self.gpu_byte_size)
        for index, response in enumerate(self._responses):
            answer = shown.response_stats[str(index)]
            for name in _Response.__slots__:
                target = getattr(answer, name)
                target.count, target.ns = getattr(response, name)
        return out


def _add(pair: list[int], duration_ns: int) -> None:
    pair[0] += 1
    pair[1] += max(0, duration_ns)
