"""`tensorhub infer MODEL`: run a model on any server of the v2 protocol and print what it returns."""

import json
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tensorhub.cli.arguments import Parser, count
from tensorhub.client.http import DEFAULT_URL, Refused, Server, Unreachable
from tensorhub.client.tensors import Array, Tensor, TensorError, TensorSpec, as_array, random_array

_PROG = "tensorhub infer"


def run(argv: Sequence[str]) -> int:
    """Run a model and print its outputs.

    Returns:
        The exit status: 1 if the server, the model or an input has an error.
    """
    arguments = _parser().parse_args(argv)
    try:
        with Server.connected(arguments.url, arguments.timeout) as server:
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


def read_value(text: str, spec: TensorSpec) -> Any:
    """Read the value of --input: JSON, @file.json, file.npy or @file.npy; for BYTES also plain text.

    Raises:
        TensorError: it is none of these.
        OSError: the file cannot be read.
    """
    name = text.removeprefix("@")
    if name.endswith(".npy") and (text.startswith("@") or Path(name).exists()):
        try:
            # SAFETY: arrays of objects would be unpickled; they are refused.
            return np.load(name, allow_pickle=False)
        except ValueError as exc:
            raise TensorError(f"input '{spec.name}': {name} cannot be read: {exc}") from exc
    content = Path(name).read_text(encoding="utf-8") if text.startswith("@") else text
    try:
        return json.loads(content)
    except ValueError as exc:
        if spec.datatype == "BYTES" and not text.startswith("@"):
            return [text]
        raise TensorError(f"input '{spec.name}' is not JSON: {exc}. Got {content[:60]}") from exc


def _parser() -> Parser:
    parser = Parser(
        _PROG,
        "Run a model once and print its outputs.",
        "Examples: tensorhub infer add_sub --random   |   tensorhub infer text --input 'TEXT=[\"hello\"]'   |   "
        "tensorhub infer image --input PIXELS=@picture.npy --json",
    )
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument(
        "--input",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="an input: JSON, @file.json or file.npy; may be given several times",
    )
    parser.add_argument("--random", action="store_true", help="fill the inputs that are not given")
    parser.add_argument(
        "--size",
        metavar="N",
        type=count,
        action="append",
        default=[],
        help="open sizes (-1) of random inputs, in order",
    )
    parser.add_argument("--output", metavar="NAME", action="append", default=[], help="only this output; repeatable")
    parser.add_argument("--version", metavar="N", default="", help="version of the model; default: the server's choice")
    parser.add_argument("--repeat", metavar="N", type=count, default=1, help="send the request N times, and time it")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--url", default=DEFAULT_URL, help=f"default: {DEFAULT_URL}")
    parser.add_argument("--timeout", metavar="SECONDS", type=float, default=60.0, help="default: 60")
    return parser


def _infer(server: Server, arguments: Namespace) -> tuple[list[Tensor], list[float]]:
    metadata = server.metadata(arguments.model, arguments.version)
    specs = {spec.name: spec for spec in map(TensorSpec.from_json, metadata["inputs"])}
    arrays: dict[str, Array] = {}
    for item in arguments.input:
        name, equals, text = item.partition("=")
        if not equals:
            raise TensorError(f"--input takes NAME=VALUE, got {item}")
        if name not in specs:
            raise TensorError(f"model '{arguments.model}' has no input '{name}', it has {', '.join(specs)}")
        arrays[name] = as_array(read_value(text, specs[name]), specs[name])
    if arguments.random:
        generator = np.random.default_rng()
        arrays = {
            name: arrays[name] if name in arrays else random_array(spec, generator, arguments.size)
            for name, spec in specs.items()
        }
    if not arrays:
        wanted = ", ".join(f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in specs.values())
        raise TensorError(f"no inputs: give --random or --input for {wanted}")
    inputs = [Tensor(name, specs[name].datatype, array) for name, array in arrays.items()]
    outputs: list[Tensor] = []
    times_s = []
    for _ in range(arguments.repeat):
        started = time.perf_counter()
        outputs = server.infer(arguments.model, inputs, version=arguments.version, outputs=arguments.output)
        times_s.append(time.perf_counter() - started)
    return outputs, times_s


def _text(item: Any) -> Any:
    return item.decode(errors="backslashreplace") if isinstance(item, bytes) else item
