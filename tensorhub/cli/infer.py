"""`tensorhub infer MODEL`: run a model on any server of the v2 protocol and print what it returns."""

import json
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np

from tensorhub.cli import inputs
from tensorhub.cli.arguments import Parser, count, seconds
from tensorhub.client.http import DEFAULT_URL, Refused, Server, Unreachable
from tensorhub.client.tensors import Tensor, TensorError

_PROG = "tensorhub infer"


def run(argv: Sequence[str]) -> int:
    """Run a model and print its outputs.

    Returns:
        The exit status: 1 if the server, the model or an input has an error.
    """
    arguments = _parser().parse_args(argv)
    try:
        with closing(Server(arguments.url, arguments.timeout)) as server:
            outputs, times_s = _infer(server, arguments)
    except (Refused, Unreachable, TensorError, ValueError, OSError) as exc:
        sys.stderr.write(f"{_PROG}: {exc}\n")
        return 1
    sys.stdout.write(as_json(arguments.model, outputs) if arguments.json else readable(outputs))
    if arguments.repeat > 1:
        sys.stderr.write(timing(times_s))
    return 0


def readable(outputs: Sequence[Tensor]) -> str:
    """Return outputs for a person to read; the middle of a large one is left out."""
    parts = []
    for tensor in outputs:
        array = np.array([_text(item) for item in tensor.array.ravel().tolist()], dtype=object)
        shown = array.reshape(tensor.array.shape) if tensor.datatype == "BYTES" else tensor.array
        parts.append(f"{tensor.name}  {tensor.datatype} {list(tensor.array.shape)}\n{np.array2string(shown)}\n")
    return "\n".join(parts)


def as_json(model: str, outputs: Sequence[Tensor]) -> str:
    """Return outputs as one line of JSON, complete, in the protocol's form."""
    described = [
        {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.array.shape),
            "data": [_text(item) for item in tensor.array.ravel().tolist()],
        }
        for tensor in outputs
    ]
    return json.dumps({"model_name": model, "outputs": described}) + "\n"


def timing(times_s: Sequence[float]) -> str:
    """Return one line on how long repeated requests took."""
    middle, high = np.percentile(times_s, [50, 99]) * 1e3
    rate = len(times_s) / sum(times_s)
    return f"{len(times_s)} requests: median {middle:.3f} ms, 99 % within {high:.3f} ms, {rate:.0f} requests/s\n"


def _parser() -> Parser:
    parser = Parser(
        _PROG,
        "Run a model once and print its outputs.",
        examples=(
            "tensorhub infer add_sub --random",
            "tensorhub infer text --input 'TEXT=[\"hello\"]'",
            "tensorhub infer image --input PIXELS=@picture.npy --json",
        ),
    )
    inputs.add_options(parser)
    parser.add_argument("--output", metavar="NAME", action="append", default=[], help="only this output; repeatable")
    parser.add_argument("--repeat", metavar="N", type=count, default=1, help="send the request N times, and time it")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--url", default=DEFAULT_URL, help=f"default: {DEFAULT_URL}")
    parser.add_argument("--timeout", metavar="SECONDS", type=seconds, default=60.0, help="default: 60")
    return parser


def _infer(server: Server, arguments: Namespace) -> tuple[list[Tensor], list[float]]:
    tensors = inputs.read_inputs(server, arguments)
    outputs: list[Tensor] = []
    times_s = []
    for _ in range(arguments.repeat):
        started = time.perf_counter()
        outputs = server.infer(arguments.model, tensors, version=arguments.version, outputs=arguments.output)
        times_s.append(time.perf_counter() - started)
    return outputs, times_s


def _text(item: Any) -> Any:
    return item.decode(errors="backslashreplace") if isinstance(item, bytes) else item
