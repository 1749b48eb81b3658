"""Which instances may run together, when they share resources: Triton's rate limiter. Pure.

An instance whose batch is ready is *staged*. It starts when there is enough of each resource that it names, and gives
them back when it has finished. Among the staged, those that have run least go first, where a run of an instance of
priority p counts p times; so one of priority 2 runs half as often as one of priority 1.

What an instance has not used is not saved up: one that comes back after an idle time, or is loaded while others run,
goes on at the count of those that run, and does not keep them out until it has caught up.

How much there is of a resource: what the command line says, else the most that any one instance needs.

Different from Triton, counts are not saved up, and an instance for which there is not enough keeps back only those
behind it that want the same resources. Source: RateLimiter and ResourceManager in Triton's core.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tensorhub.errors import InvalidArgument
from tensorhub.option_kinds import EVERY_DEVICE

GLOBAL_DEVICE = -2
"""The device of a resource that all devices share."""


class ResourceKey(NamedTuple):
    """A resource on a device."""

    name: str
    device: int


@dataclass(frozen=True, slots=True)
class Needs:
    """What an instance takes while it runs."""

    resources: Mapping[ResourceKey, int] = field(default_factory=dict)
    weight: int = 1

    @staticmethod
    def from_config(group: Any, device: int) -> "Needs":
        """Read the `rate_limiter` of an `inference.ModelInstanceGroup` whose instance is on a device."""
        limiter = group.rate_limiter
        return Needs(
            {
                ResourceKey(item.name, GLOBAL_DEVICE if getattr(item, "global") else device): item.count
                for item in limiter.resources
            },
            max(1, limiter.priority),
        )


@dataclass(slots=True)
class _Instance:
    needs: Needs
    runs: int = 0


class RateLimiter:
    """The resources of one worker, and who waits for them. Instances are named by any hashable key.

    Args:
        limits: how much there is, by the command line.
    """

    def __init__(self, limits: Mapping[ResourceKey, int] | None = None) -> None:
        self._limits = limits or {}
        self._instances: dict[object, _Instance] = {}
        self._staged: dict[object, int] = {}
        self._taken: dict[ResourceKey, int] = {}
        self._order = 0
        self._count = 0  # runs times weight of the one that started last, before it did

    def __repr__(self) -> str:
        return f"<RateLimiter {len(self._instances)} instances, {len(self._staged)} wait, {self._taken} taken>"

    def add(self, instances: Mapping[object, Needs]) -> None:
        """Make the instances of a model known.

        Raises:
            InvalidArgument: a resource is both of a device and of all, or there is not enough of one for an instance;
                nothing was added.
        """
        for needs in instances.values():
            self._check(needs, [*instances.values(), *(item.needs for item in self._instances.values())])
        self._instances |= {key: _Instance(needs) for key, needs in instances.items()}

    def _check(self, needs: Needs, all_needs: Sequence[Needs]) -> None:
        for key, count in needs.resources.items():
            limit = self._limit(key)
            if limit is not None and limit < count:
                raise InvalidArgument(
                    f'Resource count for "{key.name}" is limited to {limit} which will prevent scheduling of one or '
                    f"more model instances, the minimum required count is {count}"
                )
        every = {key for other in all_needs for key in other.resources}
        for key in needs.resources:
            if any(other.name == key.name and _is_global(other) != _is_global(key) for other in every):
                raise InvalidArgument(
                    f'Resource "{key.name}" is present as both global and device-specific resource in the model '
                    "configuration."
                )

    def _limit(self, key: ResourceKey) -> int | None:
        """What the command line says: if it names any resource, there is nothing of those that it does not name.

        A limit without a device counts for each, and for a global resource.
        """
        if not self._limits:
            return None
        found = self._limits.get(key)
        return found if found is not None else self._limits.get(ResourceKey(key.name, EVERY_DEVICE), 0)

    def remove(self, instances: Iterable[object]) -> None:
        """Forget instances, none of which runs or is staged."""
        for key in instances:
            self._instances.pop(key, None)

    def stage(self, instance: object) -> list[object]:
        """An instance has a batch to run. Return those that start now, which may or may not include it."""
        self._order += 1
        self._staged[instance] = self._order
        item = self._instances[instance]
        item.runs = max(item.runs, self._count // item.needs.weight)
        return self._start()

    def finished(self, instance: object) -> list[object]:
        """An instance has finished its batch. Return those that start now."""
        for key, count in self._instances[instance].needs.resources.items():
            self._taken[key] -= count
        return self._start()

    def _start(self) -> list[object]:
        started = []
        kept_back: set[ResourceKey] = set()
        for key in sorted(self._staged, key=self._turn):
            resources = self._instances[key].needs.resources
            free = all(self._taken.get(item, 0) + count <= self._total(item) for item, count in resources.items())
            if not free or not kept_back.isdisjoint(resources):
                kept_back |= resources.keys()
                continue
            for item, count in resources.items():
                self._taken[item] = self._taken.get(item, 0) + count
            self._count = max(self._count, self._turn(key)[0])
            self._instances[key].runs += 1
            del self._staged[key]
            started.append(key)
        return started

    def _turn(self, key: object) -> tuple[int, int]:
        instance = self._instances[key]
        return instance.runs * instance.needs.weight, self._staged[key]

    def _total(self, key: ResourceKey) -> int:
        limit = self._limit(key)
        if limit is not None:
            return limit
        return max(instance.needs.resources.get(key, 0) for instance in self._instances.values())


def _is_global(key: ResourceKey) -> bool:
    return key.device == GLOBAL_DEVICE
