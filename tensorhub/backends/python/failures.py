"""Print an exception of a model as Triton does.

    «class»: «message»

    At:
      «file»(«line»): «function»
      ...

Triton walks outwards from the frame that raised, along the callers as the frames know them. A finished coroutine's
frame knows no caller, so nothing follows it. Frames of this package and of the import machinery are left out: they are
not the model's business.
"""

import importlib
from pathlib import Path
from types import FrameType, TracebackType

_PACKAGE = str(Path(__file__).parent.parent.parent) + "/"
_ENTRANCE = str(Path(__file__).with_name("backend.py"))
"""The file from which all code of models is called."""


def describe(error: BaseException) -> str:
    """Return class, message and trace of an exception that has been raised."""
    frames = _callers(error.__traceback__)
    text = f"{type(error).__name__}: {_message(error)}"
    return f"{text}\n\nAt:\n" + "".join(frames) if frames else text


def _message(error: BaseException) -> str:
    try:
        return str(error) or "<EMPTY MESSAGE>"
    except Exception:
        return "<MESSAGE UNAVAILABLE>"


def _callers(trace: TracebackType | None) -> list[str]:
    if trace is None:
        return []
    while trace.tb_next is not None:
        trace = trace.tb_next
    frame: FrameType | None = trace.tb_frame
    line = trace.tb_lineno
    result: list[str] = []
    while frame is not None and frame.f_code.co_filename != _ENTRANCE:
        code = frame.f_code
        if not code.co_filename.startswith((_PACKAGE, "<frozen ", importlib.__file__)):
            result.append(f"  {code.co_filename}({line}): {code.co_name}\n")
        frame = frame.f_back
        line = frame.f_lineno if frame is not None else 0
    return result
