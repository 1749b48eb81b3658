"""Sums over workers."""

from __future__ import annotations

from typing import Any

from tensorhub.hub.metrics_page import CLOSED_REASONS
from tensorhub.hub.statistics import StatisticsBook
from tensorhub.protocol import messages
from tensorhub.workers.schedulers.port import Closed


def counted(load_id: int, inferences: int, *, pending: int = 0, failures: int = 0, size: int = 1) -> Any:
    out = messages.LoadStatistics(load_id=load_id, pending=pending)
    out.statistics.inference_count = inferences
    out.statistics.last_inference = inferences * 10
    out.statistics.inference_stats.success.count = inferences
    out.statistics.inference_stats.success.ns = 100 * inferences
    out.statistics.batch_stats.add(batch_size=size).compute_infer.count = inferences
    out.statistics.response_stats[str(size)].success.count = inferences
    if failures:
        out.failures["BACKEND"] = failures
        out.batches_closed["full"] = 10 * failures
    return out


def report(*loads: Any) -> Any:
    return messages.ProcessStatistics(loads=loads)


def test_the_newest_report_of_each_worker_is_summed_up() -> None:
    book = StatisticsBook()
    book.reported(1, report(counted(7, 2), counted(8, 9)))
    book.reported(1, report(counted(7, 3, pending=1, failures=1)))
    book.reported(2, report(counted(7, 4, pending=2, failures=2, size=5)))
    total = book.total(7)
    shown = total.statistics
    assert (shown.inference_count, shown.last_inference, total.pending) == (7, 40, 3)
    assert (shown.inference_stats.success.count, shown.inference_stats.success.ns) == (7, 700)
    assert dict(total.failures) == {"BACKEND": 3}
    assert dict(total.batches_closed) == {"full": 30}
    assert [(entry.batch_size, entry.compute_infer.count) for entry in shown.batch_stats] == [(1, 3), (5, 4)]
    assert {index: entry.success.count for index, entry in shown.response_stats.items()} == {"1": 3, "5": 4}
    assert book.total(8).statistics.inference_count == 9
    assert book.total(9).statistics.inference_count == 0


def test_what_a_dead_worker_counted_stays_and_its_queue_does_not() -> None:
    book = StatisticsBook()
    book.reported(1, report(counted(7, 2, pending=5)))
    book.died(1)
    book.died(1)
    book.reported(3, report(counted(7, 1)))
    assert (book.total(7).statistics.inference_count, book.total(7).pending) == (3, 0)


def test_the_metrics_page_has_every_reason_of_the_schedulers() -> None:
    assert set(CLOSED_REASONS) == {reason.value for reason in Closed}


def test_memory_goes_with_its_process() -> None:
    book = StatisticsBook()
    load = counted(7, 2)
    load.statistics.memory_usage.add(type="GPU", id=1, byte_size=100)
    for pid in (1, 2):
        book.reported(pid, report(load))
    [usage] = book.total(7).statistics.memory_usage
    assert (usage.type, usage.id, usage.byte_size) == ("GPU", 1, 200)
    book.died(1)
    [usage] = book.total(7).statistics.memory_usage
    assert usage.byte_size == 100


def test_a_load_that_is_gone_is_forgotten() -> None:
    book = StatisticsBook()
    book.reported(1, report(counted(7, 2)))
    book.died(1)
    book.reported(2, report(counted(7, 1), counted(8, 1)))
    book.keep({8})
    assert book.total(7).statistics.inference_count == 0
    assert book.total(8).statistics.inference_count == 1
