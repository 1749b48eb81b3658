"""What a bench that was killed leaves behind, and how the next one finds it.

All that a bench makes under a name, in the folder for temporary files and in /dev/shm, has its process's number in that
name. What it starts dies with it (see `servers`).
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
_NAMES = re.compile(r"tensorhub[-_]bench[-_](\d+)[-_]")


def folder_prefix() -> str:
    """Return how the names of this bench's temporary folders begin."""
    return f"tensorhub-bench-{os.getpid()}-"


def segment_prefix() -> str:
    """Return how the keys of this bench's shared memory begin, after the slash."""
    return f"tensorhub_bench_{os.getpid()}_"


def remove(folders: tuple[Path, ...] | None = None) -> list[str]:
    """Remove what benches that are no more have left; return one line for each thing.

    Args:
        folders: where to look; None: temporary files and shared memory.
    """
    told = []
    for path in _marked(folders or _everywhere(), _is_gone):
        _remove(path)
        told.append(f"removed {path}, which an earlier bench left behind")
    return told


def remove_own(folders: tuple[Path, ...] | None = None) -> None:
    """Remove what has this bench's own mark, when nothing of it runs any more.

    The owners of folders and segments remove them; but an interrupt that comes while one is being made, or is half
    removed, finds no owner.

    Args:
        folders: as for `remove`.
    """
    for path in _marked(folders or _everywhere(), lambda pid: pid == os.getpid()):
        _remove(path)


def _everywhere() -> tuple[Path, ...]:
    return Path(tempfile.gettempdir()), SHARED_MEMORY


def _is_gone(pid: int) -> bool:
    # A number used again keeps what is left for another time.
    return not Path("/proc", str(pid)).exists()


def _marked(folders: tuple[Path, ...], wanted: Callable[[int], bool]) -> Iterator[Path]:
    for folder in folders:
        for path in sorted(folder.iterdir()):
            found = _NAMES.match(path.name)
            # SAFETY: only what is ours.
            if found and wanted(int(found[1])) and path.lstat().st_uid == os.getuid():
                yield path


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
