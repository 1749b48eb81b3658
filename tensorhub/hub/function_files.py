"""Files of decorated functions as a model repository, for as long as a server, or a check, needs it.

    <private folder>/<model>/config.pbtxt       what the decorator says
    <private folder>/<model>/1/model.py         a link to the file, so that poll mode follows its changes

So everything else, from the hub to the workers, sees models as any others.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tensorhub.errors import InvalidArgument

SUFFIX = ".py"
_TIMEOUT_S = 120.0
"""How long a file may take to import; some import large libraries."""


@contextmanager
def function_repository(files: Sequence[str]) -> Iterator[str]:
    """Make a repository of the models in these files, yield its path, and remove it.

    Raises:
        InvalidArgument: a file is not there, cannot be imported, or has no model; or two files have the same one.
    """
    root = tempfile.mkdtemp(prefix="tensorhub-functions-")
    try:
        for file in files:
            for model in describe(file):
                _add(root, os.path.realpath(file), model)
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def describe(file: str) -> list[dict[str, Any]]:
    """Return name, line and config text of each model in a file, as a process of its own finds them.

    Raises:
        InvalidArgument: there is no such file, or it cannot be served; the text says why.
    """
    if not os.path.isfile(file):
        raise InvalidArgument(f"{file}: no such file")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tensorhub.backends.function.describe", file],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise InvalidArgument(f"{file}: importing it takes more than {_TIMEOUT_S:.0f} s") from None
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise InvalidArgument(f"{file}: importing it ended the process with status {done.returncode}") from None
    if "error" in found:
        raise InvalidArgument(found["error"])
    models: list[dict[str, Any]] = found["models"]
    return models


def _add(root: str, file: str, model: dict[str, Any]) -> None:
    folder = os.path.join(root, model["name"])
    if os.sep in model["name"] or model["name"].startswith("."):
        raise InvalidArgument(f"{os.path.basename(file)}:{model['line']}: '{model['name']}' cannot be a model's name")
    if os.path.exists(folder):
        raise InvalidArgument(
            f"{os.path.basename(file)}:{model['line']}: model '{model['name']}' is in another file as well; give one "
            "of them another name"
        )
    os.makedirs(os.path.join(folder, "1"))
    os.symlink(file, os.path.join(folder, "1", "model.py"))
    with open(os.path.join(folder, "config.pbtxt"), "w", encoding="utf-8") as config:
        config.write(model["config"])
