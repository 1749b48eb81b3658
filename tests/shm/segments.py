"""Segments as a client makes them, and what a process has open."""

import os
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tensorhub.protocol import messages


def system(name: str, key: str, offset: int, byte_size: int, owner: str = "") -> Any:
    """A registration, as the hub orders it."""
    return messages.SystemRegion(name=name, key=key, offset=offset, byte_size=byte_size, owner=owner)


class Segment:
    """A file in /dev/shm with a key of its own."""

    def __init__(self, content: bytes) -> None:
        self.key = f"/tensorhub-test-{uuid.uuid4().hex}"
        self.path = Path("/dev/shm") / self.key[1:]
        self.path.write_bytes(content)

    @property
    def content(self) -> bytes:
        return self.path.read_bytes()

    def truncate(self, byte_size: int) -> None:
        os.truncate(self.path, byte_size)


@contextmanager
def segment(content: bytes) -> Iterator[Segment]:
    made = Segment(content)
    try:
        yield made
    finally:
        made.path.unlink(missing_ok=True)


def open_fds() -> Counter[str]:
    """What this process has open, with what it is."""
    found: Counter[str] = Counter()
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found[os.readlink(f"/proc/self/fd/{fd}")] += 1
    return found


def opened_since(before: Counter[str]) -> Counter[str]:
    """What is open now and was not then. Not how many are: what threads of earlier tests close does not matter."""
    return open_fds() - before


def mappings(key: str) -> int:
    """How often a segment is mapped into this process."""
    return Path("/proc/self/maps").read_text(encoding="utf-8").count(key[1:])
