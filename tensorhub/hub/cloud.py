"""A repository in the cloud, mirrored in a private local folder. The one module that knows fsspec.

Only what has changed is fetched. A model's files become visible together: the new state of its folder is made beside it
and renamed, and files that are the same are linked, not copied. A loaded model may still have the old files open.

    <folder>/<model>/...         the files, with the times that the store tells, so that what is the same looks the same
    <folder>/.stamps.json        what was fetched, for the next process that makes this mirror
"""

import json
import os
import posixpath
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from tensorhub.errors import InvalidArgument
from tensorhub.hub.cloud_paths import EXTRAS, CloudPath, is_cloud, parse_cloud_path

MIRROR_VARIABLE = "TENSORHUB_MIRROR"
"""Environment: the folder in which mirrors are made; whoever sets it removes it."""

Stamp = tuple[int, str]
"""(size, what the store says of the content's age or hash): the same for the same content."""

_STAMPS = ".stamps.json"
_STAMP_KEYS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated")
_TIME_KEYS = ("LastModified", "last_modified", "mtime", "updated")


def open_store(place: CloudPath) -> Any:
    """Return the fsspec file system of a place.

    Raises:
        InvalidArgument: its library is not installed.
    """
    try:
        import fsspec

        return fsspec.filesystem(place.protocol, skip_instance_cache=True, use_listings_cache=False, **place.options)
    except ImportError as exc:
        raise InvalidArgument(
            f"--model-repository={place.scheme}://...: {exc}; install it with: "
            f"pip install 'tensorhub[{EXTRAS[place.scheme]}]'"
        ) from exc


class CloudMirror:
    """One repository. `refresh` may be called from any thread.

    Args:
        url: as `--model-repository` gave it.
        folder: where the mirror is made; a folder of our own.
    """

    def __init__(self, url: str, folder: str, connect: Callable[[CloudPath], Any] = open_store) -> None:
        self.url = url
        self.folder = folder
        self._place = parse_cloud_path(url)
        self._connect = connect
        self._store: Any = None
        self._stamps: dict[str, dict[str, Stamp]] = {}
        self._times: dict[str, float | None] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<CloudMirror {self.url} in {self.folder}, {len(self._stamps)} models>"

    def refresh(self, model: str = "") -> None:
        """Make the mirror, or one model of it, as the repository is now.

        Raises:
            OSError: the repository cannot be read; the mirror is as it was.
            InvalidArgument: the library for it is not installed.
        """
        with self._lock:
            if self._store is None:
                self._store = self._connect(self._place)
                self._remember()
            found = self._list(model)
            for name in [model] if model else sorted(self._stamps.keys() | found.keys()):
                files = found.get(name, {})
                if files != self._stamps.get(name, {}):
                    self._fetch(name, files)
                    self._note()

    def _remember(self) -> None:
        """Take over what another process has fetched into this folder."""
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        try:
            with open(os.path.join(self.folder, _STAMPS), encoding="utf-8") as file:
                told = json.load(file)
        except (OSError, ValueError):
            return
        self._stamps = {
            name: {path: (stamp[0], stamp[1]) for path, stamp in files.items()} for name, files in told.items()
        }

    def _note(self) -> None:
        draft = os.path.join(self.folder, f"{_STAMPS}.new")
        with open(draft, "w", encoding="utf-8") as file:
            json.dump(self._stamps, file)
        os.replace(draft, os.path.join(self.folder, _STAMPS))

    def _list(self, model: str) -> dict[str, dict[str, Stamp]]:
        """Return model name -> path below its folder -> stamp."""
        root = posixpath.join(self._place.path, model) if model else self._place.path
        try:
            entries: Mapping[str, Any] = self._store.find(root, detail=True)
        except OSError:
            raise
        except Exception as exc:  # each store has errors of its own
            raise OSError(f"{self.url}: {type(exc).__name__}: {exc}") from exc
        if not entries and not model:
            raise OSError(f"{self.url}: there is nothing")
        found: dict[str, dict[str, Stamp]] = {}
        self._times = {}
        for path, info in entries.items():
            relative = posixpath.relpath(path.lstrip("/"), self._place.path)
            name, _, rest = relative.partition("/")
            # SAFETY: these become local paths.
            if rest and not rest.endswith("/") and ".." not in relative.split("/"):
                stamp = next((str(info[key]) for key in _STAMP_KEYS if info.get(key)), "")
                found.setdefault(name, {})[rest] = (int(info.get("size") or 0), stamp)
                self._times[f"{name}/{rest}"] = _seconds(next((info[key] for key in _TIME_KEYS if info.get(key)), None))
        return found

    def _fetch(self, name: str, files: dict[str, Stamp]) -> None:
        import shutil  # not at the top, as for tempfile: few servers have repositories in the cloud
        import tempfile

        target = os.path.join(self.folder, name)
        old = self._stamps.get(name, {})
        draft = tempfile.mkdtemp(prefix=".fetch-", dir=self.folder)
        try:
            for path, stamp in files.items():
                local = os.path.join(draft, *path.split("/"))
                os.makedirs(os.path.dirname(local), exist_ok=True)
                if old.get(path) == stamp:
                    os.link(os.path.join(target, *path.split("/")), local)
                else:
                    self._download(posixpath.join(self._place.path, name, path), local)
                    time_s = self._times.get(f"{name}/{path}")
                    if time_s is not None:
                        os.utime(local, (time_s, time_s))
            aside = f"{draft}-old"
            if os.path.isdir(target):
                os.rename(target, aside)
            if files:
                os.rename(draft, target)
            shutil.rmtree(aside, ignore_errors=True)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        self._stamps[name] = files
        if not files:
            del self._stamps[name]

    def _download(self, remote: str, local: str) -> None:
        try:
            self._store.get_file(remote, local)
        except OSError:
            raise
        except Exception as exc:
            raise OSError(f"{self.url}: {type(exc).__name__}: {exc}") from exc


def _seconds(value: Any) -> float | None:
    """Return the time of a file as seconds since 1970, None if the store tells none that can be read."""
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    return value.timestamp() if isinstance(value, datetime) else None


def local_repositories(paths: Sequence[str], root: str) -> tuple[list[str], list[CloudMirror]]:
    """Return a local folder for each repository, and the mirrors among them, which are made in `root`.

    Raises:
        InvalidArgument: an address is none.
    """
    folders, mirrors = [], []
    for index, path in enumerate(paths):
        if is_cloud(path):
            mirrors.append(CloudMirror(path, os.path.join(root, str(index))))
            folders.append(mirrors[-1].folder)
        else:
            folders.append(path)
    return folders, mirrors


@contextmanager
def mirror_folder(paths: Sequence[str]) -> Iterator[str]:
    """Yield a private folder for mirrors of these repositories: the one of MIRROR_VARIABLE, or a new one, which is
    removed; "" if none of them is in the cloud."""
    given = os.environ.get(MIRROR_VARIABLE, "")
    if given or not any(map(is_cloud, paths)):
        yield given
        return
    import shutil
    import tempfile

    folder = tempfile.mkdtemp(prefix="tensorhub-mirror-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
