"""Import a file of decorated functions, and find them.

Every load imports the file anew, under a module name that is never used again, so that a reload runs beside the version
that serves. The file may be a link; what it imports beside it is looked for where it really lies, and stays imported.
"""

import importlib.util
import itertools
import os
import re
import sys
import threading
import traceback

from tensorhub.decorator import ATTRIBUTE, FunctionModel, ModelDefinitionError
from tensorhub.errors import InvalidArgument, NotFound

_PREFIX = "tensorhub_functions_"
_numbers = itertools.count(1)
_lock = threading.Lock()


class SourceFile:
    """One import of a file.

    Attributes:
        models: the functions that it decorates, by the models' names, in the order of their lines.
    """

    def __init__(self, path: str) -> None:
        """Import the file.

        Raises:
            NotFound: there is no such file.
            InvalidArgument: it cannot be imported, or what it decorates cannot be served; the text says where and why.
        """
        self.path = os.path.realpath(path)
        if not os.path.isfile(self.path):
            raise NotFound(f"Python model file not found in '{os.path.basename(path)}'")
        stem = re.sub("[^0-9A-Za-z_]", "_", os.path.splitext(os.path.basename(self.path))[0])
        self._module_name = f"{_PREFIX}{next(_numbers)}_{stem}"
        self.models = self._find()

    def __repr__(self) -> str:
        return f"<SourceFile {self.path}: {', '.join(self.models)}>"

    def _find(self) -> dict[str, FunctionModel]:
        spec = importlib.util.spec_from_file_location(self._module_name, self.path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        folder = os.path.dirname(self.path)
        with _lock:
            if folder not in sys.path:
                sys.path.append(folder)
        sys.modules[self._module_name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException as exc:
            del sys.modules[self._module_name]
            raise InvalidArgument(f"{self._place(exc)}: {_described(exc)}") from exc
        found: dict[str, FunctionModel] = {}
        for value in vars(module).values():
            model = getattr(value, ATTRIBUTE, None)
            if not isinstance(model, FunctionModel) or model.function.__module__ != self._module_name:
                continue
            other = found.setdefault(model.name, model)
            if other is not model:
                raise InvalidArgument(
                    f"{os.path.basename(self.path)}:{model.line}: model '{model.name}' is there twice, also in line "
                    f"{other.line}; give one of them another name"
                )
        if not found:
            raise InvalidArgument(
                f"{os.path.basename(self.path)}: nothing in it is decorated with @tensorhub.model; see docs/models.md"
            )
        return dict(sorted(found.items(), key=lambda item: item[1].line))

    def _place(self, exc: BaseException) -> str:
        """Return the file's name, and the line in it that an exception came through last."""
        name = os.path.basename(self.path)
        if isinstance(exc, SyntaxError) and exc.filename == self.path:
            return f"{name}:{exc.lineno}:{exc.offset}"
        lines = [frame.lineno for frame in traceback.extract_tb(exc.__traceback__) if frame.filename == self.path]
        return f"{name}:{lines[-1]}" if lines else name

    def close(self) -> None:
        """Forget the module; functions that run live on."""
        sys.modules.pop(self._module_name, None)


def _described(exc: BaseException) -> str:
    if isinstance(exc, ModelDefinitionError):
        return str(exc)
    if isinstance(exc, SyntaxError):
        return f"SyntaxError: {exc.msg}"
    if isinstance(exc, SystemExit):
        return f"it ends the process with {exc.code!r}; guard that with if __name__ == '__main__'"
    return f"{type(exc).__name__}: {exc}"
