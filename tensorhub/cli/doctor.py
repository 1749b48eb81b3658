"""`tensorhub doctor`: why shared memory does not work, and what to do.

Runs where the client runs, in its container too, and needs nothing but what is there: it looks at this side, asks the
server over HTTP, and tries a registration for real. Where it can see the server's processes (on the same host) it
compares both sides, and says what is wrong instead of what could be.
"""

import json
import os
import re
import secrets
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

from tensorhub.cli.arguments import Parser
from tensorhub.cli.sides import Side, by_server, find_workers, look_at_segments, look_here, user_name
from tensorhub.client.http import DEFAULT_URL, Refused, Server, Unreachable
from tensorhub.client.shared_memory import FileRegion, SharedMemoryError, SharedMemorySocket, SystemRegion
from tensorhub.ipc.handed_out import TRIAL

_PROG = "tensorhub doctor"

GOOD, WARNING, BAD = "ok", "warning", "problem"

SMALL_BYTE_SIZE = 256 << 20
"""Of /dev/shm. Containers have 64 MiB if nobody asks for more."""

SHARE = (
    "share it: docker run --ipc=host, or --ipc=container:<server>; Kubernetes: one emptyDir with medium Memory, "
    "mounted at /dev/shm of both; or use --shm-socket, which needs none of it"
)

_DRIVER_VERSION = re.compile(r"NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s")
_GPU_LABEL = re.compile(r'gpu_uuid="([^"]+)"')
_PROBE_BYTE_SIZE = 4096
_SOCKET_EXTENSION = "shared_memory_socket"
_TIMEOUT_S = 5.0


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
    parser.add_argument("--url", default=DEFAULT_URL, help=f"the server's HTTP; default: {DEFAULT_URL}")
    parser.add_argument("--metrics-url", metavar="URL", help="its metrics, for the GPUs; default: port 8002 of --url")
    parser.add_argument("--shm-socket", metavar="PATH", help="its --shm-socket as it is seen here: try that as well")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(argv)
    report = Report()
    here = look_here()
    check_segment_folder(report)
    check_driver(report, here)
    servers = by_server(find_workers())
    asked: dict[str, Sequence[Side]] = {}
    try:
        with closing(Server(arguments.url, _TIMEOUT_S)) as server:
            asked = meant(servers, arguments.url)
            metadata = server.metadata()
            report.add(GOOD, f"{metadata.get('name')} {metadata.get('version')} answers at {server.url}")
            if _SOCKET_EXTENSION in metadata.get("extensions", ()) and not arguments.shm_socket:
                report.add(GOOD, "the server takes memory over a Unix socket as well: try it with --shm-socket PATH")
            probe(report, server, here, [side for sides in asked.values() for side in sides])
    except (Unreachable, Refused, OSError, ValueError) as exc:
        report.add(BAD, str(exc) or type(exc).__name__, which_server(servers))
    if arguments.shm_socket:
        probe_socket(report, arguments.shm_socket)
    for run_dir, workers in asked.items():
        compare(report, here, workers, run_dir)
    if here.gpus:
        compare_gpus(report, here.gpus, gpus_of_metrics(arguments.metrics_url or _metrics_url(arguments.url)))
    if arguments.json:
        sides = [asdict(side) for workers in asked.values() for side in workers]
        document = {"here": asdict(here), "servers": sides}
        sys.stdout.write(json.dumps({**document, "findings": [asdict(item) for item in report.findings]}) + "\n")
    else:
        sys.stdout.write("\n".join(lines(here, report)) + "\n")
    return 1 if report.worst == BAD else 0


def lines(here: Side, report: Report) -> list[str]:
    """Return the report for a person to read."""
    shown = [
        f"here: pid {here.pid}, {user_name(here.uid)}, groups {', '.join(map(str, here.groups)) or 'none'}",
        "      namespaces: " + ", ".join(f"{kind} {inode or '?'}" for kind, inode in here.namespaces.items()),
        "",
    ]
    for finding in report.findings:
        shown.append(f"{finding.state:>8}  {finding.text}")
        shown += [f"{'':>8}  -> {remedy}" for remedy in finding.remedy.splitlines()]
    return shown


