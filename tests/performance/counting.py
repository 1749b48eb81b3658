"""Counting the instructions of Python that a call takes: the same number on any machine, however busy it is."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def instructions(call: Callable[[], Any], warm_up: int = 3) -> int:
    """Return how many bytecode instructions `call` executes, in Python and not in C, after it has run a few times."""
    for _ in range(warm_up):
        call()
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        if event == "opcode":
            count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count
