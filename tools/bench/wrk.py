"""Drives small HTTP requests with wrk, whose own cost is far below any server's. All but `run` is pure."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tools.bench import leftovers
from tools.bench.errors import BenchError
from tools.bench.measurements import Load

PACKAGE = "wrk"
REQUEST_TIMEOUT_S = 10

# One line that is easy to read back, instead of the text for people that wrk prints.
_SUMMARY = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    "summary requests=%d duration_us=%d p50_us=%d p99_us=%d connect=%d read=%d write=%d status=%d timeout=%d\\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.status, e.timeout))
end
"""


def installed() -> bool:
    """Return whether wrk can be run."""
    return shutil.which("wrk") is not None


def lua_string(value: bytes) -> str:
    """Return a Lua string literal of these bytes; all but plain letters and digits are written as three decimals."""
    return '"' + "".join(chr(b) if chr(b).isascii() and chr(b).isalnum() else f"\\{b:03d}" for b in value) + '"'


def script(headers: Mapping[str, str], body: bytes) -> str:
    """Return the Lua script that makes every request a POST of this body with these headers.

    It sets values only: a `request` or `response` function would be called for every request.
    """
    lines = ['wrk.method = "POST"', f"wrk.body = {lua_string(body)}"]
    lines += [f"wrk.headers[{lua_string(k.encode())}] = {lua_string(v.encode())}" for k, v in headers.items()]
    return "\n".join(lines) + _SUMMARY


def parse(output: str) -> Load:
    """Read the summary line.

    Raises:
        BenchError: there is none, a request failed, or none was answered.
    """
    line = next((line for line in output.splitlines() if line.startswith("summary ")), None)
    if line is None:
        raise BenchError(f"wrk printed no summary: {output.strip()[-300:]!r}")
    values = {key: int(value) for key, value in re.findall(r"(\w+)=(-?\d+)", line)}
    failed = {key: values[key] for key in ("connect", "read", "write", "status", "timeout") if values[key]}
    if failed:
        raise BenchError(f"wrk saw errors: {failed} of {values['requests']} requests")
    if values["requests"] == 0:
        raise BenchError("wrk got no answer at all")
    return Load(values["requests"], values["duration_us"] / 1e6, float(values["p50_us"]), float(values["p99_us"]))


def run(url: str, headers: Mapping[str, str], body: bytes, in_flight: int, seconds: float) -> Load:
    """Send this POST over `in_flight` connections for `seconds` (whole seconds, at least one).

    Raises:
        BenchError: as `parse`, or wrk failed.
    """
    with tempfile.NamedTemporaryFile("w", prefix=leftovers.folder_prefix(), suffix=".lua", encoding="ascii") as file:
        file.write(script(headers, body))
        file.flush()
        command = ["wrk", "-t1", f"-c{in_flight}", f"-d{max(1, round(seconds))}s", f"--timeout={REQUEST_TIMEOUT_S}s"]
        done = subprocess.run([*command, "-s", str(Path(file.name)), url], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"wrk failed with status {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    return parse(done.stdout)
