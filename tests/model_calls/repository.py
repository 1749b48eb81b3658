"""Model repositories that tests write, and servers that serve them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from tensorhub.client.http import Server
from tensorhub.client.tensors import Tensor

NAMES = {"<i4": "INT32", "<f4": "FP32", "|O": "BYTES"}


def add_model(repository: Path, name: str, config: str, code: str = "", files: Mapping[str, str] = {}) -> None:
    """Write a model; without code it is one that needs none, such as an ensemble."""
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(textwrap.dedent(config))
    if code:
        (folder / "1" / "model.py").write_text(textwrap.dedent(code))
    for path, text in files.items():
        (folder / path).write_text(text)


def ask(address: str, model: str, /, **arrays: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Infer over HTTP; return the outputs by name.

    Raises:
        Refused: the server's error.
    """
    inputs = [Tensor(name, NAMES[array.dtype.str], array) for name, array in arrays.items()]
    with closing(Server(address)) as client:
        return {tensor.name: tensor.array for tensor in client.infer(model, inputs)}
