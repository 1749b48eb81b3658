"""Python environments of models: archives are unpacked safely, and what cannot be used is said."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import venv
from pathlib import Path
from typing import NoReturn

import pytest

from tensorhub.backends.python import activation, environment_archives, environments
from tensorhub.backends.python.activation import EnvironmentFault, activate
from tensorhub.backends.python.environment_archives import unpack, unpacked
from tensorhub.backends.python.environments import Interpreter
from tensorhub.version import VERSION
from tests.conda_environment import PLACEHOLDER, pack


def no_warning(text: str) -> NoReturn:
    raise AssertionError(text)


def prepare(path: str) -> Interpreter:
    return environments.prepare(path, no_warning)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with a package of its own."""
    made = tmp_path_factory.mktemp("environment") / "env"
    venv.create(made, with_pip=False)
    (package,) = made.glob("lib/python*/site-packages")
    (package / "only_there.py").write_text("ANSWER = 42\n")
    return made


@pytest.fixture(scope="module")
def archive(folder: Path) -> Path:
    packed = folder.parent / "env.tar.gz"
    with tarfile.open(packed, "w:gz") as opened:
        opened.add(folder, ".")
    return packed


def run(path: Path, code: str) -> str:
    interpreter = prepare(str(path))
    argv = [interpreter.argv[0], "-P", "-c", f"{interpreter.argv[3].partition('; from')[0]}\n{code}"]
    return subprocess.run(argv, env=dict(interpreter.environ), capture_output=True, text=True, check=True).stdout


def test_a_folder_and_an_archive_of_it(folder: Path, archive: Path, cache: Path) -> None:
    code = "import only_there, tensorhub.version, numpy, sys; print(only_there.ANSWER, tensorhub.version.VERSION)"
    for path in (folder, archive):
        assert run(path, code) == f"42 {VERSION}\n"
    assert len(list((cache / "tensorhub" / "environments").iterdir())) == 1
    assert str(cache) in run(archive, "import sys; print(sys.prefix)")
    # A changed archive is another one.
    archive.touch()
    prepare(str(archive))
    assert len(list((cache / "tensorhub" / "environments").iterdir())) == 2


def test_the_environment_goes_first(folder: Path) -> None:
    interpreter = prepare(str(folder))
    assert interpreter.environ["VIRTUAL_ENV"] == str(folder)
    assert interpreter.environ["PATH"].split(":")[0] == str(folder / "bin")
    assert interpreter.environ["LD_LIBRARY_PATH"].split(":")[0] == str(folder / "lib")


def test_its_libraries_are_not_for_the_programs_that_a_model_starts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import os; print(os.environ.get('LD_LIBRARY_PATH'))"
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    assert prepare(str(folder)).environ["LD_LIBRARY_PATH"] == str(folder / "lib")
    assert run(folder, code) == "None\n"
    monkeypatch.setenv("LD_LIBRARY_PATH", "/none/a:/none/b")
    assert prepare(str(folder)).environ["LD_LIBRARY_PATH"] == f"{folder}/lib:/none/a:/none/b"
    assert run(folder, code) == "/none/a:/none/b\n"


def environment(folder: Path, activation_script: str) -> str:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "activate").write_text(activation_script)
    (folder / "bin" / "python").symlink_to(sys.executable)
    return str(folder)


def test_what_the_activation_sets_and_takes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TO_BE_UNSET", "x")
    monkeypatch.setenv("PYTHONHOME", "/none")
    script = """
        test $# = 0 || exit 1
        echo this is no variable=1
        export LINES="one
two" EQUALS=a=b PYTHONPATH=/from/activation LD_LIBRARY_PATH=/its/own
        unset TO_BE_UNSET
        NOT_EXPORTED=1
        cd /
        false
    """
    folder = environment(tmp_path / "with space '\" and $(signs)", script)
    activated = activate(folder)
    found = activated.environ
    assert (found["LINES"], found["EQUALS"], found["PYTHONPATH"]) == ("one\ntwo", "a=b", "/from/activation")
    assert (found["LD_LIBRARY_PATH"], activated.libraries) == (f"{folder}/lib:/its/own", "/its/own")
    assert (found["CONDA_PREFIX"], found["PATH"].split(":")[0]) == (folder, f"{folder}/bin")
    assert not {"TO_BE_UNSET", "PYTHONHOME", "NOT_EXPORTED", "this is no variable"} & found.keys()
    assert [found.get(name) for name in ("PWD", "SHLVL", "_")] == [os.environ.get(n) for n in ("PWD", "SHLVL", "_")]


