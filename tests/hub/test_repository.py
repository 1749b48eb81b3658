"""The repository on real folders; what it takes and refuses was compared with Triton 2.51."""

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorhub.errors import InternalError, InvalidArgument, NotFound, TensorhubError
from tensorhub.hub import repository
from tensorhub.hub.overrides import materialise
from tensorhub.hub.repository import ModelFolder, Repository, check_model_name, read_folder, resolve

TENSORS = 'input { name: "A" data_type: TYPE_FP32 dims: [ 4 ] } output { name: "B" data_type: TYPE_INT64 dims: [ 4 ] } '
CONFIG = 'backend: "python" ' + TENSORS
AS_ROOT = os.geteuid() == 0

Put = Callable[..., Path]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def put(root: Path) -> Put:
    """Make a model: (name, {relative path: text}); a path that ends in a slash is a folder."""

    def make(name: str, files: dict[str, str], parent: Path = root) -> Path:
        (parent / name).mkdir(parents=True)
        for relative, text in files.items():
            path = parent / name / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            if relative.endswith("/"):
                path.mkdir(exist_ok=True)
            else:
                path.write_text(text)
        return parent / name

    return make


def read(root: Path, name: str, **options: str) -> ModelFolder:
    return Repository([str(root)], **options).read(name)


def test_reads_a_model(root: Path, put: Put) -> None:
    path = put("m", {"config.pbtxt": CONFIG, "1/model.py": "", "1/a.bin": "x", "3/model.py": "", "labels.txt": "a"})
    folder = read(root, "m")
    assert (folder.name, folder.path, folder.error, folder.config_error) == ("m", str(path), None, None)
    assert folder.versions == {1: ("a.bin", "model.py"), 3: ("model.py",)}
    assert folder.has_config
    assert folder.config.backend == "python"
    assert folder.config.name == ""
    definition = resolve(folder)
    assert (definition.versions, definition.overridden) == ((3,), False)
    assert (definition.config.name, definition.config.default_model_filename) == ("m", "model.py")


def test_version_folders_are_positive_numbers_without_leading_zeros(root: Path, put: Put) -> None:
    names = [
        "1",
        "2",
        "10",
        "010",
        "0",
        "-3",
        "+4",
        " 5",
        "a",
        "1.5",
        "configs",
        "٣",
        "9" * 20,
        str(2**63 - 1),
        str(2**63),
    ]
    put("m", {f"{name}/" if name != "10" else "10/model.py": "" for name in names} | {"7": "a file"})
    assert list(read(root, "m").versions) == [1, 2, 10, 2**63 - 1]


def test_a_model_needs_no_configuration(root: Path, put: Put) -> None:
    put("m", {"1/model.onnx": ""})
    folder = read(root, "m")
    assert not folder.has_config
    assert resolve(folder).config.backend == "onnxruntime"
    with pytest.raises(InternalError, match=r"^failed to open text file for read m/config.pbtxt: No such file"):
        resolve(folder, auto_complete=False)


def test_the_lowest_version_tells_the_backend(root: Path, put: Put) -> None:
    put("m", {"2/model.py": "", "10/model.onnx": "", "configs/model.plan": ""})
    assert resolve(read(root, "m")).config.backend == "python"


def test_scan_is_sorted_and_skips_what_is_no_model(root: Path, put: Put) -> None:
    for name in ("b", "a", ".git", "c d", "ü"):
        put(name, {"1/model.py": ""})
    put("new\nline", {"1/model.py": ""})
    (root / "file.txt").write_text("")
    os.mkdir(os.fsencode(root) + b"/\xff")
    models = Repository([str(root)])
    assert models.names() == list(models.scan()) == ["a", "b", "c d", "ü"]
    assert all(folder.error is None for folder in models.scan().values())


