"""Where in a config.pbtxt something is that an error speaks of. Pure.

protobuf's parser keeps no places, and the rules speak of names and fields, so this is a search: for a tensor's or a
model's name that the error quotes, then for a field that it quotes, then for the field whose words it uses. It may find
nothing, and then says so; a place that it finds is a hint for a person, never a ground for a decision.
"""

import re
from dataclasses import dataclass

from tensorhub.protocol import messages

_PLACE = re.compile(r"(?P<file>[^\s:]+):(?P<line>\d+)(?::(?P<column>\d+))?: (?P<text>.*)", re.DOTALL)
_QUOTED = re.compile(r"'([^']+)'|\"([^\"]+)\"")
_FIELD = re.compile(r"\b([a-z_]\w*)\s*[:{\[<]")
_WORD = re.compile(r"[a-z]+")


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
    lines = text.split("\n")
    quoted = [one or two for one, two in _QUOTED.findall(message) if (one or two) != model]
    fields = [name for name in quoted if name in _fields()]
    field = fields[0] if fields else ""
    for name in quoted:
        for number, line in enumerate(lines, 1):
            column = max(line.find(f'"{name}"'), line.find(f"'{name}'"))
            if column >= 0 and name not in fields:
                before = _FIELD.findall(line[:column])
                return Place(line=number, column=column + 1, field=field or (before[-1] if before else ""))
    return _field_place(lines, field or _meant_field(text, message))


def _field_place(lines: list[str], field: str) -> Place:
    if field:
        for number, line in enumerate(lines, 1):
            for match in _FIELD.finditer(line):
                if match[1] == field:
                    return Place(line=number, column=match.start(1) + 1, field=field)
    return Place(field=field)


def _meant_field(text: str, message: str) -> str:
    """Return the field of the text of which the message uses all words, or at least two, most of them; "" for none."""
    words = set(_WORD.findall(message.lower()))
    best, best_score = "", 0
    for name in dict.fromkeys(_FIELD.findall(text)):
        parts = set(name.split("_"))
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
