"""The header `traceparent`, by the standard's rules."""

from __future__ import annotations

import json

import pytest

from tensorhub.protocol.trace_context import TraceContext, new_trace, parse

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_it_reads_back() -> None:
    header = f"00-{TRACE}-{SPAN}-01"
    context = parse(header)
    assert context == TraceContext(int(TRACE, 16), int(SPAN, 16), sampled=True)
    assert context.header() == header
    assert json.loads(context.carrier()) == {"traceparent": header}
    fresh = new_trace()
    assert parse(fresh.header()) == fresh


@pytest.mark.parametrize(
    ("header", "sampled"),
    [(f"00-{TRACE}-{SPAN}-00", False), (f"00-{TRACE}-{SPAN}-03", True), (f"cc-{TRACE}-{SPAN}-01-what-comes", True)],
)
def test_flags_and_later_versions(header: str, sampled: bool) -> None:
    context = parse(header)
    assert context is not None
    assert context.sampled is sampled


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
    ],
)
def test_what_is_none_is_ignored(header: str) -> None:
    assert parse(header) is None