def test_a_broken_model_does_not_hide_the_others(root: Path, put: Put) -> None:
    put("good", {"config.pbtxt": CONFIG, "1/model.py": ""})
    put("bad", {"config.pbtxt": 'backend: "python"\nfoo: 1', "1/model.py": ""})
    models = Repository([str(root)]).scan()
    assert list(models) == ["bad", "good"]
    assert models["good"].config_error is None
    assert models["bad"].config_error is not None
    assert models["bad"].config_error.message.startswith(
        'bad/config.pbtxt:2:1: Message type "inference.ModelConfig" has no field named "foo"'
    )
    with pytest.raises(InvalidArgument, match=r"^bad/config.pbtxt:2:1: "):
        resolve(models["bad"])
    assert resolve(models["bad"], override='{"backend": "python"}').overridden


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"backend: 'python'\nname: '\xff'", "m/config.pbtxt:2: not UTF-8: byte 0xff"),
        (b" " * (repository.MAX_CONFIG_BYTES + 1), "m/config.pbtxt: 16777217 bytes, larger than the 16777216 allowed"),
    ],
    ids=["not UTF-8", "too large"],
)
def test_configurations_that_cannot_be_read(root: Path, put: Put, content: bytes, message: str) -> None:
    (put("m", {"1/model.py": ""}) / "config.pbtxt").write_bytes(content)
    error = read(root, "m").config_error
    assert error is not None
    assert error.message == message


def test_a_configuration_must_be_a_regular_file(root: Path, put: Put) -> None:
    os.mkfifo(put("fifo", {"1/model.py": ""}) / "config.pbtxt")
    put("folder", {"1/model.py": "", "config.pbtxt/x": ""})
    for name in ("fifo", "folder"):
        error = read(root, name).config_error
        assert error is not None
        assert error.message == f"{name}/config.pbtxt: not a regular file"


def test_a_byte_order_mark_is_no_error(root: Path, put: Put) -> None:
    (put("m", {"1/model.py": ""}) / "config.pbtxt").write_text("\ufeff" + CONFIG, "utf-8")
    assert read(root, "m").config.backend == "python"


def test_an_alternative_configuration(root: Path, put: Put) -> None:
    other = {"configs/fast.pbtxt": CONFIG + "max_batch_size: 7"}
    put("both", {"config.pbtxt": CONFIG, "1/model.py": ""} | other)
    put("only", {"1/model.py": ""} | other)
    put("neither", {"config.pbtxt": CONFIG, "1/model.py": ""})
    put("broken", {"config.pbtxt": CONFIG, "configs/fast.pbtxt": "foo: 1", "1/model.py": ""})
    models = Repository([str(root)], "fast").scan()
    assert {name: folder.config.max_batch_size for name, folder in models.items()} == {
        "both": 7,
        "broken": 0,
        "neither": 0,
        "only": 7,
    }
    assert models["broken"].config_error is not None
    assert models["broken"].config_error.message.startswith("broken/configs/fast.pbtxt:1:1: ")
    assert read(root, "both").config.max_batch_size == 0


def test_several_repositories(tmp_path: Path, put: Put) -> None:
    for repo, name in (("r1", "a"), ("r1", "twice"), ("r2", "b"), ("r2", "twice")):
        put(name, {"config.pbtxt": CONFIG, "1/model.py": ""}, tmp_path / repo)
    models = Repository([str(tmp_path / "r1"), str(tmp_path / "r2")])
    scanned = models.scan()
    assert list(scanned) == ["a", "b", "twice"]
    assert scanned["b"].path == str(tmp_path / "r2" / "b")
    for folder in (scanned["twice"], models.read("twice")):
        assert folder.error is not None
        assert folder.error.message == "model appears in two or more repositories"
        with pytest.raises(InvalidArgument):
            resolve(folder, override='{"backend": "python"}')


def test_the_fingerprint_changes_with_any_file(root: Path, put: Put) -> None:
    path = put("m", {"config.pbtxt": CONFIG, "1/model.py": "a", "1/data/w.bin": "abc"})
    seen = [read(root, "m").fingerprint]
    assert read(root, "m").fingerprint == seen[0]

    def changed() -> bool:
        seen.append(read(root, "m").fingerprint)
        return seen[-1] not in seen[:-1]

    (path / "1" / "data" / "w.bin").write_text("abcd")
    assert changed()
    os.utime(path / "1" / "model.py", ns=(1, 1))
    assert changed()
    (path / "new").write_text("")
    assert changed()
    (path / "new").unlink()
    assert read(root, "m").fingerprint == seen[-2]
    (path / "2").mkdir()
    (path / "1" / "__pycache__").mkdir()
    (path / "1" / "__pycache__" / "model.pyc").write_text("x")
    assert read(root, "m").fingerprint == seen[-2]


