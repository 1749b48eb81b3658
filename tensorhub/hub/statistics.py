"""What all workers together have counted. Pure: reports in, sums out.

Workers count since they loaded a model, and report when they are asked and once in a while when they are busy. A worker
that dies takes its counters along, so the last that it reported of each load is kept and what its successor counts is
added to it. A reload has a load id of its own, so it begins at zero, as in Triton.
"""

from collections.abc import Collection, Iterable
from typing import Any

from tensorhub.protocol import messages, sketch, statistics


class StatisticsBook:
    """The newest report of each process, and what is left of the dead."""

    def __init__(self) -> None:
        self._newest: dict[int, Any] = {}
        self._loads: dict[int, dict[int, Any]] = {}
        self._buried: dict[int, Any] = {}
        self._inherited: dict[int, Any] = {}

    def __repr__(self) -> str:
        return f"<StatisticsBook of {len(self._newest)} processes>"

    def reported(self, pid: int, report: Any) -> None:
        """Note the `tensorhub.wire.ProcessStatistics` of a process."""
        self._newest[pid] = report
        self._loads.setdefault(pid, {}).update((load.load_id, load) for load in report.loads)

    def died(self, pid: int) -> None:
        """A process has died."""
        self._newest.pop(pid, None)
        for load_id, load in self._loads.pop(pid, {}).items():
            _add(self._buried.setdefault(load_id, messages.LoadStatistics(load_id=load_id)), load, alive=False)

    def inherit(self, buried: Iterable[Any]) -> None:
        """Take over what another hub has `buried`, in the place of what was taken over before."""
        self._inherited = {load.load_id: load for load in buried}

    def buried(self) -> list[Any]:
        """Return what the dead have counted, one `tensorhub.wire.LoadStatistics` for each load that lost a worker."""
        return [self._sum(load_id, ()) for load_id in self._inherited.keys() | self._buried.keys()]

    def keep(self, load_ids: Collection[int]) -> None:
        """Forget all loads but these."""
        for held in (self._inherited, self._buried, *self._loads.values()):
            for load_id in [load_id for load_id in held if load_id not in load_ids]:
                del held[load_id]

    def newest(self, pid: int) -> Any:
        """Return what a process told last, None if it has told nothing."""
        return self._newest.get(pid)

    def total(self, load_id: int) -> Any:
        """Return the sum over all workers, as a new `tensorhub.wire.LoadStatistics`."""
        return self._sum(load_id, (held.get(load_id) for held in self._loads.values()))

    def _sum(self, load_id: int, living: Iterable[Any]) -> Any:
        total = messages.LoadStatistics(load_id=load_id)
        for part in (self._inherited.get(load_id), self._buried.get(load_id), *living):
            if part is not None:
                _add(total, part, alive=True)
        return total


def _add(total: Any, part: Any, *, alive: bool) -> None:
    """Add one `tensorhub.wire.LoadStatistics` to another; of a dead worker only what does not pass."""
    statistics.add(total.statistics, part.statistics)
    if not alive:
        del total.statistics.memory_usage[:]  # went with the process
    for reason, count in part.failures.items():
        total.failures[reason] += count
    for reason, count in part.batches_closed.items():
        total.batches_closed[reason] += count
    for name, item in part.summaries.items():
        sketch.add(total.summaries[name], item, recent=alive)
    first = part.first_response
    if first.counts:
        if not total.first_response.counts:
            total.first_response.bounds.extend(first.bounds)
            total.first_response.counts.extend([0] * len(first.counts))
        for index, count in enumerate(first.counts):
            total.first_response.counts[index] += count
        total.first_response.sum += first.sum
    if alive:
        total.pending += part.pending
        total.load_ns = max(total.load_ns, part.load_ns)
