"""Measures what a server with one small model costs: time to ready, memory after 1,000 requests, CPU while idle.

Needs the standard library only, on purpose: memory is counted as proportional set size, so any library that the bench
had loaded from the same files as a server would make that server look smaller.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from tools.bench.errors import ServerError
from tools.bench.measurements import Sample
from tools.bench.servers import HOST, Launch, Ports, Server

MODEL = "add_sub"
REQUESTS = 1000
# After the last request: time for threads to go to sleep and for what was put off to be done.
SETTLE_S = 1.0


def with_one_model(launch: Launch, folder: Path) -> Launch:
    """Return the launch with a new repository in `folder` that holds a copy of the small model only."""
    shutil.copytree(launch.repository / MODEL, folder / MODEL)
    return replace(launch, repository=folder)


def measure(launch: Launch, ports: Ports, idle_s: float) -> dict[str, Sample]:
    """Start a server, send it 1,000 requests, leave it alone, stop it; return a sample for each workload's name.

    Args:
        idle_s: how long CPU time is counted while nothing is asked; 0 leaves that out.

    Raises:
        ServerError: it does not start, or an answer is wrong.
    """
    with Server(launch, ports) as server:
        samples = {"startup": Sample(server.start_s)}
        cpu_us = _thousand_requests(server)
        by_kind = {kind: size / (1 << 20) for kind, size in server.pss_by_kind_bytes().items()}
        samples["memory"] = Sample(sum(by_kind.values()), cpu_us, by_kind=by_kind)
        if idle_s > 0:
            time.sleep(SETTLE_S)
            before_s, began = server.cpu_s(), time.perf_counter()
            time.sleep(idle_s)
            samples["idle_cpu"] = Sample((server.cpu_s() - before_s) / (time.perf_counter() - began) * 100)
    return samples


def _thousand_requests(server: Server) -> float:
    """Send them one after the other over one connection; return the server's CPU time for one, in microseconds."""
    values = list(range(16))
    inputs = [{"name": name, "shape": [1, 16], "datatype": "INT32", "data": values} for name in ("INPUT0", "INPUT1")]
    body = json.dumps({"inputs": inputs})
    want = {"OUTPUT0": [2 * value for value in values], "OUTPUT1": [0] * 16}
    before_s = server.cpu_s()
    connection = HTTPConnection(HOST, server.ports.http, timeout=60)
    try:
        for _ in range(REQUESTS):
            connection.request("POST", f"/v2/models/{MODEL}/infer", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
            if response.status != 200:
                raise ServerError(server.name, f"HTTP status {response.status}: {answer[:300]!r}")
            got = {output["name"]: output["data"] for output in json.loads(answer)["outputs"]}
            if got != want:
                raise ServerError(server.name, f"wrong answer to {MODEL}: {got} and not {want}")
    except (OSError, HTTPException, ValueError, LookupError) as exc:
        raise ServerError(server.name, f"bad answer to {MODEL}: {exc!r}") from exc
    finally:
        connection.close()
    return (server.cpu_s() - before_s) / REQUESTS * 1e6
