"""Traces put together from what the processes tell, and Triton's file of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tensorhub.hub.trace_desk import EARLY_LIMIT, OPEN_LIMIT, PATIENCE_NS, Trace, TraceDesk
from tensorhub.hub.trace_file import TraceFile, records
from tensorhub.option_kinds import Scoped
from tensorhub.protocol import messages
from tensorhub.protocol.trace_settings import TIMESTAMPS, TraceBook, TraceStart

Fragment = messages.TraceFragment


def fragment(part: int, number: int = 1, *stamps: str, pid: int = 7, model: str = "m", request_id: str = "") -> Any:
    message = Fragment(part=part, pid=pid, number=number, model=model, version=3, request_id=request_id)
    for index, name in enumerate(stamps):
        message.stamps.add(name=name, ns=index)
    return message


def desk(count: int = -1) -> TraceDesk:
    book = TraceBook(TraceStart.read([Scoped("triton", "file", "/t")]))
    book.update("", {"trace_level": TIMESTAMPS, "trace_count": count})
    return TraceDesk(book)


def test_the_parts_may_come_in_any_order() -> None:
    traces = desk()
    for number in (1, 2):
        assert traces.take(fragment(Fragment.BEGIN, number), 0) == []
    assert traces.take(fragment(Fragment.END, 2), 1) == []
    assert traces.take(fragment(Fragment.WORK, 1), 2) == []
    [second] = traces.take(fragment(Fragment.WORK, 2), 3)
    [first] = traces.take(fragment(Fragment.END, 1), 4)
    assert (first.number, second.number) == (1, 2)
    assert list(traces.close()) == []


def test_the_workers_part_may_come_before_the_beginning() -> None:
    """They come over two connections, and the second one to be written to may be the first one to be read."""
    traces = desk()
    assert traces.take(fragment(Fragment.WORK, 1), 0) == []
    assert traces.take(fragment(Fragment.BEGIN, 1), 1) == []
    [trace] = traces.take(fragment(Fragment.END, 1), 2)
    assert trace.work is not None


def test_parts_of_a_trace_too_many_are_not_kept() -> None:
    traces = desk(count=1)
    for part in (Fragment.BEGIN, Fragment.WORK, Fragment.END):
        traces.take(fragment(part, 0), 0)
    for number in range(1, 3 * EARLY_LIMIT):
        traces.take(fragment(Fragment.BEGIN, number), 0)
        traces.take(fragment(Fragment.WORK, number), 0)
        if number % 2 == 0:
            traces.take(fragment(Fragment.END, number), 0)
    assert "0 open" in repr(traces)
    assert f"{EARLY_LIMIT} early" in repr(traces)
    assert not traces.waiting


def test_traces_of_two_processes_do_not_meet() -> None:
    traces = desk()
    for pid in (7, 8):
        traces.take(fragment(Fragment.BEGIN, 1, pid=pid), 0)
    traces.take(fragment(Fragment.END, 1, pid=7), 0)
    assert traces.take(fragment(Fragment.WORK, 1, pid=8), 0) == []
    assert [trace.number for trace in traces.take(fragment(Fragment.WORK, 1, pid=7), 0)] == [1]


def test_no_more_traces_than_were_asked_for() -> None:
    traces = desk(count=1)
    done = []
    for number in (1, 2, 3):
        for part in (Fragment.BEGIN, Fragment.WORK, Fragment.END):
            done += traces.take(fragment(part, number), 0)
    assert [trace.number for trace in done] == [1]


def test_a_part_that_does_not_come_is_not_waited_for_long() -> None:
    traces = desk()
    traces.take(fragment(Fragment.BEGIN, 1), 0)
    traces.take(fragment(Fragment.BEGIN, 2), 0)
    traces.take(fragment(Fragment.END, 1), 10)
    assert traces.take(fragment(Fragment.BEGIN, 3), 10 + PATIENCE_NS) == []
    assert traces.waiting
    [overdue] = traces.overdue(11 + PATIENCE_NS)
    assert not traces.waiting
    traces.take(fragment(Fragment.BEGIN, 4), 11 + PATIENCE_NS)
    assert (overdue.number, overdue.work) == (1, None)
    assert [trace.number for trace in traces.close()] == [2, 3, 4]


def test_requests_without_end_do_not_fill_the_memory() -> None:
    traces = desk()
    given_up = []
    for number in range(OPEN_LIMIT + 3):
        given_up += traces.take(fragment(Fragment.BEGIN, number), 0)
    assert [trace.number for trace in given_up] == [1, 2, 3]


def trace(number: int) -> Trace:
    begin = fragment(Fragment.BEGIN, number, "HTTP_RECV_START", "HTTP_RECV_END")
    work = fragment(Fragment.WORK, number, "REQUEST_START", "REQUEST_END", request_id="id")
    work.tensors.add(activity="TENSOR_QUEUE_INPUT", name="I", data="1,2", shape="2", datatype="INT32", after=1)
    return Trace(number, begin, work, fragment(Fragment.END, number, "HTTP_SEND_START", "HTTP_SEND_END"))


def test_records_are_tritons() -> None:
    assert records(trace(5)) == [
        {"id": 5, "timestamps": [{"name": "HTTP_RECV_START", "ns": 0}]},
        {"id": 5, "timestamps": [{"name": "HTTP_RECV_END", "ns": 1}]},
        {"id": 5, "model_name": "m", "model_version": 3, "request_id": "id"},
        {"id": 5, "timestamps": [{"name": "REQUEST_START", "ns": 0}]},
        {
            "id": 5,
            "activity": "TENSOR_QUEUE_INPUT",
            "tensor": {"name": "I", "data": "1,2", "shape": "2", "dtype": "INT32"},
        },
        {"id": 5, "timestamps": [{"name": "REQUEST_END", "ns": 1}]},
        {"id": 5, "timestamps": [{"name": "HTTP_SEND_START", "ns": 0}]},
        {"id": 5, "timestamps": [{"name": "HTTP_SEND_END", "ns": 1}]},
    ]


def ids(path: Path) -> list[int]:
    return sorted({item["id"] for item in json.loads(path.read_text())})


def test_a_file_is_json_at_any_time(tmp_path: Path) -> None:
    file = TraceFile(str(tmp_path / "t.json"))
    for number in (1, 2, 3):
        file.write(trace(number), 0)
        assert ids(tmp_path / "t.json") == list(range(1, number + 1))
    file.close()


def test_a_frequency_makes_files_of_so_many_traces(tmp_path: Path) -> None:
    file = TraceFile(str(tmp_path / "t.json"))
    for number in range(1, 6):
        file.write(trace(number), 2)
    file.write(trace(6), 3)
    assert [ids(tmp_path / f"t.json.{index}") for index in range(3)] == [[6], [3, 4], [5]]
    file.close()


def test_a_file_that_cannot_be_written_is_logged_and_no_more(tmp_path: Path, caplog: Any) -> None:
    TraceFile(str(tmp_path / "none" / "t.json")).write(trace(1), 0)
    assert "a trace cannot be written" in caplog.text


def wrote(file: TraceFile, *numbers: int, frequency: int = 0) -> None:
    for number in numbers:
        file.write(trace(number), frequency)
    file.close()


def test_a_file_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    wrote(TraceFile(str(path)), 1, 3, 2)
    second = TraceFile(str(path))
    assert second.resume() == 3
    wrote(second, 4)
    assert ids(path) == [1, 2, 3, 4]
    wrote(TraceFile(str(path)), 1)
    assert ids(path) == [1], "another server begins anew"


def test_files_with_an_index_are_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    wrote(TraceFile(str(path)), 1, 2, 3, frequency=2)
    (tmp_path / "t.json.old").write_text("of somebody else")
    second = TraceFile(str(path))
    assert second.resume() == 3
    wrote(second, 4, 5, 6, frequency=2)
    assert [ids(tmp_path / f"t.json.{index}") for index in range(4)] == [[1, 2], [3], [4, 5], [6]]


def test_a_file_that_was_cut_off_is_put_aside(tmp_path: Path, caplog: Any) -> None:
    path = tmp_path / "t.json"
    path.write_text('[{"id":5,"timestamps":[{"na')
    file = TraceFile(str(path))
    assert file.resume() == 5
    wrote(file, 6)
    assert ids(path) == [6]
    assert path.with_name("t.json.damaged").exists()
    assert "in the middle" in caplog.text


def test_there_may_be_nothing_to_go_on_with(tmp_path: Path) -> None:
    file = TraceFile(str(tmp_path / "t.json"))
    assert file.resume() == 0
    wrote(file, 1)
    assert ids(tmp_path / "t.json") == [1]


def test_numbers_only_rise() -> None:
    traces = desk()
    traces.number_from(10)
    traces.number_from(3)
    for part in (Fragment.BEGIN, Fragment.WORK, Fragment.END):
        done = traces.take(fragment(part, 1), 0)
    assert [trace.number for trace in done] == [10]


def part(id: int, parent: int, children: int, at_ns: int) -> Any:
    work = fragment(Fragment.WORK)
    work.id, work.parent, work.children = id, parent, children
    work.stamps.add(name="REQUEST_START", ns=at_ns)
    return work


def test_a_trace_waits_for_what_it_has_made() -> None:
    traces = desk()
    traces.take(part(8, 5, 0, 30), 0)
    traces.take(fragment(Fragment.BEGIN), 0)
    for work in (part(5, 0, 2, 20), part(0, 0, 1, 10)):
        assert traces.take(work, 0) == []
    assert traces.take(fragment(Fragment.END), 0) == []
    [done] = traces.take(part(7, 5, 0, 25), 0)
    assert [(item.number, item.parent, item.work.id) for item in done.parts] == [(2, 1, 5), (3, 2, 7), (4, 2, 8)]
    assert [item["id"] for item in records(done) if "model_name" in item] == [4, 3, 2, 1]
    traces.take(fragment(Fragment.BEGIN, 2), 0)
    [after] = traces.close()
    assert after.number == 5


def test_a_part_that_a_dead_worker_had_is_given_up() -> None:
    traces = desk()
    traces.take(fragment(Fragment.BEGIN), 0)
    traces.take(part(0, 0, 2, 10), 0)
    traces.take(fragment(Fragment.END), 0)
    traces.take(part(9, 77, 0, 12), 0)
    [overdue] = traces.overdue(1 + PATIENCE_NS)
    assert [(item.number, item.parent) for item in overdue.parts] == [(2, 1)]