def meant(servers: Mapping[str, Sequence[Side]], url: str) -> dict[str, Sequence[Side]]:
    """Return the servers that can be the one at this address, by the port that they were started with.

    If there is none, it is the only one that can be seen; of several, nobody knows.

    Raises:
        ValueError: it is no address.
    """
    port = urlsplit(url if "//" in url else f"//{url}").port or 8000
    found = {run_dir: sides for run_dir, sides in servers.items() if any(side.http_port == port for side in sides)}
    return found or (dict(servers) if len(servers) == 1 else {})


def which_server(servers: Mapping[str, Sequence[Side]]) -> str:
    """Say how to name a server."""
    ports = sorted({side.http_port for sides in servers.values() for side in sides})
    if not ports:
        return "name the server's HTTP address with --url; no server can be seen from here"
    return "name the server's HTTP address with --url; those seen here were started with --http-port " + ", ".join(
        map(str, ports)
    )


def check_segment_folder(report: Report) -> None:
    """Check /dev/shm as this process has it."""
    try:
        found = look_at_segments()
    except OSError as exc:
        report.add(BAD, f"/dev/shm cannot be used: {exc.strerror}", "mount -t tmpfs tmpfs /dev/shm")
        return
    text = f"/dev/shm has {_mib(found.size)}, {_mib(found.free)} of them free"
    if found.kind not in ("", "tmpfs", "ramfs"):
        report.add(
            BAD,
            f"/dev/shm is a folder of a {found.kind} and no tmpfs: what lies there is on a disk, and servers refuse it",
            "mount -t tmpfs tmpfs /dev/shm; in a container, do not mount a folder of the host there",
        )
    elif found.read_only or not found.writable:
        why = "is mounted read-only" if found.read_only else "may not be written to by this user"
        report.add(BAD, f"{text}, and it {why}", "mount -o remount,rw /dev/shm, or chmod 1777 /dev/shm")
    elif found.free < _PROBE_BYTE_SIZE:
        report.add(
            BAD, f"{text}: it is full", "unlink segments that nobody uses any more (ls -l /dev/shm), or enlarge it"
        )
    elif found.size < SMALL_BYTE_SIZE:
        report.add(WARNING, text, "docker run --shm-size=1g, or --ipc=host; Kubernetes: an emptyDir with medium Memory")
    elif found.free < found.size // 10:
        report.add(WARNING, text, "segments that nobody uses any more stay until they are unlinked: ls -l /dev/shm")
    else:
        report.add(GOOD, text)


def _mib(byte_size: int) -> str:
    return f"{byte_size >> 20} MiB"


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


def probe(report: Report, server: Server, here: Side, workers: Sequence[Side]) -> None:
    """Make a segment, register it, and let it go again.

    Args:
        workers: those of the server that can be seen.
    """
    name = f"doctor_{secrets.token_hex(4)}"
    try:
        with SystemRegion.create(_PROBE_BYTE_SIZE) as region:
            try:
                server.register_system(name, region.key, region.byte_size)
            except Refused as exc:
                report.add(
                    BAD, f"a segment of this user cannot be registered: {exc}", remedy_of(str(exc), here, workers)
                )
                return
            finally:
                server.unregister_system(name)
        report.add(GOOD, "a segment was made here, registered, and let go")
    except SharedMemoryError as exc:
        report.add(BAD, str(exc), "see /dev/shm above")
    except Refused as exc:
        report.add(BAD, f"nothing can be unregistered: {exc}", remedy_of(str(exc), here, workers))


def probe_socket(report: Report, path: str) -> None:
    """Register a file over the server's socket, and let it go again; then take one that the server makes."""
    name = f"doctor_{secrets.token_hex(4)}"
    try:
        with FileRegion.create(_PROBE_BYTE_SIZE) as region, SharedMemorySocket(path) as sockets:
            sockets.register(name, region)
            sockets.unregister(name)
    except SharedMemoryError as exc:
        report.add(BAD, f"a file cannot be registered over {path}: {exc}", socket_remedy(str(exc), path))
        return
    report.add(GOOD, f"a file was registered over {path}, and let go")
    try:
        probe_taking(path)
    except (SharedMemoryError, OSError, ValueError) as exc:
        report.add(BAD, f"a region that the server made cannot be taken over {path}: {exc}", taking_remedy(str(exc)))
    else:
        report.add(GOOD, f"a region that the server made was taken over {path}, read, and let go")


