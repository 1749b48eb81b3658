"""Models whose files came with the load request: written to a private folder, and removed from there."""

import os
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass

from tensorhub.errors import InternalError, InvalidArgument
from tensorhub.hub.repository import check_model_name, printable

FILE_PREFIX = "file:"
_ROOT_PREFIX = "tensorhub-model-"


@dataclass(frozen=True, slots=True)
class OverrideFolder:
    """A folder made by `materialise`; whoever asked for it owns it and calls `remove`.

    Attributes:
        path: the model's folder, `<root>/<name>`.
        root: the private folder around it, mode 0700.
    """

    path: str
    root: str

    def remove(self) -> None:
        """Remove the files; doing so twice is allowed."""
        import shutil  # not at the top: few models come with a load request

        shutil.rmtree(self.root, ignore_errors=True)


def maybe_made(path: str, parent: str | None = None) -> OverrideFolder | None:
    """Return the folder at a path if another process of this server has made it by `materialise`, which it now is to
    remove no more; None for another model's folder.
    """
    import tempfile

    root = os.path.dirname(path)
    beside = os.path.dirname(root) == (parent or tempfile.gettempdir())
    # SAFETY: it will be removed, with all that is in it.
    return OverrideFolder(path, root) if beside and os.path.basename(root).startswith(_ROOT_PREFIX) else None


def materialise(files: Mapping[str, bytes], name: str, parent: str | None = None) -> OverrideFolder:
    """Write the `file:` parameters of a load request into a folder of their own.

    Args:
        files: path relative to the model's folder, with or without "file:" in front, to content.
        name: the model.
        parent: where to make the private folder; the system's temporary folder if not given.

    Raises:
        InvalidArgument: the name, or a path that is empty, is a folder, or leads out of the model's folder.
        InternalError: the files cannot be written. Nothing is left behind by either.
    """
    import tempfile  # not at the top: see remove

    check_model_name(name)
    targets = {_relative(key): content for key, content in files.items()}
    try:
        root = tempfile.mkdtemp(prefix=_ROOT_PREFIX, dir=parent)
    except OSError as error:
        raise _not_written(name, error) from error
    folder = OverrideFolder(os.path.join(root, name), root)
    try:
        os.mkdir(folder.path)
        for relative, content in targets.items():
            _write(os.path.join(folder.path, relative), content)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        folder.remove()
        raise InvalidArgument(f"Invalid file parameters for model '{name}': one is a file and a folder") from None
    except OSError as error:
        folder.remove()
        raise _not_written(name, error) from error
    except BaseException:
        folder.remove()
        raise
    return folder


def _not_written(name: str, error: OSError) -> InternalError:
    return InternalError(f"failed to write the files of model '{name}': {error.strerror}")


def _relative(key: str) -> str:
    """Return the path that a file parameter names, relative to the model's folder.

    A leading slash means that folder, as in Triton.

    SAFETY: the result is joined to the folder and written to, so no component of it is "..".

    Raises:
        InvalidArgument: it leads out of that folder, or is no file's path.
    """
    path = key.removeprefix(FILE_PREFIX)
    shown = printable(path)
    normal = posixpath.normpath(path.lstrip("/"))
    if normal == ".." or normal.startswith("../"):
        raise InvalidArgument(f"Invalid file parameter '{FILE_PREFIX}{shown}' must stay within model directory.")
    if normal == "." or path.endswith("/") or any(ord(char) < 32 or 0xD800 <= ord(char) < 0xE000 for char in path):
        raise InvalidArgument(f"Invalid file parameter '{FILE_PREFIX}{shown}' must be the path of a file.")
    return normal


def _write(path: str, content: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "xb") as file:
        file.write(content)
