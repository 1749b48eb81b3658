"""What a hub leaves to the next one: changes made while the server ran, and sums that no process can tell again.

It is in every snapshot as bytes that nobody reads. Whoever lives longer than the hub hands the newest that it has to
the next one, with HELLO. They may come in any order and differ by a revision, so the next hub takes over each that is
newer than what it has, as a whole, until a client has changed the same thing anew. Pure.
"""

from collections.abc import Sequence
from typing import Any

from tensorhub.hub.runtime import RuntimeSettings
from tensorhub.hub.state import HubState
from tensorhub.hub.statistics import StatisticsBook
from tensorhub.protocol import messages


class Inheritance:
    """See the module.

    Args:
        start_ns: CLOCK_MONOTONIC when this hub began; later than that of any hub before.
        runtime, state, book: this hub's; what is taken over goes into them.
        seen: the same for the fingerprints of the repositories' models, as they were when this hub last looked.

    Attributes:
        known: the `tensorhub.wire.Model` messages of the newest snapshot that somebody has told of.
    """

    def __init__(
        self, start_ns: int, runtime: RuntimeSettings, state: HubState, book: StatisticsBook, seen: dict[str, str]
    ) -> None:
        self._start_ns = start_ns
        self._runtime = runtime
        self._state = state
        self._book = book
        self._seen = seen
        self._newest = (0, 0)
        self._known_since = (0, 0)
        self.known: Sequence[Any] = ()

    def __repr__(self) -> str:
        return f"<Inheritance of revision {self._newest[1]}>"

    def take(self, data: bytes, known: Sequence[Any] = ()) -> bool:
        """Take over a `tensorhub.wire.Bequest`; False if there is a newer one already, or `data` is empty.

        Args:
            known: the models of the snapshot that it was in; nothing from who does not keep them.

        Raises:
            DecodeError: the bytes are none.
        """
        bequest = messages.Bequest.FromString(data)
        age = (bequest.hub_start_ns, bequest.revision)
        if known and self._known_since < age < (self._start_ns, 0):
            self._known_since, self.known = age, known
        if not self._newest < age < (self._start_ns, 0):
            return False
        self._newest = age
        self._runtime.inherit(bequest.log_changes, bequest.trace_changes)
        self._book.inherit(bequest.buried)
        self._state.inherit_restarts(bequest.restarts)
        self._seen.clear()
        self._seen.update(bequest.seen)
        for own in bequest.own_workers:
            self._state.lifecycle.workers.expect(own.name, own.environment)
        return True

    def leave(self, revision: int) -> bytes:
        """Return what the next hub has to know, with the snapshot of this revision."""
        return bytes(
            messages.Bequest(
                hub_start_ns=self._start_ns,
                revision=revision,
                log_changes=self._runtime.log_changes,
                trace_changes=self._runtime.traces.changes(),
                buried=self._book.buried(),
                restarts=self._state.restarts,
                seen=self._seen,
                own_workers=self._state.own_workers(),
            ).SerializeToString()
        )
