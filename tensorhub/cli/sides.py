"""What a process sees of users, namespaces, GPUs and /dev/shm, looked up in /proc: for `tensorhub doctor`.

Of processes of other users, some of it is hidden; what cannot be told is empty.
"""

import os
import pwd
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tensorhub.ipc.gpus import find_gpus

SEGMENTS = Path("/dev/shm")

_NAMESPACES = ("ipc", "mnt", "pid", "net", "user")
_WORKER = (b"tensorhub.workers.main", b"tensorhub-worker")
_DEFAULT_HTTP_PORT = 8000


@dataclass(frozen=True, slots=True)
class Side:
    """What one process sees.

    Attributes:
        shm_device: which file system /dev/shm is; two sides with one number share it. 0: not known.
        namespaces: kind to inode; "" where it cannot be told.
        gpus: UUIDs.
        run_dir, http_port: of the server that a worker belongs to, by its command line.
    """

    pid: int
    uid: int
    groups: Sequence[int]
    shm_device: int
    namespaces: Mapping[str, str] = field(default_factory=dict)
    gpus: Sequence[str] = ()
    run_dir: str = ""
    http_port: int = _DEFAULT_HTTP_PORT


@dataclass(frozen=True, slots=True)
class Segments:
    """/dev/shm, as this process has it.

    Attributes:
        kind: of the file system; "" if that is not known.
        size, free: bytes.
    """

    kind: str
    size: int
    free: int
    read_only: bool
    writable: bool


def look_here() -> Side:
    """Look at this process's side."""
    pid = os.getpid()
    return Side(
        pid,
        os.geteuid(),
        tuple(sorted(os.getgroups())),
        _device(SEGMENTS),
        {kind: _namespace(pid, kind) for kind in _NAMESPACES},
        tuple(gpu.uuid for gpu in find_gpus()),
    )


def look_at_segments() -> Segments:
    """Look at /dev/shm.

    Raises:
        OSError: there is none, or it cannot be looked at.
    """
    found = os.statvfs(SEGMENTS)
    return Segments(
        _file_system(Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace"), str(SEGMENTS)),
        found.f_blocks * found.f_frsize,
        found.f_bavail * found.f_frsize,
        bool(found.f_flag & os.ST_RDONLY),
        os.access(SEGMENTS, os.W_OK | os.X_OK),
    )


def find_workers() -> list[Side]:
    """Look at the workers of servers that this process can see: they are the ones that open memory."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            command = (folder / "cmdline").read_bytes()
            if any(mark in command for mark in _WORKER):
                found.append(_worker(folder, command.decode("utf-8", "replace").split("\0")))
        except OSError:
            continue  # it has gone
    return sorted(found, key=lambda side: side.pid)


def _worker(folder: Path, command: Sequence[str]) -> Side:
    groups = re.search(r"^Groups:[ \t]*(.*)$", (folder / "status").read_text(encoding="ascii"), re.MULTILINE)
    try:
        environ = (folder / "environ").read_bytes()
    except OSError:
        environ = b""
    chosen = re.search(rb"(?:^|\0)CUDA_VISIBLE_DEVICES=(GPU-[^\0]*)", environ)
    port = _option(command, "--http-port")
    pid = int(folder.name)
    return Side(
        pid,
        folder.stat().st_uid,
        tuple(int(group) for group in groups[1].split()) if groups else (),
        _device(folder / "root" / SEGMENTS.relative_to("/")),
        {kind: _namespace(pid, kind) for kind in _NAMESPACES},
        (chosen[1].decode(),) if chosen else (),
        _option(command, "--run-dir"),
        int(port) if port.isdecimal() else _DEFAULT_HTTP_PORT,
    )


def _option(command: Sequence[str], name: str) -> str:
    values = [word.partition("=")[2] for word in command if word.startswith(f"{name}=")]
    return values[-1] if values else ""


def by_server(workers: Iterable[Side]) -> dict[str, list[Side]]:
    """Put workers together that belong to one server; by its run directory."""
    found: dict[str, list[Side]] = {}
    for worker in workers:
        found.setdefault(worker.run_dir, []).append(worker)
    return found


def user_name(uid: int) -> str:
    """Return a user as a person knows it."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _file_system(mounts: str, path: str) -> str:
    """Return the kind of file system at a path, by /proc/self/mountinfo: its fifth field is the place, and the first
    one behind the dash the kind (proc(5)). Of several at one place the last one is on top."""
    best, kind = "", ""
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        place = fields.split()[4]
        inside = path == place or path.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best):
            best, kind = place, rest.split()[0]
    return kind


def _device(path: Path) -> int:
    try:
        return path.stat().st_dev
    except OSError:
        return 0


def _namespace(pid: int, kind: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}").rpartition("[")[2].rstrip("]")
    except OSError:
        return ""
