"""`tensorhub doctor`: why shared memory does not work, and what to do.

Runs where the client runs, in its container too, and needs nothing but what is there: it looks at this side, asks the
server over HTTP, and tries a registration for real. Where it can see the server's processes (the same host and user) it
compares both sides.
"""

import json
import os
import pwd
import re
import secrets
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tensorhub.cli.arguments import Parser
from tensorhub.client.http import DEFAULT_URL, Refused, Server, Unreachable
from tensorhub.client.shared_memory import SharedMemoryError, SystemRegion
from tensorhub.ipc.gpus import find_gpus

_PROG = "tensorhub doctor"

GOOD, WARNING, BAD = "ok", "warning", "problem"

SMALL_BYTE_SIZE = 256 << 20
"""Of /dev/shm. Containers have 64 MiB if nobody asks for more."""

_NAMESPACES = ("ipc", "mnt", "pid", "net", "user")
_DRIVER_VERSION = re.compile(r"NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s")
_GPU_LABEL = re.compile(r'gpu_uuid="([^"]+)"')
_PROBE_BYTE_SIZE = 4096
_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Side:
    """What one process sees.

    Attributes:
        shm_device: which file system /dev/shm is; two sides with one number share it.
        namespaces: kind to inode; "" where it cannot be told.
        gpus: UUIDs.
    """

    pid: int
    uid: int
    groups: Sequence[int]
    shm_device: int
    namespaces: Mapping[str, str]
    gpus: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    state: str
    text: str
    remedy: str = ""


@dataclass(slots=True)
class Report:
    """What has been found."""

    findings: list[Finding] = field(default_factory=list)

    def add(self, state: str, text: str, remedy: str = "") -> None:
        self.findings.append(Finding(state, text, remedy))

    @property
    def worst(self) -> str:
        states = {finding.state for finding in self.findings}
        return BAD if BAD in states else WARNING if WARNING in states else GOOD


def run(argv: Sequence[str]) -> int:
    """Look, ask and try, and print what was found.

    Returns:
        The exit status: 0; 1 if there is a problem.
    """
    parser = Parser(
        _PROG,
        "Say why shared memory between this client and a server does not work, and what to do.",
        "Exit status: 0 if nothing is wrong, 1 if something is.",
    )
    parser.add_argument("--url", default=DEFAULT_URL, help=f"the server; default: {DEFAULT_URL}")
    parser.add_argument("--metrics-url", metavar="URL", help="its metrics, for the GPUs; default: port 8002 of --url")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(argv)
    report = Report()
    here = look_here(os.getpid())
    check_segment_folder(report)
    check_driver(report, here)
    try:
        with Server.connected(arguments.url, _TIMEOUT_S) as server:
            metadata = server.metadata()
            report.add(GOOD, f"{metadata.get('name')} {metadata.get('version')} answers at {server.url}")
            probe(report, server)
    except (Unreachable, Refused, OSError, ValueError) as exc:
        report.add(BAD, str(exc), "without a server only this side can be looked at")
    others = find_servers(here)
    for other in others:
        compare(report, here, other)
    if here.gpus:
        compare_gpus(report, here.gpus, gpus_of_metrics(arguments.metrics_url or _metrics_url(arguments.url)))
    if arguments.json:
        document = {"here": asdict(here), "servers": [asdict(item) for item in others]}
        sys.stdout.write(json.dumps({**document, "findings": [asdict(item) for item in report.findings]}) + "\n")
    else:
        sys.stdout.write("\n".join(lines(here, report)) + "\n")
    return 1 if report.worst == BAD else 0


def lines(here: Side, report: Report) -> list[str]:
    """Return the report for a person to read."""
    shown = [
        f"here: pid {here.pid}, {_user_name(here.uid)}, groups {', '.join(map(str, here.groups)) or 'none'}",
        "      namespaces: " + ", ".join(f"{kind} {inode or '?'}" for kind, inode in here.namespaces.items()),
        "",
    ]
    for finding in report.findings:
        shown.append(f"{finding.state:>8}  {finding.text}")
        if finding.remedy:
            shown.append(f"{'':>8}  -> {finding.remedy}")
    return shown


def look_here(pid: int) -> Side:
    """Look at this process's side."""
    return Side(
        pid,
        os.geteuid(),
        tuple(sorted(os.getgroups())),
        _device(Path("/dev/shm")),
        {kind: _namespace(pid, kind) for kind in _NAMESPACES},
        tuple(gpu.uuid for gpu in find_gpus()),
    )


