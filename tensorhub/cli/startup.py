"""What a person sees on the terminal while the server starts: the models, the addresses, what to type next. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

_RESET = "\x1b[0m"
_STATE_COLOURS = {
    "READY": "\x1b[32m",
    "LOADING": "\x1b[33m",
    "UNLOADING": "\x1b[33m",
    "UNAVAILABLE": "\x1b[31m",
}
_BOLD = "\x1b[1m"
_DIM = "\x1b[2m"
_NARROWEST_REASON = 20
_REASON_LINES = 5


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One version of a model, or a model that has none (`version` "")."""

    name: str
    version: str
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address that the server listens on."""

    service: str
    address: str


def startup_table(
    models: Sequence[ModelRow],
    endpoints: Sequence[Endpoint],
    *,
    next_command: str = "",
    columns: int = 100,
    colour: bool = False,
) -> str:
    """Return the models with state and reason, the addresses and the next command, as lines with a newline each.

    Args:
        models: in the order to show.
        endpoints: likewise.
        next_command: what to type next; "" leaves it out.
        columns: the width of the terminal; reasons are broken into lines within it.
        colour: use the terminal's colours.
    """
    lines = model_lines(models, columns=columns, colour=colour) if models else ["No models."]
    if endpoints:
        width = max(len(endpoint.service) for endpoint in endpoints)
        lines += ["", *(f"{endpoint.service:<{width}}  {endpoint.address}" for endpoint in endpoints)]
    if next_command:
        lines += ["", f"Try:  {_painted(next_command, _BOLD, colour)}"]
    return "\n".join(lines) + "\n"


def model_lines(models: Sequence[ModelRow], *, columns: int, colour: bool) -> list[str]:
    """Return a table of models: a heading, one line for each, and more for long reasons."""
    names = _column("Model", [model.name for model in models])
    versions = _column("Version", [model.version or "-" for model in models])
    states = _column("State", [model.state or "-" for model in models])
    room = max(_NARROWEST_REASON, columns - len(names[0]) - len(versions[0]) - len(states[0]) - 6)
    lines = [_painted(f"{names[0]}  {versions[0]}  {states[0]}  Reason".rstrip(), _DIM, colour)]
    for model, name, version, state in zip(models, names[1:], versions[1:], states[1:], strict=True):
        painted = _painted(state, _STATE_COLOURS.get(model.state, ""), colour)
        first, *rest = _reason_lines(model.reason, room)
        lines.append(f"{name}  {version}  {painted}  {first}".rstrip())
        lines += [" " * (len(name) + len(version) + len(state) + 6) + line for line in rest]
    return lines


def loading_line(done: int, total: int, loading: Sequence[str], *, columns: int) -> str:
    """Return the line that shows how far loading is; it fills the width, so that it can be written over itself."""
    names = f": {', '.join(loading)}" if loading else ""
    width = max(1, columns - 1)
    return _one_line(f"Loading models {done}/{total}{names}", width).ljust(width)


def _column(heading: str, cells: Sequence[str]) -> list[str]:
    cells = [_one_line(cell, 64) for cell in cells]
    width = max(map(len, (heading, *cells)))
    return [cell.ljust(width) for cell in (heading, *cells)]


def _reason_lines(reason: str, width: int) -> list[str]:
    return wrap(_printable(reason), width, max_lines=_REASON_LINES, placeholder=" ...") or [""]


def _printable(text: str) -> str:
    """Put a text on one line; what a terminal would take as a command is left out."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _one_line(text: str, width: int) -> str:
    flat = _printable(text)
    return flat if len(flat) <= width else flat[: max(0, width - 3)] + "..."


def _painted(text: str, code: str, colour: bool) -> str:
    return f"{code}{text}{_RESET}" if colour and code else text
