"""`python -m tensorhub.workers.check`: what a model's backend says about it, asked in a process of its own.

Reads one JSON object from standard input and writes one to standard output; what the model prints goes to standard
error. See `hub.checking`, which asks.

    {"model": "m", "version": 1, "path": "/r/m", "config": "<config.pbtxt>", "auto_complete": true, "load": false,
     "environment": ""}
    {"config": "<as it would be served>"}    or    {"error": "...", "code": 1, "line": 12, "about": "backend"}

`environment` is the path of a Python environment to ask in. `about` says what is wrong: the "model"; its "backend",
which is not here; its "environment"; or the "config", for files that it names.
"""

import contextlib
import json
import os
import subprocess
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from tensorhub.backends.port import ModelSource
from tensorhub.backends.python.activation import EnvironmentFault
from tensorhub.backends.python.environments import prepare
from tensorhub.backends.registry import find_backend, names
from tensorhub.errors import Code, InternalError, TensorhubError
from tensorhub.protocol import model_config
from tensorhub.protocol.model_spec import ModelSpec
from tensorhub.workers.instances import wanted_instances
from tensorhub.workers.schedulers.states import INITIAL_STATE_FOLDER, initial_files
from tensorhub.workers.warmup import read_file, read_samples


def check(question: dict[str, Any]) -> dict[str, Any]:
    """Complete a model's configuration as a worker would, load it if that is asked for, and say what came of it."""
    name, path = question["model"], question["path"]
    config = model_config.parse_text(question["config"], name)
    try:
        backend = find_backend(config.backend)
    except TensorhubError as exc:
        there = ", ".join(names())
        return _wrong("backend", f"{exc.message} (backends that are here: {there})", exc.code)
    try:
        source = ModelSource(name, question["version"], path, config, {})
        if question["auto_complete"]:
            config = model_config.complete(backend.auto_complete(source), name=name)
            source = replace(source, config=config)
        model_config.validate_loaded(config)
        wrong = _wrong_files(config, name, Path(path))
        if wrong is not None:
            return wrong
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


def _wrong(about: str, text: str, code: int = Code.INTERNAL, line: int = 0) -> dict[str, Any]:
    """Return the answer that says what is wrong; see the module."""
    return {"error": text, "code": code, "line": line, "about": about}


def _wrong_files(config: Any, name: str, folder: Path) -> dict[str, Any] | None:
    """Read what a worker would read beside the model; None if that is as it should be."""
    try:
        read_samples(config, ModelSpec.from_config(config, name, 1), folder)
        for file in initial_files(config):
            read_file(folder, INITIAL_STATE_FOLDER, file, name)
    except TensorhubError as exc:
        return _wrong("config", exc.message, exc.code)
    return None


def _failure(error: TensorhubError, cause: BaseException, path: str) -> dict[str, Any]:
    """Add the last line of the model's own files that the error came through, 0 for none."""
    frames = []
    chain: BaseException | None = cause
    while chain is not None:
        frames += [frame for frame in traceback.extract_tb(chain.__traceback__) if frame.filename.startswith(path)]
        if isinstance(chain, SyntaxError) and chain.lineno is not None and (chain.filename or "").startswith(path):
            return _wrong("model", error.message, error.code, chain.lineno)
        chain = chain.__cause__ or chain.__context__
    line = frames[-1].lineno if frames else 0
    return _wrong("model", error.message, error.code, line or 0)


def _asked_elsewhere(question: dict[str, Any]) -> dict[str, Any]:
    """Have the question answered under the Python of the model's own environment."""
    try:
        interpreter = prepare(question["environment"], lambda text: None, "tensorhub.workers.check")
        done = subprocess.run(
            interpreter.argv,
            env=interpreter.environ,
            input=json.dumps(question | {"environment": ""}),
            capture_output=True,
            text=True,
        )
        answer: dict[str, Any] = json.loads(done.stdout)
    except EnvironmentFault as exc:
        return _wrong("environment", str(exc))
    except ValueError:
        text = f"its process ended with status {done.returncode}: {done.stderr.strip()[-500:]}"
        return _wrong("model", text)
    return answer


def main() -> None:
    """Answer the one question on standard input."""
    question = json.load(sys.stdin)
    if question["environment"]:
        answer = _asked_elsewhere(question)
    else:
        with contextlib.redirect_stdout(sys.stderr):
            answer = check(question)
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    os._exit(0)  # whatever threads the model has started


if __name__ == "__main__":
    main()
