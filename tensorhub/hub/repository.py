"""The model repository on disk: which models there are, and what each folder holds.

    <repository>/<model>/config.pbtxt             the configuration; may be missing
    <repository>/<model>/configs/<name>.pbtxt     an alternative to it, chosen by --model-config-name
    <repository>/<model>/<version>/               a positive number without leading zeros

Nothing is remembered between two calls but the paths: what changed is found by comparing fingerprints. A broken model
is an entry with the reason, never an exception, so that one of them does not hide the others. Folders and files may be
links to anywhere: whoever can write to the repository is the operator. Nothing here knows workers or states. The layout
is Triton's.
"""

import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tensorhub.errors import InternalError, InvalidArgument, NotFound, TensorhubError
from tensorhub.hub.inventory import DUPLICATE
from tensorhub.protocol import messages, model_config
from tensorhub.protocol.config_files import check_stays_inside
from tensorhub.protocol.model_names import bare_name, model_key, namespace_of

CONFIG_FILENAME = "config.pbtxt"
CONFIGS_FOLDER = "configs"
MAX_NAME_BYTES = 255
"""What a Linux file system allows in one path component."""
MAX_CONFIG_BYTES = 16 * 2**20

OVERRIDE_NEEDS_CONFIG = "Load parameter 'config' must be specified for model file override"

_VERSION = re.compile(r"[1-9][0-9]{0,18}")
_MAX_VERSION = 2**63 - 1
# What running a model leaves beside it; a change of it is no change of the model.
_NOT_PART_OF_A_MODEL = frozenset({"__pycache__"})


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """One model's folder as it was found.

    Attributes:
        path: absolute path; of the first repository that has it, if several do.
        versions: number to the sorted names of what lies in its folder, in ascending order.
        config: the `inference.ModelConfig` as it was read, not completed; empty if there is none or it does not parse.
        has_config: there is a configuration file.
        fingerprint: changes when any file is added, removed, touched or resized; `content`: the same without the
            configuration files.
        error: why the model cannot be loaded at all, whatever its configuration: it is not unique, or unreadable.
        config_error: what is wrong with the configuration file; a config in the load request can take its place.
    """

    name: str
    path: str
    versions: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    config: Any = field(default_factory=messages.ModelConfig)
    has_config: bool = False
    fingerprint: str = ""
    content: str = ""
    error: TensorhubError | None = None
    config_error: TensorhubError | None = None

    @property
    def first_files(self) -> tuple[str, ...]:
        """What lies in the lowest version's folder: it tells the backend when the config does not."""
        return next(iter(self.versions.values()), ())


@dataclass(frozen=True, slots=True)
class Definition:
    """What shall be served of a folder.

    Attributes:
        config: a complete `inference.ModelConfig`, except for what the backend adds to it.
        versions: what the version policy chooses, ascending; may be empty, see `no_version`.
        overridden: the config came with the load request.
    """

    config: Any
    versions: tuple[int, ...]
    overridden: bool = False


