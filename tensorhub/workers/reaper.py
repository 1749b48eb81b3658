"""Telling the hub of regions whose segment has been unlinked, for `--shm-reap`: nobody else can come to use them."""

from collections.abc import Callable
from typing import Any

from tensorhub.ipc.node import Node
from tensorhub.ipc.regions import RegionTable
from tensorhub.protocol import messages

INTERVAL_S = 1.0
"""Between two looks. Each costs one system call a region."""


class Reaper:
    """Looks again and again; its work runs on the mailbox's thread."""

    def __init__(self, node: Node, regions: RegionTable, report: Callable[[Any], None]) -> None:
        self._node = node
        self._regions = regions
        self._report = report

    def start(self) -> None:
        """Look in a while."""
        self._node.watcher.later(INTERVAL_S, lambda: self._node.post(self._look))

    def _look(self) -> None:
        found = self._regions.unlinked()
        if found:
            unlinked = [messages.Unlinked(owner=owner, name=name) for owner, name in found]
            self._report(messages.Report(unlinked=unlinked))
        self.start()
