"""Which models have a worker process of their own, and what that is called. Pure.

A model gets one by its parameter ISOLATE, so that nothing else ends with it when it crashes, or by EXECUTION_ENV_PATH,
because it needs another Python environment than the server has.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tensorhub.errors import InvalidArgument

ISOLATE = "ISOLATE"
ENVIRONMENT = "EXECUTION_ENV_PATH"
"""Model parameters: "yes" or "no"; and the path of a folder or archive, as in Triton's Python backend."""

MODEL_FOLDER = "$$TRITON_MODEL_DIRECTORY"
"""Stands for the model's folder in EXECUTION_ENV_PATH."""

_PREFIX = "own-"
_YES = frozenset(("yes", "true", "1"))
_NO = frozenset(("", "no", "false", "0"))


@dataclass(frozen=True, slots=True)
class OwnWorker:
    """A worker of one model.

    Attributes:
        environment: the path of its Python environment, "" for the server's.
    """

    name: str
    environment: str = ""


def is_own(worker_name: str) -> bool:
    """Whether a worker belongs to one model; others must not be put on it."""
    return worker_name.startswith(_PREFIX)


def own_worker(config: Any, model: str, folder: str, stamp: Callable[[str], str]) -> OwnWorker | None:
    """Return the worker that a model is to have to itself, or None.

    Args:
        config: its `inference.ModelConfig`.
        folder: the model's.
        stamp: what is different when the file at a path has changed: the model then gets another process.

    Raises:
        InvalidArgument: ISOLATE is neither yes nor no.
    """
    isolate = _text(config, ISOLATE).lower()
    if isolate not in _YES | _NO:
        raise InvalidArgument(f"the parameter {ISOLATE} of model '{model}' is '{isolate}'; use 'yes' or 'no'")
    path = _text(config, ENVIRONMENT) if config.backend == "python" else ""
    if path:
        path = path.replace(MODEL_FOLDER, folder)
        digest = hashlib.blake2b(f"{path}\0{stamp(path)}".encode(), digest_size=4).hexdigest()
        return OwnWorker(f"{_PREFIX}{model}-{digest}", path)
    return OwnWorker(f"{_PREFIX}{model}") if isolate in _YES else None


def _text(config: Any, name: str) -> str:
    return str(config.parameters[name].string_value) if name in config.parameters else ""