def socket_remedy(text: str, path: str) -> str:
    """Say what to do when a file cannot be registered."""
    if "disabled" in text:
        return "the server has --allow-client-shm=false"
    if "--shm-max" in text:
        return "unregister what is not used, or raise the limit"
    if "no server at" in text:
        return f"the server needs --shm-socket, and its socket has to be mounted here as {path}"
    if "may not use this socket" in text:
        return f"start the server with --shm-allowed-uids={os.geteuid()}, or be its user or root"
    if "clients are connected" in text:
        return "have clients share a connection, or close those that are idle"
    if "closed the connection" in text or "does not answer" in text:
        return "the server is being started again, or is stuck: its log tells"
    return "the server's log has more"


def probe_taking(path: str) -> None:
    """Have the server make a region as for an output (`shared_memory_allocate`), take it and look at it.

    Raises:
        SharedMemoryError, OSError, ValueError: that does not work; the text says why.
    """
    with SharedMemorySocket(path) as sockets, sockets.try_out() as region:
        if region.array("UINT8", [region.byte_size]).tobytes() != TRIAL:
            raise SharedMemoryError("something else is in it than the server has put there")


def taking_remedy(text: str) -> str:
    """Say what to do when a file can be registered and a region of the server's cannot be taken."""
    if "must be one of" in text:
        return "the server is older than this program: upgrade it"
    if "--shm-max" in text or "--arena-byte-size" in text:
        return "clients have not released what they took, or there are many: release it, or raise the limit"
    if "no worker" in text or "has ended" in text or "makes no regions" in text:
        return "a worker has died or is being started: look at the server's log, and try again"
    if "does not answer" in text or "closed the connection" in text:
        return "the server's workers are stuck or gone: `tensorhub status` on its host tells"
    if "descriptor" in text or "files" in text:
        return (
            "raise ulimit -n of the client, or allow its domain to receive the server's files (ausearch -m avc, dmesg)"
        )
    return "the server's log has more"


def remedy_of(text: str, here: Side, workers: Sequence[Side]) -> str:
    """Say what to do about a refusal, a line for each thing; no more than fits what is known of both sides."""
    if "disabled" in text:
        return "the server has --allow-client-shm=false, or this client is on another host, or behind a proxy"
    if "--shm-max" in text:
        return "unregister what is not used, or raise the limit"
    if "Unable to open" not in text:
        return "the server's log has more"
    share = f"the server does not see this /dev/shm: {SHARE}"
    user = (
        f"the server may not use segments of this user: run both as one user, or start it with "
        f"--shm-allowed-uids={here.uid} and make segments with a mode and group that let it in "
        "(SystemRegion.create(mode=0o660, group=...)); or use --shm-socket"
    )
    if any(side.shm_device and side.shm_device != here.shm_device for side in workers):
        return share
    if any(side.uid != here.uid for side in workers):
        return user
    return f"either {share}\nor {user}"


def compare(report: Report, here: Side, workers: Sequence[Side], run_dir: str) -> None:
    """Compare this side with the workers of a server that can be seen."""
    where = f"the worker of the server at {run_dir or 'an unknown place'}"
    if len(workers) > 1:
        where = f"each of the {len(workers)} workers of the server at {run_dir or 'an unknown place'}"
    devices = {side.shm_device for side in workers} - {0}
    if devices - {here.shm_device}:
        report.add(BAD, f"{where} has another /dev/shm", SHARE)
    elif devices:
        report.add(GOOD, f"{where} has the same /dev/shm")
    for uid in sorted({side.uid for side in workers}):
        if uid == here.uid:
            report.add(GOOD, f"{where} runs as the same user: memory is used in place")
        else:
            report.add(
                WARNING,
                f"{where} runs as {user_name(uid)}, not {user_name(here.uid)}: memory is copied, if it is allowed",
                f"--shm-allowed-uids={here.uid} allows it; one user for both, or --shm-socket, needs no copy",
            )
    for kind, why in (("ipc", "CUDA regions need one IPC namespace"), ("pid", "CUDA regions need one PID namespace")):
        one, others = here.namespaces.get(kind, ""), {side.namespaces.get(kind, "") for side in workers} - {""}
        if here.gpus and one and others - {one}:
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
