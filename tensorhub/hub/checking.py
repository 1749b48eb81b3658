"""What is wrong with the models of a repository, and what would be completed, without serving them.

Everything that needs no model's own code is looked at here. What the model itself has to say (its backend's part of the
configuration, and whether it loads) is asked of a process of its own for each version, as models are programs.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tensorhub.errors import TITLES, Code, TensorhubError
from tensorhub.hub.own_workers import ENVIRONMENT, own_worker
from tensorhub.hub.repository import CONFIG_FILENAME, CONFIGS_FOLDER, ModelFolder, Repository, no_version, resolve
from tensorhub.protocol import model_config
from tensorhub.protocol.config_places import Place, locate, split_place
from tensorhub.protocol.config_steps import check_steps
from tensorhub.protocol.model_names import step_model

_TIMEOUT_S = 300.0
_ANY_VERSION = -1
ERROR, WARNING = "error", "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to tell; `severity` is ERROR or WARNING, and `place.file` relative to the repository."""

    severity: str
    message: str
    place: Place = field(default=Place())


@dataclass(slots=True)
class CheckedModel:
    """A model, what was found, and its configuration as it is and as it would be.

    Attributes:
        versions: that would be served.
        written: the `inference.ModelConfig` as it was read; None if it cannot be.
        completed: as it would be served; None if that could not be found out.
    """

    name: str
    versions: tuple[int, ...] = ()
    findings: list[Finding] = field(default_factory=list)
    written: Any = None
    completed: Any = None

    @property
    def ok(self) -> bool:
        return not any(item.severity == ERROR for item in self.findings)


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """How to check.

    Attributes:
        ask: ask the models' backends.
        load: load the models as well, with one instance each.
    """

    config_name: str = ""
    auto_complete: bool = True
    ask: bool = True
    load: bool = False


def check_repositories(paths: Sequence[str], options: CheckOptions) -> list[CheckedModel]:
    """Check all models, in the order of their names.

    Raises:
        InvalidArgument: a path is no repository.
    """
    repository = Repository(paths, options.config_name)
    repository.check()
    folders = repository.scan()
    checks = {name: _Check(folder, options) for name, folder in folders.items()}
    for check in checks.values():
        check.look()
    for name in checks:
        _fit(name, checks, ())
    return [check.found for check in checks.values()]


def _fit(name: str, checks: Mapping[str, "_Check"], way: tuple[str, ...]) -> None:
    """Check an ensemble against the models of its steps, when those that are ensembles have been."""
    if name in way:
        circle = way[way.index(name) :]
        for index, member in enumerate(circle):
            checks[member].in_circle([*circle[index:], *circle[: index + 1]])
        return
    check = checks[name]
    if check.fitted:
        return
    for step in check.steps:
        if step in checks:
            _fit(step, checks, (*way, name))
    if not check.fitted:
        check.fit(checks)


