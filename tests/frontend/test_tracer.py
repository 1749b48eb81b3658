"""Which requests of a frontend are traced."""

from __future__ import annotations

from tensorhub.frontend.tracer import Tracer
from tensorhub.protocol import messages, trace_context
from tensorhub.protocol.trace_settings import OFF, TENSORS, TIMESTAMPS

Snapshot = messages.Snapshot


def tracer(contexts: bool = False, **settings: tuple[int, int]) -> Tracer:
    made = Tracer(7, "HTTP")
    follow(made, contexts, **settings)
    return made


def follow(made: Tracer, contexts: bool = False, **settings: tuple[int, int]) -> None:
    snapshot = Snapshot()
    for model, (level, rate) in settings.items():
        snapshot.traces["" if model == "server" else model].level = level
        snapshot.traces["" if model == "server" else model].rate = rate
    made.follow(snapshot.traces, contexts=contexts)


def traced(made: Tracer, *models: str) -> list[bool]:
    return [made.sample(model) is not None for model in models]


def test_nothing_is_traced_before_somebody_asks_for_it() -> None:
    assert not tracer().active
    assert not tracer(server=(OFF, 1)).active
    assert traced(tracer(), "m") == [False]


def test_every_nth_request_of_a_setting_is_traced() -> None:
    made = tracer(server=(TIMESTAMPS, 3), own=(TIMESTAMPS, 1), off=(OFF, 1))
    assert made.active
    assert traced(made, *"mnmnmn") == [False, False, True, False, False, True]
    assert traced(made, "own", "own", "off", "m") == [True, True, False, False]


def test_counting_begins_anew_with_another_setting_and_goes_on_with_the_same() -> None:
    made = tracer(server=(TIMESTAMPS, 2))
    traced(made, "m")
    follow(made, server=(TIMESTAMPS, 2))
    assert traced(made, "m") == [True]
    traced(made, "m")
    follow(made, server=(TIMESTAMPS | TENSORS, 2))
    assert traced(made, "m", "m") == [False, True]


def test_what_is_told_names_the_trace() -> None:
    made = tracer(server=(TIMESTAMPS, 1))
    trace = made.sample("m")
    assert trace is not None
    origin, begin, end = trace.origin(), trace.begun(1, 2), trace.ended(3, 4)
    assert {(item.pid, item.number) for item in (origin, begin, end)} == {(7, 1)}
    assert [(stamp.name, stamp.ns) for stamp in (*begin.stamps, *end.stamps)] == [
        ("HTTP_RECV_START", 1),
        ("HTTP_RECV_END", 2),
        ("HTTP_SEND_START", 3),
        ("HTTP_SEND_END", 4),
    ]
    assert origin.context == ""


def test_a_client_that_traces_is_followed_whatever_the_rate_is() -> None:
    made = tracer(contexts=True, server=(TIMESTAMPS, 1_000))
    client = trace_context.new_trace()
    trace = made.sample("m", client.header())
    assert trace is not None
    own = trace_context.parse(trace.origin().context)
    assert own is not None
    assert (own.trace_id, trace.begun(0, 0).parent_span) == (client.trace_id, client.span_id)
    assert own.span_id != client.span_id
    assert made.sample("m", client._replace(sampled=False).header()) is None
    assert tracer(server=(TIMESTAMPS, 1_000)).sample("m", client.header()) is None


def test_a_trace_that_nobody_has_begun_begins_here() -> None:
    trace = tracer(contexts=True, server=(TIMESTAMPS, 1)).sample("m")
    assert trace is not None
    assert trace_context.parse(trace.origin().context) is not None
    assert trace.begun(0, 0).parent_span == 0
