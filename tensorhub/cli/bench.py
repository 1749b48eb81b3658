"""`tensorhub bench MODEL`: how many requests a model answers, and how fast, on any server of the v2 protocol."""

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tensorhub.cli import inputs
from tensorhub.cli.arguments import Parser
from tensorhub.client import load
from tensorhub.client.http import DEFAULT_URL, Refused, Server, Unreachable, infer_call
from tensorhub.client.load import LoadResult
from tensorhub.client.tensors import TensorError

_PROG = "tensorhub bench"
_WARM_UP_S = 0.5
_BAR_WIDTH = 30
_PERCENTILES = (50, 90, 95, 99)


def run(argv: Sequence[str]) -> int:
    """Measure a model at several concurrencies and print a table.

    Returns:
        The exit status: 1 if the server, the model or an input has an error, or not every answer was good.
    """
    arguments = _parser().parse_args(argv)
    try:
        if arguments.plot:
            _check_plot(arguments.plot)
        results = _measure(arguments)
        if arguments.plot:
            _draw(arguments.plot, arguments.model, results)
    except (Refused, Unreachable, TensorError, ValueError, OSError) as exc:
        sys.stderr.write(f"{_PROG}: {exc}\n")
        return 1
    sys.stdout.write(as_json(arguments.model, results) if arguments.json else table(results))
    return 1 if any(result.errors or result.lost for _, result in results) else 0


def concurrencies(text: str) -> list[int]:
    """Read --concurrency: numbers with commas between them."""
    numbers = [int(item) for item in text.split(",")]
    if not all(1 <= number <= 1000 for number in numbers):
        raise ValueError
    return numbers


def seconds(text: str) -> float:
    """Read --seconds."""
    number = float(text)
    if not 0.1 <= number <= 3600:
        raise ValueError
    return number


def table(results: Sequence[tuple[int, LoadResult]]) -> str:
    """Return what was measured for a person to read."""
    names = ["in flight", "requests/s", *(f"p{percent} ms" for percent in _PERCENTILES), "max ms", "failed"]
    rows = [names]
    for concurrency, result in results:
        milliseconds = [result.percentile_s(percent) * 1e3 for percent in (*_PERCENTILES, 100)]
        rows.append(
            [str(concurrency), f"{result.rate:,.0f}", *(f"{value:.2f}" for value in milliseconds), str(_failed(result))]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    for concurrency, result in results:
        for status, number in sorted(result.errors.items()):
            lines.append(f"{number} of the answers at {concurrency} in flight had the status {status}")
        if result.lost:
            lines.append(f"{result.lost} connections at {concurrency} in flight ended without an answer")
    return "\n".join(lines) + "\n"


def as_json(model: str, results: Sequence[tuple[int, LoadResult]]) -> str:
    """Return what was measured as one line of JSON."""
    entries = [
        {
            "concurrency": concurrency,
            "requests_per_second": round(result.rate, 2),
            "latency_ms": {f"p{percent}": round(result.percentile_s(percent) * 1e3, 4) for percent in _PERCENTILES},
            "requests": len(result.latencies_s),
            "errors": {str(status): number for status, number in result.errors.items()},
            "lost": result.lost,
        }
        for concurrency, result in results
    ]
    return json.dumps({"model_name": model, "results": entries}) + "\n"


def _failed(result: LoadResult) -> int:
    return sum(result.errors.values()) + result.lost


def _parser() -> Parser:
    parser = Parser(
        _PROG,
        "Measure throughput and latency of a model, with a number of requests in flight at a time.",
        "Examples: tensorhub bench add_sub --random   |   tensorhub bench image --input PIXELS=@picture.npy "
        "--concurrency 1,8,64 --seconds 10 --plot image.png",
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
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--plot", metavar="FILE", help="draw the results (PNG, SVG or PDF; needs matplotlib)")
    parser.add_argument("--url", default=DEFAULT_URL, help=f"http only; default: {DEFAULT_URL}")
    parser.add_argument("--timeout", metavar="SECONDS", type=float, default=60.0, help="default: 60")
    return parser


def _measure(arguments: Namespace) -> list[tuple[int, LoadResult]]:
    with Server.connected(arguments.url, arguments.timeout) as server:
        tensors = inputs.read_inputs(server, arguments)
        # Once the ordinary way: an error is told with the server's words.
        server.infer(arguments.model, tensors, version=arguments.version)
        parts = urlsplit(server.url)
    if parts.scheme != "http" or parts.hostname is None:
        raise ValueError("load goes over http only, not over https")
    address = (parts.hostname, parts.port or 80)
    path, headers, body = infer_call(arguments.model, tensors, version=arguments.version)
    fields = {"Host": parts.netloc, "Content-Length": str(len(body)), **headers}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    request = "\r\n".join(lines).encode("latin-1") + body
    results = []
    for concurrency in arguments.concurrency:
        load.run(address, request, concurrency, min(_WARM_UP_S, arguments.seconds), timeout_s=arguments.timeout)
        progress = _Progress(concurrency, arguments.seconds)
        result = load.run(
            address, request, concurrency, arguments.seconds, timeout_s=arguments.timeout, on_tick=progress.show
        )
        progress.clear()
        results.append((concurrency, result))
    return results


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


def _check_plot(file: str) -> None:
    """Say what is missing before anything is measured."""
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--plot needs matplotlib: pip install 'tensorhub[bench]'")
    if Path(file).suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"--plot takes a file .png, .svg or .pdf, got {file}")


def _draw(file: str, model: str, results: Sequence[tuple[int, LoadResult]]) -> None:
    import matplotlib
    from matplotlib import pyplot

    matplotlib.use("Agg")
    figure, (rates, latencies) = pyplot.subplots(1, 2, figsize=(11, 4))
    in_flight = [concurrency for concurrency, _ in results]
    rates.plot(in_flight, [result.rate for _, result in results], marker="o")
    rates.set(title=f"{model}: throughput", xlabel="requests in flight", ylabel="requests/s")
    rates.set_ylim(bottom=0)
    for percent in _PERCENTILES:
        values = [result.percentile_s(percent) * 1e3 for _, result in results]
        latencies.plot(in_flight, values, marker="o", label=f"{percent} %")
    latencies.set(title=f"{model}: latency", xlabel="requests in flight", ylabel="ms")
    latencies.set_ylim(bottom=0)
    latencies.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
