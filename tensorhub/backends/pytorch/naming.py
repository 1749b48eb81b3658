"""Which argument of a PyTorch program an input is, and which of its results an output. Pure.

PyTorch's programs have arguments in an order and results without names, so that the names in the config have to say
which is which. Source of the rules: Triton's PyTorch backend.

    the program takes one dict       inputs are its keys
    all are names of arguments       inputs are these arguments
    all are like INPUT__0            inputs and outputs are in the places that follow the two underscores
    otherwise                        in the order of the config
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tensorhub.errors import InternalError, InvalidArgument
from tensorhub.tensors import DataType

log = logging.getLogger(__name__)

_NAMED_INDEX = re.compile(r".*?__(\d+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a program takes.

    Attributes:
        names: of the positional arguments, in order; keywords: of those that are passed by name.
        takes_dict: the one argument is a dict of tensors.
    """

    names: tuple[str, ...]
    keywords: tuple[str, ...] = ()
    takes_dict: bool = False

    @property
    def count(self) -> int:
        return len(self.names) + len(self.keywords)


@dataclass(frozen=True, slots=True)
class Calling:
    """How a program is called for a config.

    Attributes:
        positional: input names, in the order of the arguments.
        keywords: argument's name to input's name.
        as_dict: the inputs are passed as one dict.
        outputs: output's name to its place among the results.
    """

    positional: tuple[str, ...]
    keywords: Mapping[str, str]
    as_dict: bool
    outputs: Mapping[str, int]


def arrange(config: Any, arguments: Arguments) -> Calling:
    """Match a complete `inference.ModelConfig` with a program.

    Raises:
        InvalidArgument: there are more or fewer inputs than arguments, or two inputs for one.
        InternalError: text has more than one dimension.
    """
    names = [item.name for item in config.input]
    for item in [*config.input, *config.output]:
        dims = item.reshape.shape if item.HasField("reshape") else item.dims
        if DataType.from_config(item.data_type) is DataType.BYTES and len(dims) + (config.max_batch_size > 0) > 1:
            raise InternalError(
                f"Triton only supports 1 dimensional List of String as input or output for '{item.name}' for model "
                f"'{config.name}'"
            )
    outputs = _places([item.name for item in config.output]) or {
        item.name: place for place, item in enumerate(config.output)
    }
    if arguments.takes_dict:
        return Calling(tuple(names), {}, True, outputs)
    if len(names) != arguments.count:
        raise InvalidArgument(
            f"unable to load model '{config.name}', configuration expects {len(names)} inputs, model provides "
            f"{arguments.count}"
        )
    ordered = [*arguments.names, *arguments.keywords]
    places = {name: ordered.index(name) for name in names} if set(names) == set(ordered) else _places(names)
    if places is None:
        log.warning(
            "the inputs of model '%s' are neither arguments of its forward (%s) nor named like INPUT__0: they are "
            "passed in the order of the configuration",
            config.name,
            ", ".join(ordered),
        )
        places = {name: place for place, name in enumerate(names)}
    by_place = {place: name for name, place in places.items()}
    if by_place.keys() != set(range(arguments.count)):
        raise InvalidArgument(
            f"unable to load model '{config.name}', its inputs {', '.join(names)} do not stand for each of the "
            f"{arguments.count} arguments of forward once"
        )
    count = len(arguments.names)
    return Calling(
        tuple(by_place[place] for place in range(count)),
        {name: by_place[count + index] for index, name in enumerate(arguments.keywords)},
        False,
        outputs,
    )


def _places(names: Sequence[str]) -> dict[str, int] | None:
    """Return the places that names like INPUT__0 say, or None if not all are of this kind."""
    matches = {name: _NAMED_INDEX.fullmatch(name) for name in names}
    places = {name: int(match[1]) for name, match in matches.items() if match is not None}
    return places if len(places) == len(names) else None