class Repository:
    """The folders given by `--model-repository`.

    Args:
        paths: the repositories; a model's name must be unique over all of them.
        config_name: `--model-config-name`, or "" for none.
        namespacing: models of several repositories may have one name; see protocol.model_names.
    """

    def __init__(self, paths: Sequence[str], config_name: str = "", *, namespacing: bool = False) -> None:
        self._namespacing = namespacing
        self.paths = tuple(os.path.abspath(path) for path in paths)
        self.config_name = config_name

    def check(self) -> None:
        """See that there are repositories to serve from.

        Raises:
            InvalidArgument: none is given, one is no readable folder, or config_name is no file's name.
        """
        if not self.paths:
            raise InvalidArgument("--model-repository must be specified")
        if self.config_name and not _is_component(self.config_name):
            raise InvalidArgument(f"--model-config-name: '{printable(self.config_name)}' must be a name, not a path")
        for path in self.paths:
            try:
                with os.scandir(path):
                    pass
            except FileNotFoundError:
                raise InvalidArgument(f"--model-repository: failed to stat file {path}: no such directory") from None
            except NotADirectoryError:
                raise InvalidArgument(f"--model-repository: repository path is not a valid directory: {path}") from None
            except OSError as error:
                raise InvalidArgument(f"--model-repository: cannot read {path}: {error.strerror}") from error

    def names(self) -> list[str]:
        """Return the models' names (keys, with namespacing), sorted.

        Hidden folders are none, nor are names that no request could ask for.
        """
        return sorted(self._places())

    def duplicates(self) -> list[str]:
        """Return the names that several repositories have."""
        return sorted(name for name, places in self._places().items() if len(places) > 1)

    def fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of every model, by name: what has changed between two calls differs.

        Raises:
            OSError: a repository cannot be read; its models may still be there.
        """
        for path in self.paths:
            os.listdir(path)
        return {name: _digest(map(fingerprint, places)) for name, places in self._places().items()}

    def scan(self) -> dict[str, ModelFolder]:
        """Read all models, in the order of their names."""
        places = self._places()
        return {name: self._read(bare_name(name), places[name]) for name in sorted(places)}

    def read(self, name: str) -> ModelFolder:
        """Read one model.

        Raises:
            InvalidArgument: `name` is not a model's name.
            NotFound: no repository has a folder of this name, or it is hidden.
        """
        # SAFETY: what is no key of ours is checked as a name, slashes and all.
        bare, namespace = (bare_name(name), namespace_of(name)) if self._namespacing else (name, "")
        check_model_name(bare)
        paths = [path for path in self.paths if not namespace or path == namespace]
        candidates = [] if bare.startswith(".") else [os.path.join(path, bare) for path in paths]
        places = [place for place in candidates if os.path.isdir(place)]
        if not places:
            raise NotFound(f"failed to poll model '{name}': model not found in any model repository.")
        return self._read(bare, places)

    def keys(self, name: str) -> list[str]:
        """Return the keys of the models of a name: itself, or one for each repository that has it."""
        if not self._namespacing or not _is_component(name):
            return [name]
        having = [path for path in self.paths if os.path.isdir(os.path.join(path, name))]
        return [model_key(path, name) for path in having] if len(having) > 1 else [name]

    def step_key(self, ensemble: str, step: str) -> str:
        """Return the key of the model that a step names: of several, the one in the ensemble's own repository.

        Args:
            ensemble: its key.

        Returns:
            The name itself if several repositories have the model and the ensemble's is not among them; no key is so.
        """
        keys = self.keys(step)
        if len(keys) == 1:
            return keys[0]
        having = (path for path in self.paths if os.path.isdir(os.path.join(path, ensemble)))
        own = model_key(namespace_of(ensemble) or next(having, ""), step)
        return own if own in keys else step

    def _places(self) -> dict[str, list[str]]:
        """Return the folders of each model's name; a repository that cannot be read any more has none."""
        places: dict[str, list[str]] = {}
        for path in self.paths:
            for entry in _entries(path):
                # Not `entry.is_dir`: it raises for a link that leads to itself.
                if os.path.isdir(entry.path) and not entry.name.startswith(".") and _is_component(entry.name):
                    places.setdefault(entry.name, []).append(entry.path)
        if not self._namespacing:
            return places
        return {
            model_key(os.path.dirname(place), name) if len(found) > 1 else name: [place]
            for name, found in places.items()
            for place in found
        }

    def _read(self, name: str, places: list[str]) -> ModelFolder:
        if len(places) > 1:
            return ModelFolder(name, places[0], error=InvalidArgument(DUPLICATE))
        return read_folder(name, places[0], self.config_name)


def read_folder(name: str, path: str, config_name: str = "") -> ModelFolder:
    """Read the folder of a model."""
    try:
        versions = _versions(path)
    except OSError as error:
        reason = InternalError(f"failed to read the folder of model '{name}': {error.strerror}")
        return ModelFolder(name, path, error=reason)
    # Before the files are read: what changes meanwhile is seen the next time.
    all_files, content = fingerprint(path), fingerprint(path, without_config=True)
    config, has_config, config_error = messages.ModelConfig(), False, None
    try:
        text, origin = _config_text(name, path, config_name)
        has_config = text is not None
        if text is not None:
            config = model_config.parse_text(text, origin)
    except TensorhubError as error:
        has_config, config_error = True, error
    return ModelFolder(
        name, path, versions, config, has_config, all_files, content, error=None, config_error=config_error
    )


def resolve(
    folder: ModelFolder, *, auto_complete: bool = True, gpus: Sequence[str] = (), override: str | None = None
) -> Definition:
    """Decide what a folder shall serve.

    Args:
        auto_complete: false under `--disable-auto-complete-config`: the config must be there, with all tensors.
        gpus: the GPUs of this server, one entry for each ordinal.
        override: the `config` parameter of a load request, JSON, which replaces the file's.

    Raises:
        TensorhubError: it cannot be served; the first reason that Triton would find. See `poll_failure`.
    """
    if folder.error is not None:
        raise folder.error
    if override is not None:
        config = model_config.parse_json(override)
        check_stays_inside(config)
    elif folder.config_error is not None:
        raise folder.config_error
    elif not auto_complete and not folder.has_config:
        raise InternalError(
            f"failed to open text file for read {folder.name}/{CONFIG_FILENAME}: No such file or directory"
        )
    else:
        config = folder.config
    config = model_config.complete(config, name=folder.name, files=folder.first_files, gpus=gpus)
    model_config.validate(config)
    if not auto_complete:
        model_config.validate_tensors(config)
    if config.name != folder.name:
        raise InvalidArgument(
            f"unexpected directory name '{folder.name}' for model '{config.name}', directory name must equal model name"
        )
    versions = model_config.select_versions(config.version_policy, list(folder.versions))
    return Definition(config, tuple(versions), overridden=override is not None)


