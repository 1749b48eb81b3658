"""What `tensorhub bench` prints: a table for people, JSON for programs, a picture. The importer of matplotlib."""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

from tensorhub.client.load import LoadResult

_PERCENTILES = (50, 90, 95, 99)
_BUSY_CLIENT = 0.8
"""Of a core: from here on a client of one thread may be what limits the throughput."""

Results = Sequence[tuple[int, LoadResult]]


def table(results: Results) -> str:
    """Return what was measured for a person to read."""
    names = ["in flight", "requests/s", *(f"p{percent} ms" for percent in _PERCENTILES), "max ms", "failed", "client"]
    rows = [names]
    for concurrency, result in results:
        milliseconds = [result.percentile_s(percent) * 1e3 for percent in (*_PERCENTILES, 100)]
        times = [f"{value:.2f}" for value in milliseconds]
        failed = str(sum(result.errors.values()) + result.lost)
        rows.append([str(concurrency), f"{result.rate:,.0f}", *times, failed, f"{busy(result):.0%}"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    for concurrency, result in results:
        for status, number in sorted(result.errors.items(), key=str):
            lines.append(f"{number} of the answers at {concurrency} in flight had the status {status}")
        if result.lost:
            lines.append(f"{result.lost} connections at {concurrency} in flight ended without an answer")
    if any(busy(result) >= _BUSY_CLIENT for _, result in results):
        lines.append("client: this command's share of a core; where it is near 100 %, it may be what limits")
    return "\n".join(lines) + "\n"


def busy(result: LoadResult) -> float:
    """Return the share of a core that the client took during a run."""
    return result.client_s / result.elapsed_s if result.elapsed_s else 0.0


def as_json(model: str, settings: dict[str, str], results: Results) -> str:
    """Return what was measured as one line of JSON.

    Args:
        settings: how it was measured.
    """
    entries = [
        {
            "concurrency": concurrency,
            "requests_per_second": round(result.rate, 2),
            "latency_ms": {f"p{percent}": round(result.percentile_s(percent) * 1e3, 4) for percent in _PERCENTILES},
            "requests": len(result.latencies_s),
            "errors": {str(status): number for status, number in result.errors.items()},
            "lost": result.lost,
            "client_cpu": round(busy(result), 3),
        }
        for concurrency, result in results
    ]
    return json.dumps({"model_name": model, **settings, "results": entries}) + "\n"


def check_plot(file: str) -> None:
    """Say what is missing before anything is measured.

    Raises:
        ValueError: matplotlib is not installed, the file would be of another kind, or there is no folder for it.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--plot needs matplotlib: pip install 'tensorhub[bench]'")
    if Path(file).suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"--plot takes a file .png, .svg or .pdf, got {file}")
    if not Path(file).absolute().parent.is_dir():
        raise ValueError(f"--plot: there is no folder {Path(file).absolute().parent}")


def draw(file: str, title: str, results: Results) -> None:
    """Write a picture of throughput and latency over the requests in flight."""
    import matplotlib
    from matplotlib import pyplot

    matplotlib.use("Agg")
    figure, (rates, latencies) = pyplot.subplots(1, 2, figsize=(11, 4))
    in_flight = [concurrency for concurrency, _ in results]
    rates.plot(in_flight, [result.rate for _, result in results], marker="o")
    rates.set(title=f"{title}: throughput", xlabel="requests in flight", ylabel="requests/s")
    rates.set_ylim(bottom=0)
    for axes in (rates, latencies):
        # One place for each run: the numbers are powers of two as a rule.
        axes.set_xscale("log", base=2)
        axes.set_xticks(in_flight, [str(number) for number in in_flight])
        axes.grid(alpha=0.3)
    for percent in _PERCENTILES:
        values = [result.percentile_s(percent) * 1e3 for _, result in results]
        latencies.plot(in_flight, values, marker="o", label=f"p{percent}")
    latencies.set(title=f"{title}: latency", xlabel="requests in flight", ylabel="ms")
    latencies.set_ylim(bottom=0)
    latencies.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
