"""Models in one process do not meet: their helper modules, their versions, their reloads."""

import importlib
import json
import pickle
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tensorhub.backends.python import failures, utils
from tensorhub.backends.python.backend import PythonBackend
from tensorhub.backends.python.loading import ModelModules
from tensorhub.errors import InternalError
from tests.backends.python_models import source


class Loader:
    """Loads models and lets them go at the end of the test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.loaded: list[ModelModules] = []

    def __call__(self, name: str, code: str, version: int = 1, **files: str) -> Any:
        written = {path.replace("__", "/") + ".py": content for path, content in files.items()}
        model = source(self._folder, code, name=name, version=version, files=written)
        modules = ModelModules(name, model.folder, version)
        self.loaded.append(modules)
        return modules.load("model.py")


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Loader]:
    before = list(sys.path), set(sys.modules), list(sys.meta_path)
    loader = Loader(tmp_path)
    yield loader
    for modules in loader.loaded:
        modules.unload()
    assert list(sys.path) == before[0]
    assert list(sys.meta_path) == before[2]
    assert {name for name in set(sys.modules) - before[1] if "tensorhub_models." in name} == set()


def test_helpers_of_the_same_name(load: Loader) -> None:
    code = "import helper\nfrom helper import NAME\nTritonPythonModel = helper"
    for name in ("a", "b"):
        module = load(name, code, **{"1__helper": f"NAME = '{name}'"})
        assert module.NAME == module.helper.NAME == name


def test_versions_have_their_own_helpers(load: Loader) -> None:
    for version in (1, 2):
        module = load("m", "import helper", version, **{f"{version}__helper": f"N = {version}"})
        assert version == module.helper.N


def test_the_versions_folder_comes_before_the_models(load: Loader) -> None:
    module = load("m", "import helper, common", helper="N = 'model'", common="N = 0", **{"1__helper": "N = 'version'"})
    assert (module.helper.N, module.common.N) == ("version", 0)


def test_the_standard_library_and_installed_packages_come_first(load: Loader) -> None:
    module = load("m", "import json, numpy", **{"1__json": "OWN = 1", "1__numpy": "OWN = 1"})
    assert not hasattr(module.json, "OWN")
    assert not hasattr(module.numpy, "OWN")


def test_packages_submodules_and_relative_imports(load: Loader) -> None:
    code = """
    import package.sub
    import package.sub as short
    from package import other, sub
    from package.sub import VALUE
    from . import helper
    from .helper import H
    """
    module = load(
        "m",
        code,
        **{
            "1__package____init__": "",
            "1__package__sub": "from . import other\nfrom package.other import O\nVALUE = O + 1",
            "1__package__other": "O = 1",
            "1__helper": "H = 5",
        },
    )
    assert module.package.sub is module.short is module.sub
    assert (module.VALUE, module.other.O, module.H, module.helper.H) == (2, 1, 5, 5)


def test_packages_whose_init_is_written_with_underscores(tmp_path: Path, load: Loader) -> None:
    folder = tmp_path / "m" / "1" / "package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("from .inner import X\n")
    (folder / "inner.py").write_text("X = 3\n")
    assert load("m", "from package import X").X == 3


def test_imports_that_happen_later(load: Loader) -> None:
    code = """
    import threading
    def later():
        import helper
        return helper.NAME
    def in_thread():
        result = []
        thread = threading.Thread(target=lambda: result.append(later()))
        thread.start()
        thread.join()
        return result[0]
    """
    modules = {name: load(name, code, **{"1__helper": f"NAME = '{name}'"}) for name in ("a", "b")}
    for name, module in modules.items():
        assert module.in_thread() == module.later() == name


def test_import_by_name_finds_the_models_files_too(load: Loader) -> None:
    module = load("m", "import importlib\nX = importlib.import_module('only_here').X", **{"1__only_here": "X = 4"})
    assert module.X == 4
    del sys.modules["only_here"]


def test_a_reload_reads_the_files_again(load: Loader) -> None:
    old = load("m", "import helper\nX = 1", **{"1__helper": "N = 1"})
    load.loaded[0].unload()
    # Of another size, so that no cached bytecode can be taken for it within one second.
    new = load("m", "import helper\nX = 22", **{"1__helper": "N = 22"})
    assert (old.X, old.helper.N, new.X, new.helper.N) == (1, 1, 22, 22)


def test_objects_can_be_pickled(load: Loader) -> None:
    module = load("m", "from helper import Thing", **{"1__helper": "class Thing:\n    pass"})
    assert isinstance(pickle.loads(pickle.dumps(module.Thing())), module.Thing)


def test_what_a_failed_load_leaves(load: Loader) -> None:
    with pytest.raises(ZeroDivisionError):
        load("m", "import helper\n1 / 0", **{"1__helper": "N = 1"})


def test_the_trace_of_a_failure_in_a_helper(tmp_path: Path) -> None:
    code = "from helper import fail\nclass TritonPythonModel:\n    pass\nfail()\n"
    written = source(tmp_path, code, files={"1/helper.py": "def fail():\n    raise ValueError('deep')\n"})
    with pytest.raises(InternalError) as caught:
        PythonBackend().load(written)
    version = "m/1"
    assert caught.value.message == (
        f"ValueError: deep\n\nAt:\n  {version}/helper.py(2): fail\n  {version}/model.py(4): <module>\n"
    )
    written = source(tmp_path, code, files={"1/helper.py": "raise ValueError('on import')\n"})
    with pytest.raises(InternalError) as caught:
        PythonBackend().load(written)
    assert caught.value.message == (
        f"ValueError: on import\n\nAt:\n  {version}/helper.py(1): <module>\n  {version}/model.py(1): <module>\n"
    )


def test_clients_are_not_shown_where_files_are() -> None:
    assert failures.shown("/secret/models/m/1/model.py", "/secret/models/m") == "m/1/model.py"
    assert failures.shown(json.__file__, "/secret/models/m") == "json/__init__.py"
    assert failures.shown("/secret/elsewhere/code.py", "/secret/models/m") == "code.py"
    assert failures.shown("<string>", "/secret/models/m") == "<string>"


def test_an_error_that_cannot_be_printed() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert failures.describe(Mute(), "/models/m") == "Mute: <MESSAGE UNAVAILABLE>"


def test_the_model_folder_is_known_in_helpers_and_nowhere_else(load: Loader) -> None:
    module = load(
        "m",
        "from helper import where",
        **{"1__helper": "import triton_python_backend_utils as pb\ndef where():\n    return pb.get_model_dir()"},
    )
    assert module.where() == str(Path(module.__file__).parent)
    with pytest.raises(utils.TritonModelException):
        utils.get_model_dir()


def test_other_threads_import_while_models_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "lib" / "crowded"
    package.mkdir(parents=True)
    names = [f"part{number}" for number in range(20)]
    (package / "__init__.py").write_text("".join(f"import crowded.{name}\n" for name in names))
    for name in names:
        (package / f"{name}.py").write_text("")
    folder = tmp_path / "model"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.py").write_text("")
    monkeypatch.syspath_prepend(str(package.parent))
    over = threading.Event()
    problems: list[Exception] = []

    def import_again_and_again() -> None:
        try:
            while not over.is_set():
                importlib.import_module("crowded")
                for name in [name for name in list(sys.modules) if name.partition(".")[0] == "crowded"]:
                    del sys.modules[name]
        except Exception as exc:
            problems.append(exc)

    importing = threading.Thread(target=import_again_and_again)
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns as often as they can
    try:
        importing.start()
        for _ in range(300):
            modules = ModelModules("m", str(folder), 1)
            modules.load("model.py")
            modules.unload()
    finally:
        sys.setswitchinterval(interval_s)
        over.set()
        importing.join()
    assert problems == []


def test_lists_that_other_threads_may_be_walking_over_stay_as_they_are(load: Loader) -> None:
    lists = [sys.meta_path, sys.path]
    contents = [list(item) for item in lists]
    load("m", "VALUE = 1")
    assert [list(item) for item in lists] == contents
    lists = [sys.meta_path, sys.path]
    contents = [list(item) for item in lists]
    load.loaded[0].unload()
    assert [list(item) for item in lists] == contents