def test_a_virtual_environment_that_was_moved(tmp_path: Path, folder: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved, symlinks=True)
    found = activate(str(moved)).environ
    assert found["VIRTUAL_ENV"] == str(moved)
    assert found["PATH"].split(":")[0] == f"{moved}/bin"
    assert f"{folder}/bin" not in found["PATH"].split(":")


@pytest.mark.parametrize(
    ("script", "text"),
    [("echo out of luck >&2; exit 3", "ended with out of luck"), ("exit 0", "ended the shell that runs it: without")],
)
def test_an_activation_that_ends_the_shell(tmp_path: Path, script: str, text: str) -> None:
    with pytest.raises(EnvironmentFault, match=f"bin/activate {text}"):
        activate(environment(tmp_path / "env", script))


def test_an_activation_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activation, "ACTIVATION_S", 0.1)
    with pytest.raises(EnvironmentFault, match=r"cannot be run by bash: .* timed out"):
        activate(environment(tmp_path / "env", "exec sleep 60"))


def test_an_archive_of_conda_pack(tmp_path: Path, cache: Path) -> None:
    archive = pack(tmp_path, with_python=False)
    folder = Path(unpacked(str(archive), no_warning))
    for name in ("where.txt", "where.bin"):
        data = (folder / "share" / "things" / name).read_bytes()
        assert f"{folder}/share/things".encode() in data
        assert PLACEHOLDER.encode() not in data
    assert activate(str(folder)).environ["THINGS_DATA"] == f"{folder}/share/things"
    # conda-unpack is run once.
    (folder / "share" / "things" / "where.txt").write_text(PLACEHOLDER)
    assert unpacked(str(archive), no_warning) == str(folder)
    assert (folder / "share" / "things" / "where.txt").read_text() == PLACEHOLDER


