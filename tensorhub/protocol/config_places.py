"""Where in a config.pbtxt something is that an error speaks of. Pure.

protobuf's parser keeps no places, and the rules speak of names and fields, so this is a search: for a tensor's or a
model's name that the error quotes, then for a field that it quotes, then for the field whose words it uses. It may find
nothing, and then says so; a place that it finds is a hint for a person, never a ground for a decision.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tensorhub.protocol import messages
from tensorhub.protocol.config_outline import Entry, outline

_PLACE = re.compile(r"(?P<file>[^\s:]+):(?P<line>\d+)(?::(?P<column>\d+))?: (?P<text>.*)", re.DOTALL)
_QUOTED = re.compile(r"'([^']+)'|\"([^\"]+)\"")
_UNQUOTED = re.compile(r"ensemble tensor (\S+):|for read \S*/([^/\s]+):|provided from (\S+)only ")
"""Names that errors do not quote: tensors of ensembles, and files."""

_WORD = re.compile(r"[a-z]+")

_SAID_AS = {"dims": "dimension"}
"""What errors call a field whose own name they do not use."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a file, counted from 1; 0: not known. `field` is the field of the configuration, if one is meant."""

    file: str = ""
    line: int = 0
    column: int = 0
    field: str = ""


def split_place(message: str) -> tuple[Place, str]:
    """Take the `file:line:column: ` off the front of an error, if it has one."""
    match = _PLACE.fullmatch(message)
    if match is None:
        return Place(), message
    text = match["text"]
    field = re.search(r"\(field '([^']+)'\)|field named \"([^\"]+)\"", text)
    name = (field[1] or field[2]) if field else ""
    return Place(match["file"], int(match["line"]), int(match["column"] or 0), name), text


def locate(text: str, message: str, model: str) -> Place:
    """Find what an error about a configuration means.

    Args:
        text: the config.pbtxt.
        message: the error.
        model: the model's name, which errors quote without meaning a place.
    """
    entries = outline(text).entries
    words = set(_WORD.findall(message.lower()))
    quoted = [one or two for one, two in _QUOTED.findall(message) if (one or two) != model]
    quoted += ["".join(groups) for groups in _UNQUOTED.findall(message)]
    fields = [name for name in quoted if name in _fields()]
    field = fields[0] if fields else ""
    for name in quoted:
        named = [entry for entry in entries if entry.value == name and name not in fields]
        if named:
            return _place_at(max(named, key=lambda entry: len(words.intersection(entry.path))), entries, field, words)
    field = field or _meant_field(dict.fromkeys(entry.name for entry in entries), words)
    for entry in entries:
        if entry.name == field:
            return Place(line=entry.at.line, column=entry.at.column, field=field)
    return Place(field=field)


def _place_at(named: Entry, entries: Sequence[Entry], field: str, words: set[str]) -> Place:
    """Find the field that is meant of what has a name, or the name if it has no such field."""
    within = [entry for entry in entries if named.block and named.block in entry.blocks and entry is not named]
    meant = field or _meant_field(dict.fromkeys(entry.name for entry in within), words)
    for entry in within:
        if entry.name == meant:
            return Place(line=entry.at.line, column=entry.at.column, field=meant)
    at = named.value_at or named.at
    return Place(line=at.line, column=at.column, field=field or named.name)


def _meant_field(names: Iterable[str], words: set[str]) -> str:
    """Return the field of which a message uses all words, or at least two, most of them; "" for none."""
    best, best_score = "", 0
    for name in names:
        parts = set(_SAID_AS.get(name, name).split("_"))
        score = len(parts & words)
        if name != "name" and (score == len(parts) or score >= 2) and score >= best_score:
            best, best_score = name, score
    return best


def _fields() -> frozenset[str]:
    found: set[str] = set()
    todo, seen = [messages.ModelConfig.DESCRIPTOR], set()
    while todo:
        descriptor = todo.pop()
        if descriptor.full_name in seen:
            continue
        seen.add(descriptor.full_name)
        for field in descriptor.fields:
            found.add(field.name)
            if field.message_type is not None:
                todo.append(field.message_type)
    return frozenset(found)