def test_the_fingerprint_ends_where_links_go_in_circles(root: Path, put: Put) -> None:
    path = put("m", {"1/model.py": "a"})
    (path / "1" / "loop").symlink_to(path)
    (path / "1" / "dangling").symlink_to(path / "nothing")
    assert read(root, "m").fingerprint


def test_a_link_to_itself_is_no_model_and_hides_no_other(root: Path, put: Put) -> None:
    put("m", {"1/model.py": ""})
    (root / "circle").symlink_to("circle")
    assert Repository([str(root)]).names() == ["m"]
    assert list(Repository([str(root)]).fingerprints()) == ["m"]


def test_folders_may_vanish_while_a_fingerprint_is_taken(root: Path, put: Put) -> None:
    deep = put("m", {"1/model.py": ""}) / "1" / "a" / "b" / "c"
    stopping = threading.Event()

    def come_and_go() -> None:
        while not stopping.is_set():
            deep.mkdir(parents=True)
            for folder in (deep, deep.parent, deep.parent.parent):
                folder.rmdir()

    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        for _ in range(2_000):
            read(root, "m")
    finally:
        stopping.set()
        other.join()


def test_the_folder_and_the_configuration_name_the_same_model(root: Path, put: Put) -> None:
    put("m", {"config.pbtxt": CONFIG + 'name: "other"', "1/model.py": ""})
    with pytest.raises(
        InvalidArgument,
        match=r"^unexpected directory name 'm' for model 'other', directory name must equal model name$",
    ):
        resolve(read(root, "m"))
    with pytest.raises(InvalidArgument, match=r"^unexpected directory name"):
        resolve(read(root, "m"), override='{"name": "zzz", "backend": "python"}')


def test_an_override_replaces_the_configuration(root: Path, put: Put) -> None:
    put("m", {"config.pbtxt": CONFIG + "max_batch_size: 8", "1/model.py": "", "2/model.py": ""})
    definition = resolve(read(root, "m"), override='{"version_policy": {"all": {}}}')
    assert (definition.versions, definition.overridden) == ((1, 2), True)
    assert (definition.config.backend, definition.config.max_batch_size) == ("python", 0)
    assert len(definition.config.input) == 0
    with pytest.raises(InvalidArgument, match=r"^Invalid config override: foo: Cannot find field"):
        resolve(read(root, "m"), override='{"foo": 1}')


def test_a_strict_server_wants_complete_tensors(root: Path, put: Put) -> None:
    put("m", {"config.pbtxt": 'backend: "python" input { name: "x" }', "1/model.py": ""})
    assert resolve(read(root, "m")).versions == (1,)
    with pytest.raises(InvalidArgument, match=r"^model input 'x' must specify 'data_type' for m$"):
        resolve(read(root, "m"), auto_complete=False)


def test_no_version_is_no_error_here(root: Path, put: Put) -> None:
    put("m", {"config.pbtxt": CONFIG})
    assert resolve(read(root, "m")).versions == ()
    assert repository.no_version("m") == "at least one version must be available under the version policy of model 'm'"
    assert repository.poll_failure("m").message == "failed to load 'm', failed to poll from model repository"


