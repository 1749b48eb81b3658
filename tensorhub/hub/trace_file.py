"""Traces in Triton's file format: a JSON array of objects, each with the id of the trace that it belongs to.

With a log frequency of n, n traces go into a file each, `<file>.0`, `<file>.1` and so on. With 0 all go into `<file>`
itself. A file is an array that is closed at any time: what is added is written over the closing bracket.
"""

import glob
import logging
import os
import re
from pathlib import Path
from typing import Any, BinaryIO

from tensorhub.hub.trace_desk import Trace

log = logging.getLogger(__name__)

_ID = re.compile(rb'\{"id":(\d+),')

_TAIL_BYTES = 1 << 24
"""How much of a file is looked at for the ids that it has; numbers rise but for requests that took long."""


class TraceFile:
    """See the module; not thread-safe."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._file: BinaryIO | None = None
        self._frequency = 0
        self._index = 0
        self._traces = 0
        self._resumed = False

    def resume(self) -> int:
        """Add to the files of the hub before this one, and do not begin them anew; before the first `write`.

        Returns:
            The highest id among the newest traces of these files, 0 if there are none.
        """
        self._resumed = True
        newest = [path for _, path in sorted(self._files())[-1:]]
        return max(map(_highest_id, [self._path, *newest]))

    def _files(self) -> list[tuple[int, Path]]:
        """Return those with an index, and it."""
        prefix = f"{self._path.name}."
        names = {path.name.removeprefix(prefix): path for path in self._path.parent.glob(f"{glob.escape(prefix)}*")}
        return [(int(index), path) for index, path in names.items() if index.isdecimal()]

    def write(self, trace: Trace, frequency: int) -> None:
        """Add a trace. A file that cannot be written costs the trace, and is logged."""
        from tensorhub.protocol import json_text  # not at the top: most hubs write no JSON

        objects = b",".join(json_text.dumps(item) for item in records(trace))
        try:
            if frequency != self._frequency or (frequency and self._traces == frequency):
                self.close()
                self._index = self._first_index(frequency) if frequency != self._frequency else self._index + 1
                self._frequency = frequency
            file = self._file or self._open(frequency)
            is_empty = file.seek(0, os.SEEK_END) <= 1
            if not is_empty:
                file.seek(-1, os.SEEK_END)
            # In one piece, so that a reader meets no half of it.
            file.write(b"%b%b]" % (b"[" if is_empty else b",", objects))
            file.flush()
            self._traces += 1
        except OSError as exc:
            log.error("a trace cannot be written: %s: %s", exc.strerror, exc.filename or self._path)

    def _open(self, frequency: int) -> BinaryIO:
        path = Path(f"{self._path}.{self._index}") if frequency else self._path
        if self._resumed and not frequency and _is_whole(path):
            self._file = path.open("rb+")
        else:
            self._file = path.open("wb+")
        self._traces = 0
        return self._file

    def _first_index(self, frequency: int) -> int:
        return max(self._files(), default=(-1, None))[0] + 1 if self._resumed and frequency else 0

    def close(self) -> None:
        """Close the file that is open, if any."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _highest_id(path: Path) -> int:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return max((int(match[1]) for match in _ID.finditer(file.read())), default=0)
    except OSError:
        return 0


def _is_whole(path: Path) -> bool:
    """Whether a file can be added to; one that its writer's death has cut off is put aside."""
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            if file.read() == b"]":
                return True
        damaged = path.with_name(f"{path.name}.damaged")
        path.rename(damaged)
        log.warning("%s ends in the middle of a trace; it is %s now", path, damaged)
    except OSError:
        pass  # there is none, or an empty one: as at the start
    return False


def records(trace: Trace) -> list[dict[str, Any]]:
    """Return the objects of a trace, in Triton's order: the youngest part first."""
    found: list[dict[str, Any]] = []
    for part in reversed(trace.parts):
        found += _work(part.number, part.work, part.parent)
    number = trace.number
    found += [_stamp(number, stamp) for stamp in trace.begin.stamps]
    if trace.work is not None:
        found += _work(number, trace.work, 0)
    if trace.end is not None:
        found += [_stamp(number, stamp) for stamp in trace.end.stamps]
    return found


def _work(number: int, work: Any, parent: int) -> list[dict[str, Any]]:
    about: dict[str, Any] = {"id": number, "model_name": work.model, "model_version": work.version}
    if work.request_id:
        about["request_id"] = work.request_id
    if parent:
        about["parent_id"] = parent
    found = [about]
    tensors = list(work.tensors)
    for index, stamp in enumerate(work.stamps):
        found += [_tensor(number, tensor) for tensor in tensors if tensor.after == index]
        found.append(_stamp(number, stamp))
    return found + [_tensor(number, tensor) for tensor in tensors if tensor.after >= len(work.stamps)]


def _stamp(number: int, stamp: Any) -> dict[str, Any]:
    return {"id": number, "timestamps": [{"name": stamp.name, "ns": stamp.ns}]}


def _tensor(number: int, tensor: Any) -> dict[str, Any]:
    return {
        "id": number,
        "activity": tensor.activity,
        "tensor": {"name": tensor.name, "data": tensor.data, "shape": tensor.shape, "dtype": tensor.datatype},
    }