def test_an_archive_in_which_conda_unpack_fails_is_used_all_the_same(tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "env"
    environment(folder, "")
    (folder / "bin" / "conda-unpack").write_text("raise FileNotFoundError('lib/gone')\n")
    with tarfile.open(tmp_path / "env.tar", "w") as opened:
        opened.add(folder, ".")
    warnings: list[str] = []
    assert environments.prepare(str(tmp_path / "env.tar"), warnings.append).argv[0].startswith(str(cache))
    (warning,) = warnings
    assert "conda-unpack of the Python environment" in warning
    assert warning.endswith("FileNotFoundError: lib/gone")


def test_what_was_not_unpacked_to_the_end_is_unpacked_anew(archive: Path, cache: Path) -> None:
    folder = Path(unpacked(str(archive), no_warning))
    (folder.parent / "ready").unlink()
    (folder / "left by a process that died").touch()
    (folder / "bin" / "activate").unlink()
    assert unpacked(str(archive), no_warning) == str(folder)
    assert (folder / "bin" / "activate").is_file()
    assert not (folder / "left by a process that died").exists()
    # The user may remove the environment alone, too.
    shutil.rmtree(folder)
    assert Path(unpacked(str(archive), no_warning), "bin", "activate").is_file()


def test_several_workers_unpack_once(archive: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    meet = threading.Barrier(4)

    def counted(path: str, target: Path) -> None:
        calls.append(path)
        unpack(path, target)

    def work() -> None:
        meet.wait()
        unpacked(str(archive), no_warning)

    monkeypatch.setattr(environment_archives, "unpack", counted)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [str(archive)]


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, size, 0o755
    return info


def deep_links() -> list[tarfile.TarInfo]:
    members, path, folder = [], "", "d" * 247
    for letter in "abcdefghijklmnop":
        members += [
            member(f"{path}{folder}", tarfile.DIRTYPE),
            member(f"{path}{letter}", tarfile.SYMTYPE, folder),
        ]
        path += f"{folder}/"
    link = "/".join("abcdefghijklmnop") + "/" + "l" * 254
    members += [
        member(link, tarfile.SYMTYPE, "../" * 16),
        member("escape", tarfile.SYMTYPE, f"{link}/../../../../tmp"),
        member("escape/out"),
    ]
    return members


def packed(folder: Path, *members: tarfile.TarInfo) -> str:
    path = folder / "bad.tar.gz"
    with tarfile.open(path, "w:gz") as opened:
        for info in members:
            opened.addfile(info, io.BytesIO(bytes(info.size)))
    return str(path)


@pytest.mark.parametrize(
    "members",
    [
        [member("../out")],
        [member("a/../../out")],
        [member("link", tarfile.SYMTYPE, "/etc/passwd")],
        [member("link", tarfile.SYMTYPE, "../../out")],
        [member("link", tarfile.LNKTYPE, "/etc/passwd")],
        [member("bin/other", tarfile.SYMTYPE, "/bin/sh")],
        [member("device", tarfile.CHRTYPE)],
        [member("fifo", tarfile.FIFOTYPE)],
        # A link that is allowed, and a file through it, or in its place.
        [member("bin/python", tarfile.SYMTYPE, "/tmp"), member("bin/python/out")],
        [member("bin/python", tarfile.SYMTYPE, "/tmp/out"), member("./bin//python")],
        [member("bin/python", tarfile.SYMTYPE, "/tmp/out"), member("file", tarfile.LNKTYPE, "bin/python")],
        # Through a link that stays inside: where it points to may be misjudged, so it is not asked.
        [member("lib", tarfile.DIRTYPE), member("lib64", tarfile.SYMTYPE, "lib"), member("lib64/file")],
        [member("lib/file"), member("lib64", tarfile.SYMTYPE, "lib"), member("f", tarfile.LNKTYPE, "lib64/file")],
        [member("a/../file")],
        # A hard link to what is not there would be made of the member, unseen by the filter.
        [member("file", tarfile.LNKTYPE, "later"), member("later", tarfile.SYMTYPE, "/etc/passwd")],
        # Links nested so deep that their real path is longer than a path may be.
        deep_links(),
        # bin is a link, so that bin/python would be made somewhere else.
        [
            member("lib", tarfile.DIRTYPE),
            member("bin", tarfile.SYMTYPE, "lib"),
            member("bin/python", tarfile.SYMTYPE, "/x"),
        ],
    ],
)
def test_what_leads_out_is_refused(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    before = set(tmp_path.rglob("*"))
    archive = packed(tmp_path, *members)
    target = tmp_path / "target"
    with pytest.raises(EnvironmentFault, match="cannot be unpacked"):
        unpack(archive, target)
    assert set(tmp_path.rglob("*")) - before == {Path(archive)}


def test_an_absolute_name_stays_inside(tmp_path: Path) -> None:
    unpack(packed(tmp_path, member("/etc/file")), tmp_path / "target")
    assert (tmp_path / "target" / "etc" / "file").is_file()


@pytest.mark.parametrize(("limit", "value"), [("MAX_UNPACKED_BYTES", 99), ("MAX_MEMBERS", 1)])
def test_what_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    monkeypatch.setattr(environment_archives, limit, value)
    with pytest.raises(EnvironmentFault, match="has more than"):
        unpack(packed(tmp_path, member("a", size=50), member("b", size=50)), tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_what_is_not_there_or_no_environment(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"^Failed to get the canonical path for .*/none\.$"):
        prepare(str(tmp_path / "none"))
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(EnvironmentFault, match="is neither a folder nor an archive of tar"):
        prepare(str(tmp_path / "text"))
    with pytest.raises(EnvironmentFault, match=r"/bin/activate does not exist. The Python environment should contain"):
        prepare(str(tmp_path))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "activate").touch()
    with pytest.raises(EnvironmentFault, match="has no bin/python that can be run"):
        prepare(str(tmp_path))


def script(folder: Path, text: str) -> str:
    (folder / "bin").mkdir()
    (folder / "bin" / "activate").touch()
    (folder / "bin" / "python").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "bin" / "python").chmod(0o755)
    return str(folder)


def test_a_python_that_does_not_run(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="does not run: broken library"):
        prepare(script(tmp_path, "echo broken library >&2; exit 1"))


def test_another_version_of_python_needs_a_tensorhub(tmp_path: Path) -> None:
    path = script(tmp_path, """echo '{"version": [3, 1], "error": "No module named tensorhub"}'""")
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    with pytest.raises(EnvironmentFault, match=rf"has Python 3.1 and no tensorhub .* with Python {ours}"):
        prepare(path)
    (tmp_path / "bin" / "python").write_text(f"""#!/bin/sh\necho '{{"version": [3, 1], "tensorhub": "{VERSION}"}}'\n""")
    assert prepare(path).argv[3].startswith("import os, sys; sys.path += [];")


def test_a_cache_that_others_can_write_to_is_not_used(archive: Path, cache: Path) -> None:
    shared = cache / "tensorhub" / "environments"
    shared.mkdir(parents=True)
    shared.chmod(0o777)
    with pytest.raises(EnvironmentFault, match="can be written by others"):
        prepare(str(archive))
