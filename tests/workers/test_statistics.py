"""Counting runs, failures, cache look-ups and responses."""

from __future__ import annotations

from typing import Any

import pytest

from tensorhub.backends.port import ComputeTimes
from tensorhub.errors import InternalError
from tensorhub.requests import InferRequest, InferResponse
from tensorhub.workers.statistics import RESPONSE_INDEX_LIMIT, Durations, Failure, StatisticsRecorder

MS = 1_000_000


def request(arrival_ns: int, batch_size: int = 1) -> InferRequest:
    return InferRequest("m", 1, "", {}, arrival_ns=arrival_ns, batch_size=batch_size)


def pairs(message: Any) -> dict[str, tuple[int, int]]:
    return {field.name: (value.count, value.ns) for field, value in message.ListFields()}


def run(recorder: StatisticsRecorder, *requests: InferRequest, failed: bool = False) -> None:
    """From 100 to 160, of which 10 are input, 30 inference and 20 output."""
    recorder.observe_run(requests, 100, Durations(10, 30, 20), 160, failed=failed)


def test_a_run_counts_once_as_an_execution_and_for_each_request_as_a_success() -> None:
    recorder = StatisticsRecorder()
    run(recorder, request(40, 2), request(90, 3))
    run(recorder, request(95))
    shown = recorder.export(7, 0, 0, 5 * MS).statistics
    assert (shown.inference_count, shown.execution_count, shown.last_inference) == (6, 2, 5)
    assert pairs(shown.inference_stats) == {
        "success": (3, 120 + 70 + 65),
        "fail": (0, 0),
        "queue": (3, 60 + 10 + 5),
        "compute_input": (3, 30),
        "compute_infer": (3, 90),
        "compute_output": (3, 60),
        "cache_hit": (0, 0),
        "cache_miss": (0, 0),
    }
    assert [(entry.batch_size, entry.compute_infer.count, entry.compute_infer.ns) for entry in shown.batch_stats] == [
        (1, 1, 30),
        (5, 1, 30),
    ]


def test_a_failed_run_is_an_execution_without_inferences() -> None:
    recorder = StatisticsRecorder()
    run(recorder, request(40), request(50), failed=True)
    out = recorder.export(7, 0, 0, 0)
    assert dict(out.failures) == {"BACKEND": 2}
    assert (out.statistics.inference_count, out.statistics.execution_count) == (0, 1)
    assert pairs(out.statistics.inference_stats)["fail"] == (2, 120 + 110)
    assert pairs(out.statistics.inference_stats)["queue"] == (0, 0)
    assert out.statistics.batch_stats[0].compute_infer.count == 1


@pytest.mark.parametrize("reason", [Failure.REJECTED, Failure.CANCELED, Failure.OTHER])
def test_a_failure_without_a_run_is_no_execution(reason: Failure) -> None:
    recorder = StatisticsRecorder()
    recorder.observe_failure(request(40), reason, 100)
    out = recorder.export(7, 3, 0, 0)
    assert dict(out.failures) == {reason.value: 1}
    assert out.pending == 3
    assert pairs(out.statistics.inference_stats)["fail"] == (1, 60)
    assert (out.statistics.execution_count, out.statistics.last_inference) == (0, 0)


def test_a_cache_hit_is_a_success_without_an_inference_and_a_miss_lengthens_one() -> None:
    recorder = StatisticsRecorder()
    recorder.observe_cache_hit(request(40), 70, 90)
    run(recorder, request(80))
    recorder.observe_cache_miss(15, 200)
    shown = recorder.export(7, 0, 0, 0).statistics
    stats = pairs(shown.inference_stats)
    assert (shown.inference_count, shown.execution_count) == (1, 1)
    assert stats["success"] == (2, 50 + 80 + 15)
    assert stats["queue"] == (2, 30 + 20)
    assert stats["compute_infer"] == (1, 30)
    assert (stats["cache_hit"], stats["cache_miss"]) == ((1, 20), (1, 15))


def test_responses_of_a_decoupled_model_count_by_their_index() -> None:
    recorder = StatisticsRecorder()
    for error, cancelled in ((None, False), (InternalError("no"), True)):
        item = request(0)
        item.response_start_ns = 100
        recorder.observe_response(item, InferResponse(), 110, 115)
        recorder.observe_response(item, InferResponse(error=error), 130, 131)
        item.cancelled = cancelled
        recorder.observe_response(item, None, 140, 140)
    stats = recorder.export(7, 0, 0, 0).statistics.response_stats
    assert {
        index: {name: pair for name, pair in pairs(entry).items() if pair[0]} for index, entry in stats.items()
    } == {
        "0": {"compute_infer": (2, 20), "compute_output": (2, 10), "success": (2, 30)},
        "1": {"compute_infer": (2, 30), "compute_output": (2, 2), "success": (1, 16), "fail": (1, 16)},
        "2": {"empty_response": (1, 9), "cancel": (1, 9)},
    }


def test_a_stream_without_end_does_not_grow_the_statistics_without_end() -> None:
    recorder = StatisticsRecorder()
    item = request(0)
    for _ in range(RESPONSE_INDEX_LIMIT + 5):
        recorder.observe_response(item, InferResponse(), 1, 2)
    stats = recorder.export(7, 0, 0, 0).statistics.response_stats
    assert len(stats) == RESPONSE_INDEX_LIMIT
    assert stats[str(RESPONSE_INDEX_LIMIT - 1)].success.count == 6


def test_durations_of_a_backend_that_does_not_divide_its_time() -> None:
    assert Durations.between(100, None, 160) == (0, 60, 0)
    assert Durations.between(100, ComputeTimes(110, 140), 160) == (10, 30, 20)


def test_changed_says_whether_there_is_news() -> None:
    recorder = StatisticsRecorder()
    assert recorder.changed
    recorder.export(7, 0, 0, 0)
    assert not recorder.changed
    run(recorder, request(1))
    assert recorder.changed
