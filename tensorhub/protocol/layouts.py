"""Messages that differ from an earlier one only in their tensors' bytes: recognised without being parsed. Pure.

Clients send the same request again and again with other numbers in it. A serialised ModelInferRequest or
ModelInferResponse of such a series is a prefix that is always the same, then its raw contents, whose sizes are the same
as well:

    | model, version, inputs ...  | tag, size | bytes | tag, size | bytes |
      prefix                        mark                  mark

So what follows from the prefix and the sizes is worked out once, and remembered with the prefix. A message with the
same length, the same prefix and the same marks has exactly the meaning of the one before, with other bytes in its
contents: protobuf reads a message field by field, and these are the last.
"""

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from tensorhub.protocol.grpc_frames import varint

Meaning = TypeVar("Meaning")

LIMIT = 256
"""Layouts that one table remembers; clients choose them, so it must be bounded. When it is full, it is emptied."""

MAX_SIZE = 64 * 1024
"""Bytes of a message that is remembered."""

MAX_PREFIX_SIZE = 4096
"""Bytes of a prefix that is remembered: with LIMIT, what a table can cost."""


class Layout(NamedTuple, Generic[Meaning]):
    """A prefix and what follows from it.

    Attributes:
        spans: where each of the raw contents begins and ends in the message.
        meaning: whatever the table's owner has worked out.
    """

    spans: tuple[tuple[int, int], ...]
    meaning: Meaning
    marks: tuple[tuple[int, bytes], ...]


class LayoutTable(Generic[Meaning]):
    """What is known of the messages that come here. Thread-safe: what it remembers are values."""

    __slots__ = ("_layouts", "_prefix_sizes", "_tag")

    def __init__(self, field_number: int) -> None:
        """Args: field_number: of the raw contents; no other field of the message has a larger one."""
        self._tag = bytes((field_number << 3 | 2,))
        self._layouts: dict[bytes, Layout[Meaning]] = {}
        self._prefix_sizes: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<LayoutTable {len(self._layouts)} layouts>"

    def find(self, message: bytes) -> Layout[Meaning] | None:
        """Return the layout of a message, or None: it has to be parsed."""
        prefix_size = self._prefix_sizes.get(len(message))
        if prefix_size is None:
            return None
        layout = self._layouts.get(message[:prefix_size])
        if layout is None:
            return None
        for position, mark in layout.marks:
            if not message.startswith(mark, position):
                return None
        # Of two layouts with one prefix, the length decides.
        return layout if not layout.spans or layout.spans[-1][1] == len(message) else None

    def learn(self, message: bytes, sizes: Sequence[int], meaning: Meaning) -> None:
        """Remember a message that has been parsed; does nothing if its raw contents are not its end.

        Args:
            sizes: of its raw contents, in order; all of them.
            meaning: what holds for every message with this prefix and these sizes.
        """
        size = len(message)
        if size > MAX_SIZE:
            return
        heads = [self._tag + varint(content) for content in sizes]
        position = prefix_size = size - sum(map(len, heads)) - sum(sizes)
        if not 0 < prefix_size <= MAX_PREFIX_SIZE:
            return
        marks = []
        spans = []
        for head, content in zip(heads, sizes, strict=True):
            if not message.startswith(head, position):
                return
            marks.append((position, head))
            position += len(head)
            spans.append((position, position + content))
            position += content
        if len(self._layouts) >= LIMIT or len(self._prefix_sizes) >= LIMIT:
            self._layouts.clear()
            self._prefix_sizes.clear()
        self._prefix_sizes[size] = prefix_size
        self._layouts[message[:prefix_size]] = Layout(tuple(spans), meaning, tuple(marks))
