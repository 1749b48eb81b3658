"""What makes a model give the answers that it gives, as one short text: its name, version, configuration and files.

Models with the same fingerprint answer the same in every process and after every restart, so that what one has
answered another one may say. Files are read whole: their times and paths differ from host to host.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from typing import Any

_CHUNK = 1 << 20
_OTHER_VERSION = re.compile(r"\d+")
_BYTECODE = "__pycache__"


def model_fingerprint(folder: str, version: int, config: Any) -> str:
    """Return the fingerprint of a model version, 32 hexadecimal digits.

    Args:
        folder: of the model; what is in other versions' folders does not count.
        config: its `inference.ModelConfig`, completed.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256(config.SerializeToString(deterministic=True))
    digest.update(version.to_bytes(8, "little", signed=True))
    for path in _files(folder, version):
        name = os.path.relpath(path, folder).encode("utf-8", "surrogateescape")
        content = hashlib.sha256()
        with open(path, "rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                content.update(chunk)
        digest.update(len(name).to_bytes(4, "little") + name + content.digest())
    return digest.hexdigest()[:32]


def _files(folder: str, version: int) -> Iterator[str]:
    """Yield the regular files of a model version, links to files and folders included, in a fixed order."""
    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        if place == folder:
            folders[:] = [name for name in folders if name == str(version) or not _OTHER_VERSION.fullmatch(name)]
        folders[:] = sorted(name for name in folders if name != _BYTECODE)
        yield from (path for path in (os.path.join(place, name) for name in sorted(files)) if os.path.isfile(path))
