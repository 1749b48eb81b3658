"""Repositories in the cloud: addresses, what is fetched and what is not, and a server on a real S3 interface."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tritonclient.http

from tensorhub.errors import InvalidArgument
from tensorhub.hub.cloud_paths import CloudPath, is_cloud, parse_cloud_path
from tests.serving import EXAMPLE_MODELS, free_ports, serving

fsspec = pytest.importorskip("fsspec", reason="the extra 's3' is not installed")

from tensorhub.hub.cloud import CloudMirror, mirror_folder, open_store  # noqa: E402

_DEADLINE_S = 60.0


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("s3://bucket", CloudPath("s3", "s3", "bucket")),
        ("s3://bucket/a/b/", CloudPath("s3", "s3", "bucket/a/b")),
        ("s3://host:9000/bucket/a", CloudPath("s3", "s3", "bucket/a", {"endpoint_url": "http://host:9000"})),
        ("s3://https://host:443/bucket/a", CloudPath("s3", "s3", "bucket/a", {"endpoint_url": "https://host:443"})),
        ("s3://http://host:9000/bucket", CloudPath("s3", "s3", "bucket", {"endpoint_url": "http://host:9000"})),
        ("gs://bucket/a", CloudPath("gs", "gcs", "bucket/a")),
        ("as://account/container/a", CloudPath("as", "abfs", "container/a", {"account_name": "account"})),
        (
            "as://account.blob.core.windows.net/container",
            CloudPath("as", "abfs", "container", {"account_name": "account"}),
        ),
    ],
)
def test_addresses_in_tritons_forms(path: str, place: CloudPath) -> None:
    assert is_cloud(path)
    assert parse_cloud_path(path) == place


@pytest.mark.parametrize("path", ["s3://", "s3://host:9000/", "gs:///x/..", "as://account", "s3://b/../c", "s3://-x/y"])
def test_addresses_without_a_bucket_are_refused(path: str) -> None:
    with pytest.raises(InvalidArgument, match="no bucket to read from"):
        parse_cloud_path(path)
    assert not is_cloud("/models")
    assert not is_cloud("models/s3://x")


class Counting:
    """A store in memory that counts what is fetched."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, str]] = {}
        self.fetched: list[str] = []
        self.broken = False

    def put(self, path: str, text: str) -> None:
        self.files[path] = (text.encode(), f"{hash(text)}")

    def find(self, root: str, detail: bool) -> dict[str, Any]:
        if self.broken:
            raise RuntimeError("no network")
        return {
            path: {"size": len(data), "ETag": tag, "LastModified": "2026-01-02T03:04:05+00:00"}
            for path, (data, tag) in self.files.items()
            if path.startswith(f"{root}/")
        }

    def get_file(self, remote: str, local: str) -> None:
        if self.broken:
            raise RuntimeError("no network")
        self.fetched.append(remote)
        Path(local).write_bytes(self.files[remote][0])


@pytest.fixture
def store() -> Counting:
    found = Counting()
    found.put("bucket/models/m/config.pbtxt", "one")
    found.put("bucket/models/m/1/model.py", "first")
    found.put("bucket/models/n/1/model.py", "other")
    found.put("bucket/models/../../etc/x", "outside")
    found.put("bucket/models/loose.txt", "no model")
    return found


def _mirror(store: Counting, folder: Path) -> CloudMirror:
    return CloudMirror("s3://bucket/models", str(folder), lambda place: store)


def _tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def test_only_what_has_changed_is_fetched(tmp_path: Path, store: Counting) -> None:
    mirror = _mirror(store, tmp_path / "mirror")
    mirror.refresh()
    assert _tree(tmp_path / "mirror") == {"m/1/model.py": "first", "m/config.pbtxt": "one", "n/1/model.py": "other"}
    assert (tmp_path / "mirror" / "m" / "config.pbtxt").stat().st_mtime == 1767323045
    store.fetched.clear()
    mirror.refresh()
    assert store.fetched == []
    store.put("bucket/models/m/1/model.py", "second")
    del store.files["bucket/models/n/1/model.py"]
    mirror.refresh()
    assert store.fetched == ["bucket/models/m/1/model.py"]
    assert _tree(tmp_path / "mirror") == {"m/1/model.py": "second", "m/config.pbtxt": "one"}
    assert sorted(path.name for path in (tmp_path / "mirror").iterdir()) == [".stamps.json", "m"]


def test_one_model_alone_and_the_next_process(tmp_path: Path, store: Counting) -> None:
    _mirror(store, tmp_path / "mirror").refresh("m")
    assert list(_tree(tmp_path / "mirror")) == ["m/1/model.py", "m/config.pbtxt"]
    store.fetched.clear()
    _mirror(store, tmp_path / "mirror").refresh()
    assert store.fetched == ["bucket/models/n/1/model.py"]


