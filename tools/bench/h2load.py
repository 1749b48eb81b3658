"""Drives small gRPC requests with h2load: the message is a POST body behind gRPC's prefix. Pure, but for the runs.

A stream is a POST whose body has many messages: all are sent at once, and the server ends the stream when it has
answered them. Each stream has a body of its own, so each gets an h2load of its own.

h2load knows HTTP/2 and not gRPC: an answer with a bad grpc-status is a 200 to it. Such an answer carries no message,
though, so the count of body bytes tells: it must be what the right answers come to.
"""

from __future__ import annotations

import math
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.bench import leftovers
from tools.bench.errors import BenchError
from tools.bench.measurements import Load

PACKAGE = "nghttp2-client"
PREFIX_BYTES = 5
_UNIT_S = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


@dataclass(frozen=True, slots=True)
class Summary:
    """What h2load prints at its end. `body_bytes`: of all DATA frames received."""

    elapsed_s: float
    succeeded: int
    failed: int
    body_bytes: int


def installed() -> bool:
    """Return whether h2load can be run."""
    return shutil.which("h2load") is not None


def frame(message: bytes) -> bytes:
    """Return a message with gRPC's prefix: one byte 0 (not compressed), the length, big endian (PROTOCOL-HTTP2.md)."""
    return struct.pack(">BI", 0, len(message)) + message


def parse(output: str) -> Summary:
    """Read what h2load printed.

    Raises:
        BenchError: it is not a summary.
    """
    finished = re.search(r"^finished in ([\d.]+)(us|ms|s),", output, re.MULTILINE)
    requests = re.search(
        r"^requests: \d+ total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout",
        output,
        re.MULTILINE,
    )
    traffic = re.search(r"^traffic: .* \((\d+)\) data$", output, re.MULTILINE)
    if finished is None or requests is None or traffic is None:
        raise BenchError(f"h2load printed no summary: {output.strip()[-300:]!r}")
    succeeded, failed, errored, timeout = (int(value) for value in requests.groups())
    # h2load counts as failed what errored or timed out, too.
    return Summary(float(finished[1]) * _UNIT_S[finished[2]], succeeded, max(failed, errored, timeout), int(traffic[1]))


def parse_log(text: str) -> list[int]:
    """Return the latency in microseconds of each answered request of a log (start, status, latency; tabs between)."""
    latencies = []
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) == 3 and fields[1] == "200":
            latencies.append(int(fields[2]))
    return latencies


def percentile(sorted_values: list[int], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed (nearest rank)."""
    return float(sorted_values[max(0, math.ceil(share * len(sorted_values)) - 1)])


def verify(summary: Summary, answer_bytes: int) -> None:
    """Check that all answers were whole.

    Args:
        answer_bytes: length of the right answer's message, without prefix.

    Raises:
        BenchError: a request failed, none was answered, or the answers are longer or shorter than the right ones.
    """
    if summary.failed or not summary.succeeded:
        raise BenchError(f"h2load: {summary.succeeded} requests succeeded, {summary.failed} failed")
    each = summary.body_bytes / summary.succeeded
    want = answer_bytes + PREFIX_BYTES
    # Answers under way when time is up have bytes but do not count as done; they are few.
    if not 0.99 * want <= each <= 1.05 * want + 1:
        raise BenchError(f"h2load: an answer has {each:.1f} bytes and not {want}: some answers under load are errors")


@dataclass(frozen=True, slots=True)
class Streams:
    """What is sent on each stream, and what comes back.

    Attributes:
        requests: for each stream, its messages.
        responses: how many messages answer one stream.
        answer_bytes: what those come to, with their prefixes.
    """

    requests: Sequence[Sequence[bytes]]
    responses: int
    answer_bytes: int


def verify_streams(summaries: Sequence[Summary], streams: Streams) -> int:
    """Check that all streams were answered in full, and return how many responses came.

    Raises:
        BenchError: a stream failed, nothing was answered, or there are fewer or more bytes than the right answers have.
    """
    succeeded, failed = sum(each.succeeded for each in summaries), sum(each.failed for each in summaries)
    body_bytes = sum(each.body_bytes for each in summaries)
    if failed or not body_bytes:
        raise BenchError(f"h2load: {succeeded} streams succeeded, {failed} failed, {body_bytes} bytes of answers came")
    # The streams under way when time is up have a part of their answers; those count as well.
    least, most = succeeded * streams.answer_bytes, (succeeded + len(summaries)) * streams.answer_bytes
    if not least <= body_bytes <= most:
        raise BenchError(
            f"h2load: {succeeded} streams have {body_bytes} bytes of answers and not {least} to {most}: "
            "some answers under load are errors"
        )
    return round(body_bytes * streams.responses / streams.answer_bytes)


def run(
    authority: str,
    path: str,
    message: bytes,
    answer_bytes: int,
    connections: int,
    seconds: float,
    requests: int | None = None,
    streams: int = 1,
) -> Load:
    """Call the unary method `path` over `connections` for `seconds`.

    Args:
        requests: send so many instead, of which none is cut off in the middle.
        streams: calls in progress at a time on each connection.

    Raises:
        BenchError: as `verify`, or h2load failed.
    """
    with tempfile.TemporaryDirectory(prefix=leftovers.folder_prefix()) as folder:
        body, log = Path(folder, "body"), Path(folder, "log")
        body.write_bytes(frame(message))
        length = f"-n{requests}" if requests else f"-D{max(1, round(seconds))}"
        command = [*_command(authority, path, body, streams), length, f"-c{connections}"]
        command.append(f"--log-file={log}")
        with _running(command) as process:
            summary = _finish(process)
        verify(summary, answer_bytes)
        latencies = sorted(parse_log(log.read_text(encoding="ascii")))
    p50_us, p99_us = (percentile(latencies, 0.5), percentile(latencies, 0.99)) if latencies else (None, None)
    return Load(summary.succeeded, summary.elapsed_s, p50_us, p99_us)


def run_streams(authority: str, path: str, streams: Streams, count: int) -> Load:
    """Call the streaming method `path` `count` times for each body, one stream after the other on a connection of it.

    By count and not by time: Triton has been seen to crash when streams are cut off in the middle of sequences.

    Returns:
        The load, in responses, without latencies.

    Raises:
        BenchError: as `verify_streams`, or h2load failed.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=leftovers.folder_prefix()))
        bodies = [Path(folder, f"body{number}") for number in range(len(streams.requests))]
        for body, messages in zip(bodies, streams.requests, strict=True):
            body.write_bytes(b"".join(map(frame, messages)))
        commands = [[*_command(authority, path, body), f"-n{count}", "-c1"] for body in bodies]
        processes = [stack.enter_context(_running(command)) for command in commands]
        summaries = [_finish(process) for process in processes]
    return Load(verify_streams(summaries, streams), max(each.elapsed_s for each in summaries), None, None)


def _command(authority: str, path: str, body: Path, streams: int = 1) -> list[str]:
    command = ["h2load", f"http://{authority}{path}", "-t1", f"-m{streams}", f"-d{body}"]
    return [*command, "-H", "content-type: application/grpc", "-H", "te: trailers"]


@contextmanager
def _running(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _finish(process: subprocess.Popen[str]) -> Summary:
    output, _ = process.communicate()
    if process.returncode != 0:
        raise BenchError(f"h2load failed with status {process.returncode}: {output.strip()[-300:]}")
    return parse(output)
