"""Import a model's `model.py`, so that models in one process do not meet.

Triton gives each model a process, in which the version's folder and the model's folder are at the end of sys.path. Here
all models of a worker share one interpreter, and two of them may well have a `helpers.py`. So every load gets a package
of its own, under a name that is never used again:

    tensorhub_models.<n>_<model>_<version>            a package whose path is [version folder, model folder]
    tensorhub_models.<n>_<model>_<version>.model      model.py
    tensorhub_models.<n>_<model>_<version>.helpers    what `import helpers` means to model.py

and its modules get an `__import__` of their own, which looks into that package for what Triton's sys.path would find
there: a name that neither the standard library nor an installed package has. Relative imports work too. The modules
stand in sys.modules under their long names, so that what looks them up by `__module__` (pickle, dataclasses) works.

What is isolated: everything that an `import` statement in the model's own files reaches, also later, in functions and
threads. What is not: `importlib.import_module("helpers")` and subprocesses, for which the folders are on sys.path while
the model is loaded, and the first model that brings a name wins; and whatever models change in shared modules.
"""

import builtins
import importlib
import importlib.machinery
import itertools
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import CodeType, ModuleType
from typing import Any

from tensorhub.backends.python import utils
from tensorhub.backends.python.callers import MODEL_FOLDER, MODEL_NAME

_ROOT = "tensorhub_models"
_numbers = itertools.count(1)
_lock = threading.RLock()
_model_folders: list[str] = []
"""The folders that loaded models have added to sys.path; guarded by `_lock`."""


class ModelModules:
    """The modules of one load of a model version.

    Args:
        name: the model's.
        folder: the model's folder.
        version: the version's number; its files are in folder/version.

    Attributes:
        names: of all attributes and globals that the code of the model's files uses.
    """

    def __init__(self, name: str, folder: str, version: int) -> None:
        self._name = name
        self.version_folder = os.path.join(folder, str(version))
        self._folders = [self.version_folder, folder]
        self._package = f"{_ROOT}.{next(_numbers)}_{re.sub('[^0-9A-Za-z_]', '_', name)}_{version}"
        self._own: dict[str, bool] = {}
        self.names: set[str] = set()
        self._builtins = {**vars(builtins), "__import__": self._import}

    def load(self, file_name: str) -> ModuleType:
        """Import a file of the version's folder.

        Args:
            file_name: ends in `.py`.

        Raises:
            BaseException: whatever the file raises; nothing stays behind.
        """
        with _lock:
            sys.modules.setdefault(utils.MODULE_NAME, utils)
            _add_root()
            # New lists, here and in `unload`: other threads import meanwhile, and who walks over a list that gets
            # shorter misses an entry, and with it a module that is there.
            sys.meta_path = [self._finder(), *sys.meta_path]
            package = ModuleType(self._package)
            package.__path__ = list(self._folders)
            sys.modules[self._package] = package
            _model_folders.extend(self._folders)
            sys.path = [*sys.path, *self._folders]
        try:
            return importlib.import_module(f"{self._package}.{file_name.removesuffix('.py')}")
        except BaseException:
            self.unload()
            raise

    def unload(self) -> None:
        """Forget the modules; those that someone still refers to live on."""
        with _lock:
            for name in [
                name for name in list(sys.modules) if name == self._package or name.startswith(f"{self._package}.")
            ]:
                del sys.modules[name]
            sys.meta_path = [
                finder
                for finder in sys.meta_path
                if not (isinstance(finder, _Finder) and finder.package == self._package)
            ]
            for folder in self._folders:
                if folder in _model_folders:
                    _model_folders.remove(folder)
                    sys.path = _without_last(sys.path, folder)

    def _finder(self) -> "_Finder":
        return _Finder(
            self._package,
            {"__builtins__": self._builtins, MODEL_NAME: self._name, MODEL_FOLDER: self.version_folder},
            self.names,
        )

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Do what an import statement in one of the model's files asks for."""
        top = name.partition(".")[0]
        if level or not self._is_own(top):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        full_name = f"{self._package}.{name}"
        if fromlist:
            return builtins.__import__(full_name, globals, locals, fromlist, 0)
        importlib.import_module(full_name)
        return sys.modules[f"{self._package}.{top}"]

    def _is_own(self, top: str) -> bool:
        """Tell whether a top-level name means a file of the model: Triton looks there last."""
        known = self._own.get(top)
        if known is None:
            known = self._own[top] = (
                importlib.machinery.PathFinder.find_spec(top, self._folders) is not None
                and top not in sys.stdlib_module_names
                and top not in sys.builtin_module_names
                and importlib.machinery.PathFinder.find_spec(top, _common_path()) is None
            )
        return known


def _without_last(entries: Sequence[str], entry: str) -> list[str]:
    """Return a copy without the last `entry`; a model may have taken it out already."""
    result = list(reversed(entries))
    if entry in result:
        result.remove(entry)
    return result[::-1]


def _common_path() -> list[str]:
    with _lock:
        return [folder for folder in sys.path if folder not in _model_folders]


def _add_root() -> None:
    if _ROOT not in sys.modules:
        root = ModuleType(_ROOT)
        root.__path__ = []
        sys.modules[_ROOT] = root


class _Finder:
    """Finds the modules of one package, and gives them globals before their code runs."""

    def __init__(self, package: str, given_globals: Mapping[str, Any], names: set[str]) -> None:
        self.package = package
        self._prefix = f"{package}."
        self._globals = given_globals
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(self._prefix):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path, self._globals, self._names)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    """Runs a source file with some globals set, and notes which names its code uses."""

    def __init__(self, fullname: str, path: str, given_globals: Mapping[str, Any], names: set[str]) -> None:
        super().__init__(fullname, path)
        self._globals = given_globals
        self._names = names

    def exec_module(self, module: ModuleType) -> None:
        code = self.get_code(module.__name__)
        assert isinstance(code, CodeType)
        module.__dict__.update(self._globals)
        self._names.update(_names_of(code))
        exec(code, module.__dict__)


def _names_of(code: CodeType) -> Iterator[str]:
    """Yield the names that a module's code, and the functions and classes in it, use."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_of(constant)
