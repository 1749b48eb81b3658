"""`python -m tensorhub.workers.check`: what a model's backend says about it, asked in a process of its own.

Reads one JSON object from standard input and writes one to standard output; what the model prints goes to standard
error. See `hub.checking`, which asks.

    {"model": "m", "version": 1, "path": "/r/m", "config": "<config.pbtxt>", "auto_complete": true, "load": false}
    {"config": "<as it would be served>"}    or    {"error": "...", "code": 1, "line": 12}
"""

import contextlib
import json
import os
import sys
import traceback
from dataclasses import replace
from typing import Any

from tensorhub.backends.port import ModelSource
from tensorhub.backends.registry import find_backend
from tensorhub.errors import InternalError, TensorhubError
from tensorhub.protocol import model_config
from tensorhub.workers.instances import wanted_instances


def check(question: dict[str, Any]) -> dict[str, Any]:
    """Complete a model's configuration as a worker would, load it if that is asked for, and say what came of it."""
    name, path = question["model"], question["path"]
    config = model_config.parse_text(question["config"], name)
    try:
        source = ModelSource(name, question["version"], path, config, {})
        backend = find_backend(config.backend)
        if question["auto_complete"]:
            config = model_config.complete(backend.auto_complete(source), name=name)
            source = replace(source, config=config)
        model_config.validate_loaded(config)
        if question["load"]:
            loaded = backend.load(source)
            for wanted in wanted_instances(config)[:1]:
                loaded.new_instance(wanted.spec).finalize()
            loaded.unload()
    except TensorhubError as exc:
        return _failure(exc, exc, path)
    except BaseException as exc:
        return _failure(InternalError(f"{type(exc).__name__}: {exc}"), exc, path)
    return {"config": model_config.to_text(config)}


def _failure(error: TensorhubError, cause: BaseException, path: str) -> dict[str, Any]:
    """Add the last line of the model's own files that the error came through, 0 for none."""
    frames = []
    chain: BaseException | None = cause
    while chain is not None:
        frames += [frame for frame in traceback.extract_tb(chain.__traceback__) if frame.filename.startswith(path)]
        if isinstance(chain, SyntaxError) and chain.lineno is not None and (chain.filename or "").startswith(path):
            return {"error": error.message, "code": error.code, "line": chain.lineno}
        chain = chain.__cause__ or chain.__context__
    line = frames[-1].lineno if frames else 0
    return {"error": error.message, "code": error.code, "line": line or 0}


def main() -> None:
    """Answer the one question on standard input."""
    question = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):
        answer = check(question)
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    os._exit(0)  # whatever threads the model has started


if __name__ == "__main__":
    main()
