"""How an option is declared: as a field of a group, with its kind of value and the text of the help. Pure.

The name of the field with hyphens is the command line's, and its default is the option's. Parsing, help, the
documentation and the hand-over to other processes are all derived from these fields (`settings`).
"""

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from tensorhub.option_kinds import Kind


@dataclass(frozen=True, slots=True)
class Option:
    """One option of the command line.

    Attributes:
        name: with hyphens.
        default: a value of its kind; a tuple of values if repeatable.
        ignored: why the option is accepted and has no effect; "" for one that has.
    """

    name: str
    kind: Kind
    default: Any
    help: str
    repeatable: bool
    ignored: str

    def texts(self, value: Any) -> list[str]:
        """Return the value as the command line would give it: one text, or one for each item."""
        items = value if self.repeatable else (value,)
        return [self.kind.unparse(item) for item in items]


@dataclass(frozen=True, slots=True)
class Deprecated:
    """An old name: `replace(value)` gives the option that took its place and that one's text, None for no change."""

    name: str
    kind: Kind
    help: str
    replacement: str
    replace: Callable[[Any], str | None]
    repeatable: bool = False


def option(kind: Kind, default: Any, help_text: str, ignored: str = "") -> Any:
    """Declare an option; a tuple as the default means that it may be given several times."""
    return field(default=default, metadata={"kind": kind, "help": help_text, "ignored": ignored})


def options_of(group: type) -> list[Option]:
    """Return the options of one group, in the order of its fields."""
    found = []
    for item in fields(group):
        assert item.default is not MISSING
        found.append(
            Option(
                name=item.name.replace("_", "-"),
                kind=item.metadata["kind"],
                default=item.default,
                help=item.metadata["help"],
                repeatable=isinstance(item.default, tuple),
                ignored=item.metadata["ignored"],
            )
        )
    return found