def test_a_store_that_fails_leaves_everything_as_it_was(tmp_path: Path, store: Counting) -> None:
    mirror = _mirror(store, tmp_path / "mirror")
    mirror.refresh()
    before = _tree(tmp_path / "mirror")
    store.broken = True
    with pytest.raises(OSError, match=r"s3://bucket/models: RuntimeError: no network"):
        mirror.refresh()
    assert _tree(tmp_path / "mirror") == before
    empty = CloudMirror("s3://bucket/nothing", str(tmp_path / "x"), lambda place: Counting())
    with pytest.raises(OSError, match="there is nothing"):
        empty.refresh()


def test_the_folder_of_mirrors_is_private_and_removed() -> None:
    with mirror_folder(["/models"]) as folder:
        assert folder == ""
    with mirror_folder(["/models", "gs://bucket"]) as folder:
        assert Path(folder).stat().st_mode & 0o777 == 0o700
    assert not Path(folder).exists()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 interface: host and port."""
    pytest.importorskip("s3fs", reason="the extra 's3' is not installed")
    pytest.importorskip("moto", reason="moto is not installed")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    (port,) = free_ports(1)
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + _DEADLINE_S
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=60).close()
                break
            except urllib.error.HTTPError as exc:
                exc.close()
                break
            except OSError:
                assert time.monotonic() < deadline
                assert server.poll() is None
                time.sleep(0.05)  # the server tells nobody when it listens
        yield f"127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def _upload(s3: str) -> Any:
    """Put the example model into a bucket, and return the store."""
    store = open_store(parse_cloud_path(f"s3://{s3}/bucket/models"))
    store.mkdir("bucket")
    for path in (EXAMPLE_MODELS / "add_sub").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            store.put_file(str(path), f"bucket/models/add_sub/{path.relative_to(EXAMPLE_MODELS / 'add_sub')}")
    return store


def test_a_load_fetches_the_model_first(tmp_path: Path, s3: str) -> None:
    store = _upload(s3)
    options = [f"--model-repository=s3://{s3}/bucket/models", "--model-control-mode=explicit"]
    with (
        serving(tmp_path, options, repository=None) as server,
        tritonclient.http.InferenceServerClient(server.http, network_timeout=60) as client,
    ):
        assert client.get_model_repository_index() == [{"name": "add_sub"}]
        store.copy("bucket/models/add_sub/config.pbtxt", "bucket/models/second/config.pbtxt")
        store.copy("bucket/models/add_sub/1/model.py", "bucket/models/second/1/model.py")
        client.load_model("second")
        assert client.is_model_ready("second")
        with pytest.raises(tritonclient.http.InferenceServerException, match="failed to poll from model repository"):
            client.load_model("third")
        with pytest.raises(tritonclient.http.InferenceServerException):
            client.load_model("..")


def test_a_server_on_s3_follows_changes_and_leaves_nothing(tmp_path: Path, s3: str) -> None:
    store = _upload(s3)
    scratch = tmp_path / "scratch"  # its own: others on this machine come and go
    scratch.mkdir()
    options = [f"--model-repository=s3://{s3}/bucket/models", "--model-control-mode=poll", "--repository-poll-secs=1"]
    with (
        serving(tmp_path, options, repository=None, environ={"TMPDIR": str(scratch)}) as server,
        tritonclient.http.InferenceServerClient(server.http) as client,
    ):
        assert client.is_model_ready("add_sub")
        assert [path.name.startswith("tensorhub-mirror-") for path in scratch.iterdir()] == [True]
        assert client.get_model_config("add_sub")["max_batch_size"] == 8
        config = (
            (EXAMPLE_MODELS / "add_sub" / "config.pbtxt").read_text().replace("max_batch_size: 8", "max_batch_size: 5")
        )
        store.pipe_file("bucket/models/add_sub/config.pbtxt", config.encode())
        deadline = time.monotonic() + _DEADLINE_S
        while client.get_model_config("add_sub")["max_batch_size"] != 5:
            assert time.monotonic() < deadline
            time.sleep(0.05)  # a store tells nobody
    assert list(scratch.iterdir()) == []


def test_a_store_that_is_not_there_is_one_line_and_status_1(tmp_path: Path) -> None:
    pytest.importorskip("s3fs", reason="the extra 's3' is not installed")
    (port, http, grpc, metrics) = free_ports(4)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tensorhub", "serve", f"--model-repository=s3://127.0.0.1:{port}/bucket"),
            *(
                f"--http-port={http}",
                f"--grpc-port={grpc}",
                f"--metrics-port={metrics}",
                f"--run-dir={tmp_path / 'run'}",
            ),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_MAX_ATTEMPTS": "1"},
        timeout=_DEADLINE_S,
    )
    assert done.returncode == 1
    assert f"s3://127.0.0.1:{port}/bucket" in done.stderr
    assert "Traceback" not in done.stderr
