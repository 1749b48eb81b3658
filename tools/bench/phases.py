"""Where the time of a request goes, one at a time: by the server's own statistics, and by what is left.

The statistics extension of the protocol counts, for each model, the requests and the time that they spent queueing, in
the reading of inputs, in the model and in the writing of outputs. What is left of the time that the client saw is the
way there and back: the client, the network, and the hops between the server's processes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException

from tools.bench.servers import HOST, Server

PARTS = {"queue": "queue", "input": "compute_input", "model": "compute_infer", "output": "compute_output"}
REST = "rest"


@dataclass(frozen=True, slots=True)
class Account:
    """What a server has counted for a model so far: good requests, and nanoseconds of each of PARTS."""

    requests: int
    spent_ns: Mapping[str, int]


def read(server: Server, model: str) -> Account | None:
    """Return the account of a model; None if the server keeps none."""
    connection = HTTPConnection(HOST, server.ports.http, timeout=10)
    try:
        connection.request("GET", f"/v2/models/{model}/stats")
        response = connection.getresponse()
        return parse(response.read()) if response.status == 200 else None
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def parse(body: bytes) -> Account | None:
    """Read the answer of the statistics extension; None if it is not one."""
    try:
        (statistics,) = (entry["inference_stats"] for entry in json.loads(body)["model_stats"])
        spent_ns = {part: int(statistics[key]["ns"]) for part, key in PARTS.items()}
        return Account(int(statistics["success"]["count"]), spent_ns)
    except (ValueError, LookupError, TypeError):
        return None


def between(before: Account | None, after: Account | None, request_us: float) -> dict[str, float]:
    """Return the mean time of a request in each part, in microseconds; nothing if the server has not counted.

    Args:
        request_us: mean time of a request as the client saw it.
    """
    if before is None or after is None or after.requests <= before.requests:
        return {}
    requests = after.requests - before.requests
    parts = {part: (after.spent_ns[part] - before.spent_ns[part]) / requests / 1e3 for part in PARTS}
    return {**parts, REST: request_us - sum(parts.values())}