def find_servers(here: Side) -> list[Side]:
    """Look at the workers of servers that this process can see, which are the ones that open memory."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
            if b"tensorhub.workers.main" not in command and b"tensorhub-worker" not in command:
                continue
            environ = (folder / "environ").read_bytes()
            groups = re.search(r"^Groups:[ \t]*(.*)$", (folder / "status").read_text(encoding="ascii"), re.MULTILINE)
            pid = int(folder.name)
            chosen = re.search(rb"(?:^|\0)CUDA_VISIBLE_DEVICES=([^\0]*)", environ)
            found.append(
                Side(
                    pid,
                    folder.stat().st_uid,
                    tuple(int(group) for group in groups[1].split()) if groups else (),
                    _device(folder / "root/dev/shm"),
                    {kind: _namespace(pid, kind) for kind in _NAMESPACES},
                    (chosen[1].decode(),) if chosen and chosen[1].startswith(b"GPU-") else (),
                )
            )
        except OSError:
            continue  # another user's, or gone
    return sorted(found, key=lambda side: side.pid)


def check_segment_folder(report: Report) -> None:
    """Check /dev/shm as this process has it."""
    try:
        found = os.statvfs("/dev/shm")
    except OSError as exc:
        report.add(BAD, f"/dev/shm cannot be used: {exc.strerror}", "mount a tmpfs there")
        return
    size, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
    text = f"/dev/shm has {size >> 20} MiB, {free >> 20} MiB of them free; it is device {_device(Path('/dev/shm')):#x}"
    if size < SMALL_BYTE_SIZE:
        report.add(WARNING, text, "docker run --shm-size=1g, or --ipc=host; Kubernetes: an emptyDir with medium Memory")
    elif free < size // 10:
        report.add(WARNING, text, "segments that nobody uses any more stay until they are unlinked: ls -l /dev/shm")
    else:
        report.add(GOOD, text)


def check_driver(report: Report, here: Side) -> None:
    """Check what there is of GPUs here."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    match = _DRIVER_VERSION.search(text)
    if not here.gpus:
        if match:
            report.add(
                BAD,
                f"NVIDIA's driver {match[1]} is there, and no GPU",
                "docker run --gpus all, or CUDA_VISIBLE_DEVICES",
            )
        else:
            report.add(GOOD, "no NVIDIA GPU here: system shared memory only")
        return
    report.add(GOOD, f"GPUs here: {', '.join(here.gpus)}; driver {match[1] if match else 'unknown'}")
    for package in ("cupy-cuda12x", "cupy-cuda13x"):
        try:
            report.add(GOOD, f"{package} {version(package)} is installed")
            return
        except PackageNotFoundError:
            continue
    report.add(
        WARNING, "CuPy is not installed here", "where the server runs it is needed: pip install 'tensorhub[cuda]'"
    )


def probe(report: Report, server: Server) -> None:
    """Make a segment, register it, and let it go again."""
    name = f"doctor_{secrets.token_hex(4)}"
    try:
        with SystemRegion.create(_PROBE_BYTE_SIZE) as region:
            try:
                server.register_system(name, region.key, region.byte_size)
            except Refused as exc:
                report.add(BAD, f"a segment of this user cannot be registered: {exc}", _remedy_of(str(exc)))
                return
            finally:
                server.unregister_system(name)
        report.add(GOOD, "a segment was made here, registered, and let go")
    except SharedMemoryError as exc:
        report.add(BAD, str(exc), "see /dev/shm above")
    except Refused as exc:
        report.add(BAD, f"nothing can be unregistered: {exc}", _remedy_of(str(exc)))


def _remedy_of(text: str) -> str:
    if "disabled" in text:
        return "the server has --allow-client-shm=false, or this client is on another host, or behind a proxy"
    if "Unable to open" in text:
        return (
            "the server does not see this /dev/shm, or may not open the segment: share it (docker run --ipc=host, or "
            "--ipc=container:<server>), run both as one user, or start the server with "
            f"--shm-allowed-uids={os.geteuid()} and make segments with a mode and group that let it in "
            "(SystemRegion.create(mode=0o660, group=...)); or use --shm-socket, which needs no name and no --ipc=host"
        )
    if "--shm-max" in text:
        return "unregister what is not used, or raise the limit"
    return "the server's log has more"


def compare(report: Report, here: Side, server: Side) -> None:
    """Compare this side with a worker that can be seen."""
    where = f"the worker with pid {server.pid}"
    if server.shm_device and server.shm_device != here.shm_device:
        report.add(BAD, f"{where} has another /dev/shm", "share it: docker run --ipc=host, or --ipc=container:<server>")
    elif server.shm_device:
        report.add(GOOD, f"{where} has the same /dev/shm")
    if server.uid == here.uid:
        report.add(GOOD, f"{where} runs as the same user: memory is used in place")
    else:
        report.add(
            WARNING,
            f"{where} runs as {_user_name(server.uid)}, not {_user_name(here.uid)}: memory is copied, if it is allowed",
            f"--shm-allowed-uids={here.uid} allows it; one user for both, or --shm-socket, needs no copy",
        )
    for kind, why in (("ipc", "CUDA regions need one IPC namespace"), ("pid", "CUDA regions need one PID namespace")):
        one, other = here.namespaces.get(kind, ""), server.namespaces.get(kind, "")
        if here.gpus and one and other and one != other:
            report.add(WARNING, f"{where} is in another {kind} namespace", f"{why}: docker run --{kind}=host")


def compare_gpus(report: Report, here: Sequence[str], there: Sequence[str] | None) -> None:
    """Compare the GPUs of both sides."""
    if there is None:
        report.add(
            WARNING, "the server's GPUs are not known: its metrics cannot be read", "name them with --metrics-url"
        )
        return
    common = [uuid for uuid in here if uuid in there]
    if not there:
        report.add(BAD, "the server sees no GPU", "start it with one: docker run --gpus, CUDA_VISIBLE_DEVICES")
    elif not common:
        report.add(
            BAD,
            f"the server's GPUs are others: {', '.join(there)}",
            "give both the same: docker run --gpus device=UUID, CUDA_VISIBLE_DEVICES",
        )
    else:
        report.add(GOOD, f"GPUs of both sides: {', '.join(common)}")


def gpus_of_metrics(url: str) -> list[str] | None:
    """Return the UUIDs of the GPUs that a server's metrics tell of; None if they cannot be read."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:
            text = response.read().decode("utf-8", "replace")
    except (OSError, ValueError):
        return None
    return sorted(set(_GPU_LABEL.findall(text)))


def _metrics_url(url: str) -> str:
    host = url.rpartition("//")[2].rpartition(":")[0] or "127.0.0.1"
    return f"http://{host}:8002/metrics"


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


def _user_name(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