def poll_failure(name: str, cause: str = "") -> InternalError:
    """Return the error of a load whose model cannot be read: Triton's words, and the cause, which Triton only logs."""
    text = f"failed to load '{name}', failed to poll from model repository"
    return InternalError(f"{text}: {cause}" if cause else text)


def no_version(name: str) -> str:
    """Return Triton's reason for a model of which the version policy leaves nothing."""
    return f"at least one version must be available under the version policy of model '{name}'"


def check_model_name(name: str) -> str:
    """Return a name from the wire if it is one path component.

    Raises:
        InvalidArgument: it is empty, or could lead out of its folder, or no file can be called so.
    """
    if not name:
        raise InvalidArgument("Model name cannot be empty. Please enter a valid name to deploy.")
    if not _is_component(name):
        raise InvalidArgument(
            f"invalid model name '{printable(name)}', model name must not contain path traversal characters"
        )
    return name


def printable(text: str) -> str:
    """Return the text with its control characters and lone surrogates escaped, so that it can stand in an error."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _is_component(name: str) -> bool:
    """Whether the name is one component of a path, even for a reader that normalises Unicode first.

    SAFETY: names that pass are joined to a repository's path and opened.
    """
    plain = unicodedata.normalize("NFKC", name)
    if plain.strip() in {"", ".", ".."} or any(char in plain or char in name for char in "/\\"):
        return False
    if any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in name):
        return False
    return len(name.encode()) <= MAX_NAME_BYTES


def _entries(path: str) -> list[os.DirEntry[str]]:
    """Return what lies in a folder, by name; nothing if it cannot be read."""
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _versions(path: str) -> dict[int, tuple[str, ...]]:
    with os.scandir(path) as entries:
        numbered = sorted(
            (int(entry.name), entry.path) for entry in entries if _VERSION.fullmatch(entry.name) and entry.is_dir()
        )
    versions = {}
    for number, folder in numbered:
        if number <= _MAX_VERSION:
            versions[number] = tuple(sorted(os.listdir(folder)))
    return versions


def _config_text(name: str, path: str, config_name: str) -> tuple[str | None, str]:
    """Return the text of the configuration file, None if there is none, and its name for errors.

    Raises:
        TensorhubError: it is there and cannot be read.
    """
    candidates = [f"{CONFIGS_FOLDER}/{config_name}.pbtxt"] if config_name else []
    for relative in (*candidates, CONFIG_FILENAME):
        file, origin = os.path.join(path, relative), f"{name}/{relative}"
        try:
            status = os.stat(file)
            if not stat.S_ISREG(status.st_mode):
                raise InvalidArgument(f"{origin}: not a regular file")
            if status.st_size > MAX_CONFIG_BYTES:
                raise InvalidArgument(f"{origin}: {status.st_size} bytes, larger than the {MAX_CONFIG_BYTES} allowed")
            with open(file, "rb") as opened:
                data = opened.read(MAX_CONFIG_BYTES)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InternalError(f"failed to open text file for read {origin}: {error.strerror}") from error
        try:
            return data.decode("utf-8-sig"), origin
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise InvalidArgument(f"{origin}:{line}: not UTF-8: byte 0x{data[error.start]:02x}") from error
    return None, f"{name}/{CONFIG_FILENAME}"


def fingerprint(path: str, *, without_config: bool = False) -> str:
    """Return what changes when any file below a folder is added, removed, touched or resized."""
    return _digest(
        f"{relative}\0{mtime_ns}\0{size}"
        for relative, mtime_ns, size in _files(path)
        if not (without_config and relative.partition(os.sep)[0] in (CONFIG_FILENAME, CONFIGS_FOLDER))
    )


def _files(path: str) -> Iterator[tuple[str, int, int]]:
    """Yield (relative path, mtime in ns, size) of all files below a folder, through links, each folder once."""
    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(path, followlinks=True):
        try:
            status = os.stat(folder)
        except OSError:  # it has just been removed
            folders.clear()
            continue
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if name not in _NOT_PART_OF_A_MODEL)
        for name in sorted(files):
            file = os.path.join(folder, name)
            try:
                found = os.stat(file)
            except OSError:
                yield os.path.relpath(file, path), 0, -1
            else:
                yield os.path.relpath(file, path), found.st_mtime_ns, found.st_size


def _digest(parts: Iterable[str]) -> str:
    import hashlib  # not at the top: OpenSSL comes with it, and `tensorhub serve` takes no digests

    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()
