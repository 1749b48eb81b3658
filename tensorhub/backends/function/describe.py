"""`python -m tensorhub.backends.function.describe FILE`: say what a file decorates, as one line of JSON.

A process of its own: the file is a person's program, and what it imports or does at import must not stay in `serve` or
`check`. What the program prints goes to standard error.

    {"models": [{"name": "add", "line": 7, "config": "<config.pbtxt>"}]}    or    {"error": "<text>"}
"""

import contextlib
import json
import os
import sys
from typing import Any

from tensorhub.backends.function.files import SourceFile
from tensorhub.decorator import ModelDefinitionError
from tensorhub.errors import TensorhubError
from tensorhub.protocol import model_config
from tensorhub.protocol.config_function import function_config


def describe(path: str) -> dict[str, Any]:
    """Return the models of a file, or what is wrong with it."""
    try:
        models = []
        for model in SourceFile(path).models.values():
            config = function_config(model)
            model_config.validate(model_config.complete(config, name=model.name))
            models.append({"name": model.name, "line": model.line, "config": model_config.to_text(config)})
    except (TensorhubError, ModelDefinitionError) as exc:
        return {"error": str(exc)}
    return {"models": models}


def main() -> int:
    """Describe the one file that the arguments name."""
    with contextlib.redirect_stdout(sys.stderr):
        found = describe(sys.argv[1])
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    os._exit(0)  # whatever threads the program has started


if __name__ == "__main__":
    main()
