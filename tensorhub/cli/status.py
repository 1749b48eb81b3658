"""`tensorhub status`: what a server says of itself over HTTP, and which processes are in a run directory."""

import json
import re
import shutil
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tensorhub.cli.arguments import Parser, seconds
from tensorhub.cli.startup import ModelRow, model_lines
from tensorhub.client.http import DEFAULT_URL, Refused, Server, Unreachable
from tensorhub.ipc.watch import is_running

_PROG = "tensorhub status"
_MAILBOX = re.compile(r"([a-z]+)-(\d+)\.sock")

_SHOWN_ROLES = {"tool": "serve"}

READY = 0
NOT_READY = 1
NO_ANSWER = 3


@dataclass(frozen=True, slots=True)
class Process:
    """A process that has a mailbox in the run directory; the role `tool` is that of `tensorhub serve`."""

    role: str
    pid: int
    alive: bool


@dataclass(frozen=True, slots=True)
class Status:
    """What a server says of itself; `regions` is the registered shared memory by kind."""

    url: str
    live: bool
    ready: bool
    name: str
    version: str
    models: Sequence[ModelRow]
    regions: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


def run(argv: Sequence[str]) -> int:
    """Print a server's state.

    Returns:
        The exit status: READY, NOT_READY, or NO_ANSWER; for a run directory, NO_ANSWER if no process is there.
    """
    parser = Parser(
        _PROG,
        "Show a server's models, shared memory and processes.",
        "Exit status: 0 ready, 1 not ready, 3 no answer.",
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--url", default=DEFAULT_URL, help=f"any server of the v2 protocol; default: {DEFAULT_URL}")
    place.add_argument("--run-dir", metavar="DIR", help="show the processes of the server with this run directory")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--timeout", metavar="SECONDS", type=seconds, default=10.0, help="default: 10")
    arguments = parser.parse_args(argv)
    try:
        if arguments.run_dir is not None:
            processes = find_processes(Path(arguments.run_dir))
            _print(process_lines(processes), [asdict(item) for item in processes], as_json=arguments.json)
            return READY if any(process.alive for process in processes) else NO_ANSWER
        with closing(Server(arguments.url, arguments.timeout)) as server:
            status = ask(server)
    except FileNotFoundError:
        sys.stderr.write(f"{_PROG}: there is no run directory {arguments.run_dir}: no server has started with it\n")
        return NO_ANSWER
    except (Unreachable, OSError) as exc:
        sys.stderr.write(f"{_PROG}: {exc}\n")
        return NO_ANSWER
    except (Refused, ValueError) as exc:
        sys.stderr.write(f"{_PROG}: {exc}\n")
        return NOT_READY
    lines = status_lines(status, shutil.get_terminal_size().columns, colour=sys.stdout.isatty())
    _print(lines, asdict(status), as_json=arguments.json)
    return READY if status.ready else NOT_READY


def ask(server: Server) -> Status:
    """Ask a server for everything; parts that it does not have are empty.

    Raises:
        Unreachable: nobody answers.
        Refused: the server has no metadata to give.
    """
    metadata = server.metadata()
    try:
        rows = [
            ModelRow(item["name"], item.get("version", ""), item.get("state", ""), item.get("reason", ""))
            for item in server.index()
        ]
    except Refused:
        rows = []
    return Status(
        url=server.url,
        live=server.healthy("live"),
        ready=server.healthy("ready"),
        name=metadata.get("name", ""),
        version=metadata.get("version", ""),
        models=sorted(rows, key=lambda row: (row.name, row.version)),
        regions={kind: _regions(server, kind) for kind in ("system", "cuda")},
    )


def status_lines(status: Status, columns: int, colour: bool) -> list[str]:
    """Return a status for a person to read."""
    state = "ready" if status.ready else "live, not ready" if status.live else "not live"
    lines = [f"{status.name} {status.version} at {status.url}: {state}", ""]
    lines += model_lines(status.models, columns=columns, colour=colour) if status.models else ["No models."]
    for kind, regions in status.regions.items():
        for region in regions:
            where = f"key {region.get('key')}" if kind == "system" else f"device {region.get('device_id')}"
            lines.append(
                f"{kind} shared memory '{region.get('name')}': {where}, offset {region.get('offset', 0)}, "
                f"{region.get('byte_size')} bytes"
            )
    return lines


def process_lines(processes: Sequence[Process]) -> list[str]:
    """Return the processes for a person to read."""
    if not processes:
        return ["No process has a mailbox in this run directory."]
    return [
        f"{_SHOWN_ROLES.get(item.role, item.role):<8}  {item.pid:>8}  {'running' if item.alive else 'gone'}"
        for item in processes
    ]


def find_processes(run_dir: Path) -> list[Process]:
    """Return the processes that have a mailbox in a run directory, the hub first.

    Raises:
        OSError: the directory cannot be read.
    """
    found = [_hub(run_dir / "hub.sock")] if (run_dir / "hub.sock").is_socket() else []
    for path in sorted(run_dir.iterdir()):
        match = _MAILBOX.fullmatch(path.name)
        if match:
            found.append(Process(match[1], int(match[2]), is_running(int(match[2]))))
    return found


def _hub(mailbox: Path) -> Process:
    """Look who listens on the hub's mailbox, which has no pid in its name."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(mailbox))
        except OSError:
            return Process("hub", 0, alive=False)
        # struct ucred, unix(7)
        pid, _, _ = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return Process("hub", pid, alive=True)


def _regions(server: Server, kind: str) -> list[Mapping[str, Any]]:
    try:
        return list(server.regions(kind))
    except Refused:
        return []


def _print(lines: Sequence[str], value: Any, *, as_json: bool) -> None:
    sys.stdout.write(json.dumps(value) + "\n" if as_json else "\n".join(lines) + "\n")
