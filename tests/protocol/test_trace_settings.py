"""What is traced: the start, changes of the server and of models, and counting down."""

from __future__ import annotations

import pytest

from tensorhub.errors import InvalidArgument
from tensorhub.option_kinds import Scoped
from tensorhub.protocol import trace_settings
from tensorhub.protocol.trace_settings import TENSORS, TIMESTAMPS, TraceBook, TraceSetting, TraceStart


def start(*texts: str) -> TraceStart:
    options = []
    for text in texts:
        left, _, value = text.partition("=")
        scope, comma, name = left.partition(",")
        options.append(Scoped(scope if comma else "", name if comma else scope, value))
    return TraceStart.read(options)


def test_the_defaults_are_tritons() -> None:
    assert start() == TraceStart(TraceSetting(0, 1000, -1, 0), "triton", "", ())


def test_the_command_line() -> None:
    chosen = start(
        "level=TIMESTAMPS", "level=tensors", "rate=7", "count=9", "triton,file=/t.json", "triton,log-frequency=5"
    )
    assert chosen == TraceStart(TraceSetting(TIMESTAMPS | TENSORS, 7, 9, 5), "triton", "/t.json", ())
    otel = start("mode=opentelemetry", "level=TIMESTAMPS", "opentelemetry,url=http://x/", "opentelemetry,resource=a=b")
    assert otel.mode == "opentelemetry"
    assert otel.exporter == (("url", "http://x/"), ("resource", "a=b"))
    assert trace_settings.shown(otel.setting, otel)["url"] == ["http://x/"]


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("level=ALL", "level: got 'ALL'"),
        ("mode=x", "mode: got 'x'"),
        ("rate=x", "rate: got 'x'"),
        ("count=-2", "count: got '-2'"),
        ("colour=red", "unknown setting 'colour'"),
        ("level=TIMESTAMPS", "a file is needed"),
    ],
)
def test_a_command_line_that_is_none(option: str, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        start(option)


def book() -> TraceBook:
    return TraceBook(start("triton,file=/t.json"))


def test_a_model_has_what_the_server_has_but_for_its_own() -> None:
    traces = book()
    traces.update("m", {"trace_rate": 7})
    traces.update("", {"trace_rate": 5, "trace_count": 3})
    assert traces.setting("m") == TraceSetting(0, 7, 3, 0)
    assert traces.setting("other") == traces.setting() == TraceSetting(0, 5, 3, 0)
    assert traces.models == ["m"]
    traces.update("m", {"trace_rate": None})
    assert (traces.setting("m"), traces.models) == (traces.setting(), [])
    traces.update("", {"trace_rate": None, "trace_count": None})
    assert traces.setting() == TraceSetting()


def test_what_cannot_be_traced_is_refused_and_changes_nothing() -> None:
    traces = book()
    traces.update("", {"trace_level": TIMESTAMPS})
    for update, reason in (({"trace_rate": 0}, "sample rate must be non-zero"), ({"trace_count": 0}, "")):
        with pytest.raises(InvalidArgument) as caught:
            traces.update("", update)
        assert caught.value.message == f"Attempting to set invalid trace setting :{reason}"
    assert traces.setting() == TraceSetting(TIMESTAMPS)
    with pytest.raises(InvalidArgument, match="trace file name is not given"):
        TraceBook(start()).update("m", {"trace_level": TIMESTAMPS})


def test_a_count_goes_down_to_zero_where_it_was_set() -> None:
    traces = book()
    traces.update("", {"trace_level": TIMESTAMPS, "trace_count": 2})
    traces.update("m", {"trace_count": 1})
    assert [traces.take("m"), traces.take("m"), traces.take("n"), traces.take("o"), traces.take("p")] == [
        True,
        False,
        True,
        True,
        False,
    ]
    assert (traces.setting("m").trace_count, traces.setting().trace_count) == (0, 0)
    assert not traces.setting().active
    traces.update("", {"trace_count": -1})
    assert all(traces.take("n") for _ in range(5))
