"""`tensorhub check PATH...`: see whether a repository, or a file of decorated functions, can be served, and why not.

The exit status is 0 if everything can be served, 1 if something cannot, and 2 for wrong arguments.
"""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from tensorhub.cli.arguments import Parser
from tensorhub.cli.program import BAD_USAGE
from tensorhub.errors import InvalidArgument
from tensorhub.hub.checking import CheckedModel, CheckOptions, as_document, check_repositories, completions
from tensorhub.hub.cloud import local_repositories, mirror_folder
from tensorhub.hub.function_files import SUFFIX, function_repository

_PROG = "tensorhub check"


def run(argv: Sequence[str]) -> int:
    """Check what the arguments name, and print what was found."""
    parser = Parser(_PROG, "See whether a model repository, or a file of decorated functions, can be served.")
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a model repository, or a Python file")
    parser.add_argument(
        "--model-config-name", default="", metavar="NAME", help="take configs/NAME.pbtxt where there is one"
    )
    parser.add_argument(
        "--disable-auto-complete-config",
        action="store_true",
        help="take every config.pbtxt as it is, as the server would",
    )
    parser.add_argument("--load", action="store_true", help="load each model as well, with one instance")
    parser.add_argument("--no-ask", action="store_true", help="look at files only, and run no model's code")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    chosen = parser.parse_args(argv)
    options = CheckOptions(
        chosen.model_config_name, not chosen.disable_auto_complete_config, not chosen.no_ask, chosen.load
    )
    files = [path for path in chosen.paths if path.endswith(SUFFIX)]
    folders = [path for path in chosen.paths if not path.endswith(SUFFIX)]
    try:
        with ExitStack() as held:
            if files:
                folders.append(held.enter_context(function_repository(files)))
            folders, mirrors = local_repositories(folders, held.enter_context(mirror_folder(folders)))
            for mirror in mirrors:
                mirror.refresh()
            found = check_repositories(folders, options)
    except (InvalidArgument, OSError) as exc:
        if chosen.json:
            sys.stdout.write(json.dumps({"ok": False, "error": str(exc), "models": []}) + "\n")
        else:
            sys.stderr.write(f"{_PROG}: {exc}\n")
        return BAD_USAGE if not files and not all(map(os.path.isdir, folders)) else 1
    sys.stdout.write(as_json(found) if chosen.json else as_text(found, colour=sys.stdout.isatty(), columns=_columns()))
    return 0 if all(model.ok for model in found) else 1


def _columns() -> int:
    return max(60, shutil.get_terminal_size((100, 24)).columns)


def as_json(models: Sequence[CheckedModel]) -> str:
    """Return everything that was found as one line of JSON."""
    return json.dumps({"ok": all(model.ok for model in models), "models": list(map(as_document, models))}) + "\n"


_OF_NO_INTEREST = ("name", "optimization")
"""What is filled in for every model, and the same for all."""

_RED, _YELLOW, _GREEN, _DIM, _RESET = "\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[2m", "\x1b[0m"


def as_text(models: Sequence[CheckedModel], *, colour: bool = False, columns: int = 100) -> str:
    """Return what was found for a person: a line for each model, its findings, and what would be filled in."""

    def paint(text: str, code: str) -> str:
        return f"{code}{text}{_RESET}" if colour else text

    lines = []
    for model in models:
        versions = ", ".join(map(str, model.versions))
        state = paint("ok", _GREEN) if model.ok else paint("cannot be served", _RED)
        lines.append(f"{model.name}: {state}" + (f" (version {versions})" if versions else ""))
        for item in model.findings:
            numbers = "".join(f":{number}" for number in (item.place.line, item.place.column) if number)
            severity = paint(item.severity, _RED if item.severity == "error" else _YELLOW)
            field = f" [{item.place.field}]" if item.place.field else ""
            lines.append(f"  {item.place.file}{numbers}: {severity}:{field} {item.message.strip()}")
        if model.ok:
            filled = [text for field, text in completions(model) if field not in _OF_NO_INTEREST]
            if filled:
                lines.append(paint("  filled in by the server:", _DIM))
            for text in filled:
                room = columns - 4
                lines.append("    " + (text if len(text) <= room else text[: room - 3] + "..."))
    wrong = sum(not model.ok for model in models)
    lines.append("")
    lines.append(
        "No models."
        if not models
        else "1 model, which cannot be served."
        if wrong == len(models) == 1
        else f"{len(models)} models, {wrong} of which cannot be served."
        if wrong
        else "1 model, which can be served."
        if len(models) == 1
        else f"{len(models)} models, all of which can be served."
    )
    return "\n".join(lines) + "\n"
