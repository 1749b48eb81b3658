"""Which fields a config.pbtxt has, and where: for telling a person the place of what is wrong. Pure.

protobuf's parser keeps no places. This reads the text format's tokens and its nesting and nothing more, so it also gets
through a text that is none: it never fails, and says what it has seen until then.
"""

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)|(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|(?P<mark>[{}<>\[\]:,;])|(?P<word>[^\s{}<>\[\]:,;"'\#]+|.)""",
    re.VERBOSE | re.DOTALL,
)
_OPENING = {"{": "}", "<": ">", "[": "]"}
_NAME = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in the text, counted from 1."""

    line: int
    column: int


@dataclass(slots=True)
class Entry:
    """A field of a message.

    Attributes:
        path: names of the fields around it, from outside, and its own.
        at: where its name is. value_at: where its first value is, None if it has none.
        value: the first one, without quotes; "" if it is a message.
        block: the number of the message that it is in; 0: the configuration itself. blocks: of all messages around it.
    """

    path: tuple[str, ...]
    at: Spot
    blocks: tuple[int, ...]
    value: str = ""
    value_at: Spot | None = None

    @property
    def name(self) -> str:
        return self.path[-1]

    @property
    def block(self) -> int:
        return self.blocks[-1]


@dataclass(frozen=True, slots=True)
class Outline:
    """What a text has.

    Attributes:
        entries: in the order of the text.
        open: brackets that are not closed, the innermost last: the mark, and where it is.
    """

    entries: tuple[Entry, ...]
    open: tuple[tuple[str, Spot], ...]


def outline(text: str) -> Outline:
    """Read a text as far as it makes sense."""
    tokens = [(match, kind) for match in _TOKEN.finditer(text) if (kind := match.lastgroup or "") != "space"]
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    entries: list[Entry] = []
    around: list[tuple[str, Spot, str]] = []  # mark, place, and the field that it belongs to
    blocks = [0]
    numbers, line = 0, 0
    for index, (match, kind) in enumerate(tokens):
        while line + 1 < len(starts) and starts[line + 1] <= match.start():
            line += 1
        spot = Spot(line + 1, match.start() - starts[line] + 1)
        shown = match[0]
        following = tokens[index + 1][0][0] if index + 1 < len(tokens) else ""
        if kind == "mark" and shown in _OPENING:
            if around and around[-1][0] == "[":
                field = around[-1][2]  # one more of a list
            else:
                field = entries[-1].name if entries else ""
            around.append((shown, spot, field))
            if shown != "[":
                numbers += 1
                blocks.append(numbers)
        elif kind == "mark" and shown in _OPENING.values():
            if around and _OPENING[around[-1][0]] == shown and around.pop()[0] != "[":
                blocks.pop()
        elif kind == "word" and _NAME.fullmatch(shown) and following in (":", "{", "<", "["):
            path = (*(name for mark, _, name in around if mark != "["), shown)
            entries.append(Entry(path, spot, tuple(blocks)))
        elif kind in ("word", "string") and entries and entries[-1].value_at is None:
            entries[-1].value = shown[1:-1] if kind == "string" else shown
            entries[-1].value_at = spot
    return Outline(tuple(entries), tuple((mark, spot) for mark, spot, _ in around))
