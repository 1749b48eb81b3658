"""The W3C trace context: who traces a request, as the header `traceparent` says it. Pure.

Source: W3C Recommendation "Trace Context", level 1, 3.2.
"""

import json
import random
import re
from typing import NamedTuple

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1
_FORBIDDEN_VERSION = "ff"

_random = random.SystemRandom()


class TraceContext(NamedTuple):
    """One span of one trace."""

    trace_id: int
    span_id: int
    sampled: bool = True

    def header(self) -> str:
        """Return the value of `traceparent`."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{1 if self.sampled else 0:02x}"

    def carrier(self) -> str:
        """Return what models are told: JSON of the headers that a call of theirs would carry on."""
        return json.dumps({"traceparent": self.header()})


def parse(header: str) -> TraceContext | None:
    """Read a `traceparent`; None if it is none, which the standard has ignored."""
    match = _TRACEPARENT.fullmatch(header.strip())
    if match is None or match[1] == _FORBIDDEN_VERSION or (match[1] == "00" and match[5]):
        return None
    trace_id, span_id = int(match[2], 16), int(match[3], 16)
    if not trace_id or not span_id:
        return None
    return TraceContext(trace_id, span_id, bool(int(match[4], 16) & _SAMPLED))


def new_trace() -> TraceContext:
    """Begin a trace that nobody has begun before."""
    return TraceContext(_random.getrandbits(128) or 1, new_span_id())


def new_span_id() -> int:
    """Return an id that no other span has."""
    return _random.getrandbits(64) or 1
