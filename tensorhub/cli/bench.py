"""`tensorhub bench MODEL`: how many requests a model answers, and how fast, on any server of the v2 protocol."""

import os
import secrets
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tensorhub.cli import bench_report, inputs
from tensorhub.cli.arguments import Parser, seconds
from tensorhub.cli.bench_subject import Subject, opened
from tensorhub.client.http import Refused, Unreachable
from tensorhub.client.load import LoadResult
from tensorhub.client.placed import Layout
from tensorhub.client.shared_memory import SharedMemoryError, SystemRegion
from tensorhub.client.tensors import Tensor, TensorError

_PROG = "tensorhub bench"
_WARM_UP_S = 0.5
_BAR_WIDTH = 30
_MAX_CONCURRENCY = 1000
_INTERRUPTED = 130

Requests = Callable[[int], bytes]
"""The bytes of the request for the connection with this number."""


def run(argv: Sequence[str]) -> int:
    """Measure a model at several concurrencies and print a table.

    Returns:
        The exit status: 1 if the server, the model or an input has an error, or not every answer was good; 130 if it
        was interrupted, after what had been measured until then is printed.
    """
    arguments = _parser().parse_args(argv)
    results: list[tuple[int, LoadResult]] = []
    status = 0
    try:
        if arguments.plot:
            bench_report.check_plot(arguments.plot)
        for result in _measure(arguments):
            results.append(result)
    except (Refused, Unreachable, SharedMemoryError, TensorError, ValueError, OSError) as exc:
        sys.stderr.write(f"{_PROG}: {exc}\n")
        status = 1
    except KeyboardInterrupt:
        sys.stderr.write(f"{_PROG}: interrupted\n")
        status = _INTERRUPTED
    if results:
        _report(arguments, results)
    return status or int(any(result.errors or result.lost for _, result in results))


def concurrencies(text: str) -> list[int]:
    """Read --concurrency: numbers with commas between them."""
    items = text.split(",")
    if not all(item.isascii() and item.isdecimal() and 1 <= int(item) <= _MAX_CONCURRENCY for item in items):
        raise ArgumentTypeError(
            f"numbers from 1 to {_MAX_CONCURRENCY} with commas between them are needed, got '{text}'"
        )
    return [int(item) for item in items]


def _parser() -> Parser:
    parser = Parser(
        _PROG,
        "Measure throughput and latency of a model, with a number of requests in flight at a time.",
        examples=(
            "tensorhub bench add_sub --random",
            "tensorhub bench image --input PIXELS=@picture.npy --concurrency 1,8,64 --seconds 10 --plot image.png",
            "tensorhub bench image --random --protocol grpc --shared-memory system --url 127.0.0.1:8001",
        ),
    )
    inputs.add_options(parser)
    parser.add_argument(
        "--concurrency",
        metavar="N,N",
        type=concurrencies,
        default=[1, 2, 4, 8, 16, 32],
        help="requests in flight, one run for each; default: 1,2,4,8,16,32",
    )
    parser.add_argument("--seconds", metavar="S", type=seconds, default=3.0, help="of each run; default: 3")
    parser.add_argument("--protocol", choices=("http", "grpc"), default="http", help="default: http")
    parser.add_argument(
        "--shared-memory",
        choices=("none", "system"),
        default="none",
        help="system: inputs and outputs are in segments that this command makes, registers and removes; the server "
        "must be on this host; default: none, they travel in the requests",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--plot", metavar="FILE", help="draw the results (PNG, SVG or PDF; needs matplotlib)")
    parser.add_argument("--url", help="default: http://127.0.0.1:8000, not https; for gRPC 127.0.0.1:8001")
    parser.add_argument("--timeout", metavar="SECONDS", type=seconds, default=60.0, help="default: 60")
    return parser


def _report(arguments: Namespace, results: bench_report.Results) -> None:
    if arguments.plot:
        settings = f"{arguments.protocol}, shared memory" if arguments.shared_memory != "none" else arguments.protocol
        bench_report.draw(arguments.plot, f"{arguments.model} ({settings})", results)
    if arguments.json:
        how = {"protocol": arguments.protocol, "shared_memory": arguments.shared_memory}
        sys.stdout.write(bench_report.as_json(arguments.model, how, results))
    else:
        sys.stdout.write(bench_report.table(results))


def _measure(arguments: Namespace) -> Iterator[tuple[int, LoadResult]]:
    with opened(arguments.protocol, arguments.url, arguments.timeout) as subject:
        tensors = inputs.read_inputs(subject.server, arguments)
        # Once the ordinary way: an error is told with the server's words, and the outputs tell their sizes.
        outputs = subject.server.infer(arguments.model, tensors, version=arguments.version)
        with _requests(arguments, subject, tensors, outputs) as request_of:
            for concurrency in arguments.concurrency:
                requests = [request_of(number) for number in range(concurrency)]
                subject.load(requests, min(_WARM_UP_S, arguments.seconds), arguments.timeout, lambda elapsed_s: None)
                progress = _Progress(concurrency, arguments.seconds)
                try:
                    result = subject.load(requests, arguments.seconds, arguments.timeout, progress.show)
                finally:
                    progress.clear()
                yield concurrency, result


@contextmanager
def _requests(
    arguments: Namespace, subject: Subject, tensors: Sequence[Tensor], outputs: Sequence[Tensor]
) -> Iterator[Requests]:
    """Give what makes the requests; with shared memory, have the segments for as long."""
    model, version = arguments.model, arguments.version
    if arguments.shared_memory == "none":
        request = subject.inline(model, version, tensors)
        yield lambda number: request
        return
    name = f"tensorhub_bench_{os.getpid()}_{secrets.token_hex(4)}"
    source, target = Layout.of(f"{name}_in", tensors), Layout.of(f"{name}_out", outputs)
    rows = max(arguments.concurrency)
    with (
        SystemRegion.create(max(1, source.row_byte_size)) as filled,
        SystemRegion.create(max(1, target.row_byte_size * rows)) as empty,
    ):
        filled.map[: source.row_byte_size] = source.content()
        with _registered(subject, source.region, filled), _registered(subject, target.region, empty):
            yield lambda number: subject.placed(model, version, source, target, number)


@contextmanager
def _registered(subject: Subject, name: str, region: SystemRegion) -> Iterator[None]:
    try:
        # Inside: it may have been interrupted after the server had done it.
        subject.server.register_system(name, region.key, region.byte_size)
        yield
    finally:
        try:
            subject.server.unregister_system(name)
        except (Refused, Unreachable) as exc:
            # The server is gone, and its registrations with it; the segment is removed all the same.
            sys.stderr.write(f"{_PROG}: region '{name}' could not be unregistered: {exc}\n")


class _Progress:
    """A bar on the terminal, while there is somebody to see it."""

    def __init__(self, concurrency: int, total_s: float) -> None:
        self._label = f"{concurrency:>4} in flight"
        self._total_s = total_s
        self._write: Callable[[str], Any] = sys.stderr.write if sys.stderr.isatty() else lambda text: None

    def show(self, elapsed_s: float) -> None:
        """Draw it anew."""
        done = min(_BAR_WIDTH, int(_BAR_WIDTH * elapsed_s / self._total_s))
        self._write(f"\r{self._label}  [{'#' * done}{'.' * (_BAR_WIDTH - done)}] {elapsed_s:5.1f} s")
        sys.stderr.flush()

    def clear(self) -> None:
        """Take it away."""
        self._write("\r\x1b[K")