BAD_NAMES = [
    ".",
    "..",
    "/",
    "/abs",
    "a/b",
    "../x",
    "a/",
    "a\\b",
    "nul\0",
    "line\nbreak",
    "\x7f",
    "\x85",
    "\u2028",
    "\ud800",
    "a" * 256,
    "\u2025",
    "\uff0e\uff0e",
    "\uff0f",
    "\uff0e\uff0e\uff0fx",
    " ",
    " .. ",
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_names_that_are_no_path_component(root: Path, name: str) -> None:
    for check in (check_model_name, Repository([str(root)]).read):
        with pytest.raises(InvalidArgument) as caught:
            check(name)
        assert caught.value.message.startswith("invalid model name '")
        assert caught.value.message.endswith("', model name must not contain path traversal characters")
        assert caught.value.message.isprintable()


def test_an_empty_name() -> None:
    with pytest.raises(InvalidArgument, match=r"^Model name cannot be empty\. Please enter a valid name to deploy\.$"):
        check_model_name("")


@pytest.mark.parametrize(
    "name", ["nope", "a;id", "$(id)", "..a", "a..b", "%2e%2e", "%00", "ü", "-rf", "*", "file", ".hidden"]
)
def test_names_of_no_model(root: Path, name: str) -> None:
    (root / "file").write_text("")
    (root / ".hidden" / "1").mkdir(parents=True)
    with pytest.raises(NotFound, match=r"model not found in any model repository"):
        read(root, name)


@given(st.text(max_size=8) | st.text(alphabet="./\\\0a．／", max_size=6))
def test_a_name_that_passes_is_its_own_path_component(name: str) -> None:
    try:
        check_model_name(name)
    except InvalidArgument:
        return
    assert os.path.split(os.path.normpath(os.path.join("/repository", name))) == ("/repository", name)


def test_links_of_the_operator_are_followed(tmp_path: Path, root: Path, put: Put) -> None:
    """A model, a version, a configuration and a file may lie elsewhere, as in Triton; what is missing there is."""
    outside = put("outside", {"config.pbtxt": CONFIG, "1/model.py": ""}, tmp_path)
    (root / "linked").symlink_to(outside)
    (put("version", {"config.pbtxt": CONFIG}) / "1").symlink_to(outside / "1")
    (put("config", {"1/model.py": ""}) / "config.pbtxt").symlink_to(outside / "config.pbtxt")
    (put("weights", {"1/model.py": ""}) / "1" / "w.bin").symlink_to(outside / "config.pbtxt")
    (root / "inside").symlink_to(root / "weights")
    (put("round", {"config.pbtxt": CONFIG, "1/model.py": ""}) / "1" / "up").symlink_to(root)
    (put("nowhere", {"config.pbtxt": CONFIG}) / "1").symlink_to(tmp_path / "missing")
    models = Repository([str(root)]).scan()
    assert {name for name, folder in models.items() if folder.error or folder.config_error} == set()
    found = {name: list(folder.versions) for name, folder in models.items()}
    assert found == {name: [] if name == "nowhere" else [1] for name in models}
    assert models["linked"].has_config
    before = models["version"].content
    (outside / "1" / "model.py").write_text("changed = True")
    assert Repository([str(root)]).scan()["version"].content != before, "a change behind a link is seen"


def test_a_repository_may_itself_be_a_link(tmp_path: Path, root: Path, put: Put) -> None:
    put("m", {"config.pbtxt": CONFIG, "1/model.py": ""})
    (tmp_path / "link").symlink_to(root)
    assert read(tmp_path / "link", "m").error is None


def test_repositories_that_cannot_be_served(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    Repository([str(tmp_path)]).check()
    for paths, message in (
        ([], "--model-repository must be specified"),
        (
            [str(tmp_path), f"{tmp_path}/none"],
            f"--model-repository: failed to stat file {tmp_path}/none: no such directory",
        ),
        ([f"{tmp_path}/file"], f"--model-repository: repository path is not a valid directory: {tmp_path}/file"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            Repository(paths).check()
        assert caught.value.message == message
    with pytest.raises(InvalidArgument, match=r"--model-config-name: '\.\./x' must be a name, not a path"):
        Repository([str(tmp_path)], "../x").check()


def test_a_repository_that_went_away_has_no_models(tmp_path: Path) -> None:
    assert Repository([str(tmp_path / "none")]).scan() == {}


@pytest.mark.skipif(AS_ROOT, reason="nothing is unreadable for root")
def test_unreadable_folders(root: Path, put: Put) -> None:
    path = put("m", {"config.pbtxt": CONFIG, "1/model.py": ""})
    path.chmod(0)
    error = read(root, "m").error
    path.chmod(0o700)
    assert error is not None
    assert error.message == "failed to read the folder of model 'm': Permission denied"


def test_materialise_writes_a_private_folder(tmp_path: Path) -> None:
    files = {"file:1/model.py": b"a", "1/../2/model.py": b"b", "file:/labels.txt": b"c", "file:1/x/y": b""}
    folder = materialise(files, "m", str(tmp_path))
    assert stat.S_IMODE(os.stat(folder.root).st_mode) == 0o700
    assert Path(folder.path).name == "m"
    assert Path(folder.path).parent.parent == tmp_path
    read_back = read_folder("m", folder.path)
    assert read_back.versions == {1: ("model.py", "x"), 2: ("model.py",)}
    assert (Path(folder.path) / "labels.txt").read_bytes() == b"c"
    assert resolve(read_back, override="{}").config.backend == "python"
    folder.remove()
    folder.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("../x", "Invalid file parameter 'file:../x' must stay within model directory."),
        ("1/../../x", "Invalid file parameter 'file:1/../../x' must stay within model directory."),
        ("/../x", "Invalid file parameter 'file:/../x' must stay within model directory."),
        ("..", "Invalid file parameter 'file:..' must stay within model directory."),
        ("", "Invalid file parameter 'file:' must be the path of a file."),
        ("1/", "Invalid file parameter 'file:1/' must be the path of a file."),
        (".", "Invalid file parameter 'file:.' must be the path of a file."),
        ("a\0b", r"Invalid file parameter 'file:a\x00b' must be the path of a file."),
        ("\ud800", r"Invalid file parameter 'file:\ud800' must be the path of a file."),
    ],
)
def test_files_that_are_refused(tmp_path: Path, path: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        materialise({"1/model.py": b"", f"file:{path}": b"x"}, "m", str(tmp_path))
    assert caught.value.message == message
    assert list(tmp_path.iterdir()) == []


def test_files_that_cannot_be_written_are_an_error_for_the_client(tmp_path: Path) -> None:
    with pytest.raises(InternalError, match="failed to write the files of model 'm': No such file or directory"):
        materialise({"1/model.py": b""}, "m", str(tmp_path / "gone"))


def test_files_that_contradict_each_other_leave_nothing_behind(tmp_path: Path) -> None:
    for files in ({"a": b"", "a/b": b""}, {"a/b": b"", "a": b""}, {"a" * 300: b""}):
        with pytest.raises(TensorhubError) as caught:
            materialise(files, "m", str(tmp_path))
        assert str(tmp_path) not in caught.value.message
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidArgument, match=r"path traversal"):
        materialise({"a": b""}, "../m", str(tmp_path))


@given(st.text(alphabet="./a\\\0", max_size=12))
def test_no_file_is_written_outside(tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    parent = tmp_path_factory.mktemp("parent")
    try:
        folder = materialise({path: b"x"}, "m", str(parent))
    except InvalidArgument:
        assert list(parent.iterdir()) == []
        return
    written = [Path(where) / name for where, _, names in os.walk(parent) for name in names]
    assert len(written) == 1
    assert written[0].is_relative_to(folder.path)
    folder.remove()


def test_with_namespacing_a_name_may_be_in_several_repositories(tmp_path: Path) -> None:
    for place in ("a/both/1", "a/first/1", "b/both/1"):
        (tmp_path / place).mkdir(parents=True)
    paths = [str(tmp_path / "a"), str(tmp_path / "b")]
    found = Repository(paths, namespacing=True)
    keys = [f"{path}/both" for path in paths]
    assert found.keys("both") == keys
    assert found.keys("first") == ["first"]
    assert found.names() == sorted([*keys, "first"])
    assert found.duplicates() == []
    assert [(found.read(key).name, found.read(key).path) for key in keys] == [("both", key) for key in keys]
    assert Repository(paths).keys("both") == ["both"]
    assert Repository(paths).duplicates() == ["both"]


def test_a_step_means_the_model_of_its_ensembles_repository(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abc"]
    for path, names in zip(paths, (("both", "chain", "first"), ("both", "second"), ("other",)), strict=True):
        for name in names:
            (path / name).mkdir(parents=True)
    first, second = (f"{path}/both" for path in paths[:2])
    found = Repository([str(path) for path in paths], namespacing=True)
    assert found.step_key("chain", "both") == first
    assert found.step_key(f"{paths[1]}/both", "both") == second
    assert found.step_key("chain", "second") == "second"
    assert found.step_key("second", "first") == "first"
    assert found.step_key("other", "both") == "both", "which is no key: nobody can say which one is meant"
    assert found.step_key("chain", "nothing") == "nothing"
    assert Repository([str(path) for path in paths]).step_key("chain", "both") == "both"