class _Check:
    """Of one model.

    Attributes:
        found: what has been found so far.
        fitted: if it is an ensemble, its steps have been looked at.
    """

    def __init__(self, folder: ModelFolder, options: CheckOptions) -> None:
        self._folder = folder
        self._options = options
        self.found = CheckedModel(folder.name)
        self.fitted = False
        self._file, self._text = _config_file(folder, options.config_name)

    @property
    def steps(self) -> list[str]:
        """The models of an ensemble's steps."""
        config = self.found.completed
        return [] if config is None else list(dict.fromkeys(map(step_model, config.ensemble_scheduling.step)))

    def look(self) -> None:
        """Look at everything but other models, and go on after an error as far as that makes sense."""
        folder, found = self._folder, self.found
        self._check_version_folders()
        try:
            definition = resolve(folder, auto_complete=self._options.auto_complete)
        except TensorhubError as exc:
            self._error(exc.message)
            return
        found.written, found.completed, found.versions = folder.config, definition.config, definition.versions
        if not found.versions:
            there = ", ".join(map(str, folder.versions)) or "none"
            self._error(f"{no_version(folder.name)}; versions that are there: {there}")
        self._check_labels(definition.config)
        if model_config.is_ensemble(definition.config):
            return
        for version in found.versions:
            missing = self._missing_file(definition.config, version)
            if self._options.ask and (found.ok or missing is not None):
                self._ask(definition.config, version, missing)
            elif missing is not None:
                self.found.findings.append(missing)

    def fit(self, checks: Mapping[str, "_Check"]) -> None:
        """If this is an ensemble, look at the models of its steps, which have been looked at."""
        self.fitted = True
        steps, config = self.steps, self.found.completed
        for name in steps:
            if name not in checks:
                self._error(f"the ensemble has a step with model '{name}', which is in no repository")
            elif not checks[name].found.ok:
                self._error(f"the ensemble has a step with model '{name}', which cannot be served")
        if not steps or not self.found.ok:
            return
        for step in config.ensemble_scheduling.step:
            versions = checks[step_model(step)].found.versions
            if step.model_version != _ANY_VERSION and step.model_version not in versions:
                served = ", ".join(map(str, versions))
                self._error(
                    f"the ensemble has a step with version {step.model_version} of model '{step.model_name}', of which "
                    f"these are served: {served}"
                )
                return
        configs = {name: checks[name].found.completed for name in steps}
        if not all(item.input and item.output for item in configs.values()):
            return  # nobody has asked the models
        try:
            config.model_transaction_policy.decoupled = check_steps(config, configs)
        except TensorhubError as exc:
            self._error(exc.message)

    def in_circle(self, way: Sequence[str]) -> None:
        """This ensemble has a step that has it as a step."""
        if not self.fitted:
            self.fitted = True
            place = locate(self._text, f"step '{way[1]}'", "")
            self._error(
                f"circular dependency between ensembles: {' -> '.join(way)}",
                Place(self._file, place.line, place.column, place.field),
            )

    def _error(self, message: str, place: Place | None = None) -> None:
        if place is None:
            place, message = split_place(message)
            message = message.removesuffix(f" (field '{place.field}')")
            if not place.line and self._text:
                found = locate(self._text, message, self._folder.name)
                place = Place(self._file, found.line, found.column, found.field)
            elif not place.file:
                place = Place(self._file)
        self.found.findings.append(Finding(ERROR, message, place))

    def _warn(self, message: str, file: str) -> None:
        self.found.findings.append(Finding(WARNING, message, Place(file)))

    def _check_version_folders(self) -> None:
        try:
            entries = sorted(os.scandir(self._folder.path), key=lambda entry: entry.name)
        except OSError:
            return  # told by `resolve`
        for entry in entries:
            plain = entry.name.lstrip("0")
            if os.path.isdir(entry.path) and entry.name.isdecimal() and (entry.name != plain or not plain):
                self._warn(
                    "a version is a positive number without leading zeros; this folder is not looked at",
                    f"{self._folder.name}/{entry.name}",
                )

    def _missing_file(self, config: Any, version: int) -> Finding | None:
        """Return what to tell if the file of a version is not there."""
        name, files = config.default_model_filename, self._folder.versions[version]
        if not name or name in files:
            return None
        there = ", ".join(files[:8]) or "nothing"
        place = Place(self._version_file(config, version))
        return Finding(ERROR, f"the file of version {version} is not there; the folder has {there}", place)

    def _check_labels(self, config: Any) -> None:
        for output in config.output:
            file = output.label_filename
            if file and not os.path.isfile(os.path.join(self._folder.path, file)):
                self._error(f"label file '{file}' of output '{output.name}' is not there")

    def _ask(self, config: Any, version: int, missing: Finding | None) -> None:
        """Have the backend complete the configuration, and load the model if that is wanted.

        Args:
            missing: what to tell if the backend has nothing to say but that its file is not there.
        """
        own = own_worker(config, self._folder.name, self._folder.path, lambda path: "")
        question = {
            "model": self._folder.name,
            "version": version,
            "path": self._folder.path,
            "config": model_config.to_text(config),
            "auto_complete": self._options.auto_complete,
            "load": self._options.load,
            "environment": "" if own is None else own.environment,
        }
        file = self._version_file(config, version)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "tensorhub.workers.check"],
                input=json.dumps(question),
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
            )
            answer = json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            self._error(f"version {version}: not done after {_TIMEOUT_S:.0f} s", Place(file))
            return
        except ValueError:
            last = done.stderr.strip()[-500:]
            self._error(f"version {version}: its process ended with status {done.returncode}: {last}", Place(file))
            return
        about = answer.get("about", "")
        if missing is not None and about not in ("backend", "environment"):
            self.found.findings.append(missing)
        elif about == "environment":
            place = locate(self._text, f"'{ENVIRONMENT}'", self._folder.name)
            self._error(answer["error"], Place(self._file, place.line, place.column, ENVIRONMENT))
        elif "config" in answer:
            self.found.completed = model_config.parse_text(answer["config"], self._folder.name)
        elif about == "model" and (answer["line"] or answer["code"] != Code.INVALID_ARG):
            message = answer["error"].partition("\n\nAt:\n")[0]
            self._error(f"version {version}: {TITLES[answer['code']]}: {message}", Place(file, answer["line"]))
        else:
            self._error(answer["error"])

    def _version_file(self, config: Any, version: int) -> str:
        return "/".join(filter(None, (self._folder.name, str(version), config.default_model_filename)))


def _config_file(folder: ModelFolder, config_name: str) -> tuple[str, str]:
    """Return the configuration file, relative to the repository, and its text; "" if it cannot be read."""
    candidates = [f"{CONFIGS_FOLDER}/{config_name}.pbtxt"] if config_name else []
    for relative in (*candidates, CONFIG_FILENAME):
        try:
            with open(os.path.join(folder.path, relative), encoding="utf-8-sig") as file:
                return f"{folder.name}/{relative}", file.read()
        except (OSError, UnicodeDecodeError):
            continue
    return f"{folder.name}/{CONFIG_FILENAME}", ""


def completions(model: CheckedModel) -> list[tuple[str, str]]:
    """Return what the configuration leaves open and the server fills in: field, and its value as text."""
    if model.completed is None:
        return []
    written = {descriptor.name: value for descriptor, value in (model.written.ListFields() if model.written else ())}
    found = []
    for descriptor, value in model.completed.ListFields():
        if descriptor.name in written and written[descriptor.name] == value:
            continue
        only = type(model.completed)()
        if descriptor.is_repeated:
            getattr(only, descriptor.name).MergeFrom(value)
        elif descriptor.message_type is not None:
            getattr(only, descriptor.name).CopyFrom(value)
        else:
            setattr(only, descriptor.name, value)
        found.append((descriptor.name, model_config.to_text(only, one_line=True)))
    return found


def as_document(model: CheckedModel) -> dict[str, Any]:
    """Return everything that was found of a model, as JSON has it."""
    return {
        "name": model.name,
        "ok": model.ok,
        "versions": list(model.versions),
        "findings": [
            {
                "severity": item.severity,
                "message": item.message,
                "file": item.place.file,
                "line": item.place.line,
                "column": item.place.column,
                "field": item.place.field,
            }
            for item in model.findings
        ],
        "completed": dict(completions(model)),
        "config": None if model.completed is None else model_config.to_json(model.completed),
    }
