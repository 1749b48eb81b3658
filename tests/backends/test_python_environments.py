"""Python environments of models: archives are unpacked safely, and what cannot be used is said."""

import io
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest

from tensorhub.backends.python import environments
from tensorhub.backends.python.environments import EnvironmentFault, prepare, unpack
from tensorhub.version import VERSION


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


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, size, 0o755
    return info


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
        # A link that is allowed, and a file through it.
        [member("bin/python", tarfile.SYMTYPE, "/tmp"), member("bin/python/out")],
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
    monkeypatch.setattr(environments, limit, value)
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
    assert prepare(path).argv[3].startswith("import sys; sys.path += []")


def test_a_cache_that_others_can_write_to_is_not_used(archive: Path, cache: Path) -> None:
    shared = cache / "tensorhub" / "environments"
    shared.mkdir(parents=True)
    shared.chmod(0o777)
    with pytest.raises(EnvironmentFault, match="can be written by others"):
        prepare(str(archive))
