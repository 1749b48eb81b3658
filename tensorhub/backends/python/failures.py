"""Print an exception of a model as Triton does.

    «class»: «message»

    At:
      «file»(«line»): «function»
      ...

Triton walks outwards from the frame that raised, along the callers as the frames know them. A finished coroutine's
frame knows no caller, so nothing follows it. Frames of this package are left out: they are not the model's business.
"""

from pathlib import Path
from types import FrameType, TracebackType

_OWN_FOLDER = str(Path(__file__).parent.parent.parent) + "/"


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
    entered_model = False
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(_OWN_FOLDER):
            # The first own frame outside the model's is where the server called it.
            if entered_model:
                break
        elif not code.co_filename.startswith("<frozen "):
            entered_model = True
            result.append(f"  {code.co_filename}({line}): {code.co_name}\n")
        frame = frame.f_back
        line = frame.f_lineno if frame is not None else 0
    return result
