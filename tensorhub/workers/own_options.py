"""The options that a worker has beside those of all processes: what it is, which the supervisor tells it. Pure.

They are not read by argparse: what that imports is 0.5 MB in a process of which there may be many.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from tensorhub.settings import SettingsError


@dataclass(frozen=True, slots=True)
class OwnOptions:
    """What a worker is.

    Attributes:
        name: which worker this is: cpu0, cpu1, ...
        environment: where the Python is that runs it; "": the server's.
        refusal: why no model can be loaded here; "": models can.
        gpu: UUID of the GPU that it is for; "": by the number in its name.
    """

    name: str = "cpu0"
    environment: str = ""
    refusal: str = ""
    gpu: str = ""


_NAMES = frozenset(field.name for field in fields(OwnOptions))


def split(argv: Sequence[str]) -> tuple[OwnOptions, list[str]]:
    """Return a worker's own options, given as `--name=value` or `--name value`, and the other arguments.

    Raises:
        SettingsError: a value is missing.
    """
    own: dict[str, str] = {}
    others = []
    arguments = iter(argv)
    for argument in arguments:
        name, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name not in _NAMES:
            others.append(argument)
            continue
        if not equals:
            following = next(arguments, None)
            if following is None:
                raise SettingsError(f"option '--{name}' requires an argument")
            value = following
        own[name] = value
    return OwnOptions(**own), others
