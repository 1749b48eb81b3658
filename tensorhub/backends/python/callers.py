"""Which model is calling: found in the globals that `loading` gives to every module of a model.

Walking up the stack costs nothing until somebody asks, and it works on every thread on which the model's code runs,
also on those that it has started itself.
"""

import sys
from types import FrameType

MODEL_NAME = "__tensorhub_model_name__"
MODEL_FOLDER = "__tensorhub_model_folder__"
"""Globals of every module of a model: its name, and the folder of its version."""


def maybe_calling(what: str) -> str | None:
    """Return a global (MODEL_NAME or MODEL_FOLDER) of the nearest caller that is a model, or None if there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        found = frame.f_globals.get(what)
        if found is not None:
            return str(found)
        frame = frame.f_back
    return None
