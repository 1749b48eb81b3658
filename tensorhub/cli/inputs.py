"""The inputs of a request, as the options of a command give them."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tensorhub.cli.arguments import Parser, count
from tensorhub.client.tensors import Array, Tensor, TensorError, TensorSpec, as_array, random_array


def add_options(parser: Parser) -> None:
    """Add the options that `read_inputs` reads, and MODEL and --version."""
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
    parser.add_argument("--version", metavar="N", default="", help="version of the model; default: the server's choice")


class Described(Protocol):
    """A server that tells what its models take."""

    def metadata(self, model: str, version: str = "") -> Any:
        """Return the metadata of a model: `inputs` with name, datatype and shape."""


def read_inputs(server: Described, arguments: Namespace) -> list[Tensor]:
    """Return the tensors for a model, which the server describes.

    Raises:
        TensorError: a value does not fit, or there are no inputs.
        Refused: the server has no such model.
        OSError: a file cannot be read.
    """
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
    return [Tensor(name, specs[name].datatype, array) for name, array in arrays.items()]


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
