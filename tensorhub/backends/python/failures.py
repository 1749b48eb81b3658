"""Print an exception of a model as Triton does.

    «class»: «message»

    At:
      «file»(«line»): «function»
      ...

What it calls a file is not where it is on this machine, which is not the clients' business and is in the log: files of
a model are told from the repository on, others from where Python finds modules.

Triton walks outwards from the frame that raised, along the callers as the frames know them. A finished coroutine's
frame knows no caller, so nothing follows it. Frames of this package and of the import machinery are left out: they are
not the model's business.
"""

import importlib
import sys
from pathlib import Path, PurePath
from types import FrameType, TracebackType

_PACKAGE = str(Path(__file__).parent.parent.parent) + "/"
_ENTRANCE = str(Path(__file__).with_name("backend.py"))
"""The file from which all code of models is called."""


def describe(error: BaseException, folder: str) -> str:
    """Return class, message and trace of an exception that has been raised by the model of a folder."""
    frames = _callers(error.__traceback__, folder)
    text = f"{type(error).__name__}: {_message(error)}"
    return f"{text}\n\nAt:\n" + "".join(frames) if frames else text


def shown(file: str, folder: str) -> str:
    """Return a file as clients may see it, in the error of the model of a folder."""
    path = PurePath(file)
    for root in (str(PurePath(folder).parent), *sorted(filter(None, sys.path), key=len, reverse=True)):
        if path.is_relative_to(root):
            return str(path.relative_to(root))
    return path.name


def _message(error: BaseException) -> str:
    try:
        return str(error) or "<EMPTY MESSAGE>"
    except Exception:
        return "<MESSAGE UNAVAILABLE>"


def _callers(trace: TracebackType | None, folder: str) -> list[str]:
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
            result.append(f"  {shown(code.co_filename, folder)}({line}): {code.co_name}\n")
        frame = frame.f_back
        line = frame.f_lineno if frame is not None else 0
    return result
