"""Find a backend by its name. What a backend needs is imported with it, when the first model asks for it.

Others come in through entry points: group `tensorhub.backends`, the backend's name, an object that is a Backend.
"""

import importlib
from functools import cache
from typing import cast

from tensorhub.backends.port import Backend
from tensorhub.errors import InvalidArgument

ENTRY_POINTS = "tensorhub.backends"

_BUILT_IN = {
    "function": ("tensorhub.backends.function.backend", "FunctionBackend"),
    "identity": ("tensorhub.backends.identity", "IdentityBackend"),
    "onnxruntime": ("tensorhub.backends.onnxruntime.backend", "OnnxBackend"),
    "python": ("tensorhub.backends.python.backend", "PythonBackend"),
    "pytorch": ("tensorhub.backends.pytorch.backend", "TorchBackend"),
}

_EXTRAS = {"onnxruntime": "onnx", "pytorch": "torch"}
"""What of tensorhub's extras brings the library that a backend needs."""


def find_backend(name: str) -> Backend:
    """Return the backend of that name; the same object each time.

    Raises:
        InvalidArgument: there is none, or it cannot be imported; the message says what is missing.
    """
    try:
        return _find(name)
    except ImportError as exc:
        remedy = f"; install it with: pip install 'tensorhub[{_EXTRAS[name]}]'" if name in _EXTRAS else ""
        raise InvalidArgument(f"backend '{name}' cannot be used: {exc}{remedy}") from exc


def names() -> list[str]:
    """Return the names of the backends that there are, whether what they need is installed or not."""
    from importlib import metadata  # not at the top: with what it imports, 3 MB

    return sorted({*_BUILT_IN, *(entry_point.name for entry_point in metadata.entry_points(group=ENTRY_POINTS))})


@cache
def _find(name: str) -> Backend:
    if name in _BUILT_IN:
        module_name, class_name = _BUILT_IN[name]
        return cast(Backend, getattr(importlib.import_module(module_name), class_name)())
    from importlib import metadata  # not at the top: with what it imports, 3 MB

    for entry_point in metadata.entry_points(group=ENTRY_POINTS, name=name):
        return cast(Backend, entry_point.load())
    raise InvalidArgument(
        f"unable to find backend library for backend '{name}', try specifying runtime on the model configuration."
    )
