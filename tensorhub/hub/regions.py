"""Which regions are registered, and which workers still have to open or close them. Pure.

A region has an owner and a name; without a scope (`--shm-scope=global`) all have the owner "". A registration is
answered after every worker has opened the region; one that a worker refuses is closed by the others before the client
hears of it, so that the name is free by then. An unregistration is answered when all workers have closed it.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tensorhub.errors import AlreadyExists, InvalidArgument, TensorhubError, Unavailable, error_for
from tensorhub.hub.actions import Action, Answer, Asker, Send
from tensorhub.option_groups import SharedMemory
from tensorhub.protocol import messages

MAX_NAME_SIZE = 4_096
"""Bytes of a region's name: it is in every snapshot, which goes to every process."""

Account = Callable[[int, int], tuple[int, int]]
"""Is told number and bytes of all registered regions; returns those of what workers have made for outputs, or raises
Unavailable if it has noted the one and cannot tell the other."""

RegionKey = tuple[str, str]
"""(owner, name)."""


@dataclass(slots=True)
class _Unregistration:
    """Somebody who waits until regions are closed; `left`: how many of them are not."""

    asker: Asker
    left: int = 0


@dataclass(slots=True)
class Region:
    """A region.

    Attributes:
        waiting: the orders that have not been answered yet, each with the pid of the worker that has it.
        asker: who registers it.
        unregistrations: who waits until it is closed, whoever has begun that.
        refusals: of workers that cannot open a CUDA region, whose GPU is another.
        adopted: another hub has registered it.
    """

    kind: str
    message: Any
    active: bool = False
    waiting: dict[int, int] = field(default_factory=dict)
    error: TensorhubError | None = None
    asker: Asker | None = None
    closing: bool = False
    unregistrations: list[_Unregistration] = field(default_factory=list)
    refusals: list[TensorhubError] = field(default_factory=list)
    adopted: bool = False

    @property
    def key(self) -> RegionKey:
        return self.message.owner, self.message.name

    @property
    def shown(self) -> bool:
        """Clients see it and may use it."""
        return self.active and not self.closing


class RegionBook:
    """See the module. `changed` tells that the snapshot has; whoever reads it sets it back."""

    def __init__(
        self,
        limits: SharedMemory,
        workers: Callable[[], Sequence[int]],
        gpu_missing: Callable[[], bool] = lambda: False,
        account: Account = lambda count, byte_size: (0, 0),
        grown: Callable[[], int] = lambda: 0,
    ) -> None:
        """Begin empty.

        Args:
            workers: returns the pids of the workers that are there.
            gpu_missing: tells whether the worker of some GPU is not there.
            account: of what counts against the same limits.
            grown: tells by how many bytes regions have become larger since they were registered.
        """
        self._limits = limits
        self._workers = workers
        self._gpu_missing = gpu_missing
        self._account = account
        self._grown = grown
        self._byte_size = 0
        self._regions: dict[RegionKey, Region] = {}
        self._gone: set[RegionKey] = set()  # of another hub's regions; a worker that comes late may have them yet
        self._requests: dict[int, RegionKey] = {}
        self._next_request_id = 1
        self.changed = False

    def __repr__(self) -> str:
        return f"<RegionBook {len(self._regions)} regions>"

    def shown(self) -> Iterable[Region]:
        """The regions that clients see."""
        return [region for region in self._regions.values() if region.shown]

    def growing(self) -> list[Any]:
        """The `tensorhub.wire.SystemRegion`s that may become larger."""
        return [
            region.message
            for region in self._regions.values()
            if region.kind == "system" and region.message.handle and region.message.growable
        ]

    def handles(self) -> set[int]:
        """The numbers of the files that regions came as."""
        return {region.message.handle for region in self._regions.values() if region.kind == "system"} - {0}

    def register(self, kind: str, message: Any, asker: Asker) -> list[Action]:
        """A client registers a region: every worker opens it before the client hears OK.

        Raises:
            AlreadyExists: the name is taken.
            InvalidArgument: the name cannot be one.
            Unavailable: there is no worker, or a limit is reached.
        """
        if (message.owner, message.name) in self._regions:
            raise AlreadyExists(f"shared memory region '{message.name}' already in manager")
        pids = self._workers()
        if not pids:
            raise Unavailable("no worker is running; try again")
        if len(message.name.encode()) > MAX_NAME_SIZE:
            raise InvalidArgument(
                f"failed to register a shared memory region: its name has more than {MAX_NAME_SIZE} bytes"
            )
        region = Region(kind, message, asker=asker)
        self._add(region)
        try:
            self._check_limits(message)
        except Unavailable:
            self._remove(region)
            raise
        return self._open(region, pids)

    def _add(self, region: Region) -> None:
        self._regions[region.key] = region
        self._byte_size += region.message.byte_size

    def _remove(self, region: Region) -> None:
        del self._regions[region.key]
        self._byte_size -= region.message.byte_size
        if region.adopted:
            self._gone.add(region.key)
        self._note()

    def _note(self) -> None:
        """Tell what is registered now, where it does not matter what else there is."""
        with suppress(Unavailable):
            self._account(len(self._regions), self._byte_size)

    def _check_limits(self, message: Any) -> None:
        """Check that all regions, with this one, and all that was made for outputs are within the limits."""
        limits = self._limits
        handed_out, handed_byte_size = self._account(len(self._regions), self._byte_size)
        where = f"failed to register shared memory region '{message.name}'"
        if len(self._regions) + handed_out > limits.shm_max_regions:
            more = f" and {handed_out} handed out" if handed_out else ""
            raise Unavailable(
                f"{where}: {len(self._regions) - 1} regions are registered{more}, and --shm-max-regions allows no "
                "more; unregister those that are not used"
            )
        grown = self._grown() if limits.shm_max_byte_size else 0
        if limits.shm_max_byte_size and self._byte_size + grown + handed_byte_size > limits.shm_max_byte_size:
            more = f" and have become {grown} larger" if grown else ""
            more += f" and {handed_byte_size} handed out" if handed_out else ""
            before = self._byte_size - message.byte_size
            raise Unavailable(
                f"{where}: it has {message.byte_size} bytes, {before} are registered{more}, and --shm-max-byte-size "
                f"allows {limits.shm_max_byte_size} together; unregister what is not used"
            )

    def unregister(self, kind: str, owner: str, name: str, asker: Asker) -> list[Action]:
        """A client lets a region go, or (name "") all its owner's of that kind; unknown ones are gone already."""
        if name:
            found = [self._regions[(owner, name)]] if (owner, name) in self._regions else []
        else:
            found = [region for region in self._regions.values() if region.message.owner == owner]
        actions: list[Action] = []
        unregistration = _Unregistration(asker)
        for region in [region for region in found if region.kind == kind]:
            if region.shown:
                actions += self._close(region)
            if region.closing and region.waiting:  # perhaps for some time: what is reaped is not shown either
                region.unregistrations.append(unregistration)
                unregistration.left += 1
        return actions if unregistration.left else [*actions, Answer(asker)]

    def reap(self, keys: Iterable[RegionKey]) -> list[Action]:
        """The memory of these regions is no longer of use to anybody."""
        found = [self._regions[key] for key in keys if key in self._regions]
        return [action for region in found if region.shown for action in self._close(region)]

    def client_died(self, pid: int, ticks: int) -> list[Action]:
        """The process that has registered regions is no more."""
        return self.reap(
            region.key
            for region in list(self._regions.values())
            if (region.message.client_pid, region.message.client_ticks) == (pid, ticks)
        )

    def joined(self, pid: int, hello: Any) -> list[Action]:
        """A worker has come: adopt what another hub had it open, and have it close what is gone and open the rest."""
        held = set()
        actions: list[Action] = []
        for kind, messages_ in (("system", hello.system_regions), ("cuda", hello.cuda_regions)):
            for message in messages_:
                key = (message.owner, message.name)
                region = self._regions.get(key)
                if region is None and key not in self._gone:
                    self._adopt(kind, message)
                elif region is None or region.closing or not _is_same(region.message, message):
                    actions.append(self._send(pid, _close_order(key)))
                    continue
                held.add(key)
        self._note()
        for key, region in self._regions.items():
            if not region.closing and key not in held:
                actions += self._open(region, [pid])
        return actions

    def kept(self, kind: str, messages_: Iterable[Any]) -> list[Action]:
        """Adopt what another hub had, and no worker has any more."""
        actions = [
            action
            for region in [self._adopt(kind, message) for message in messages_]
            if region is not None
            for action in self._open(region, self._workers())
        ]
        self._note()
        return actions

    def _adopt(self, kind: str, message: Any) -> Region | None:
        """Note a region that another hub had; None if its name is there already."""
        if (message.owner, message.name) in self._regions:
            return None
        copy = type(message)()
        copy.CopyFrom(message)
        region = Region(kind, copy, active=True, adopted=True)
        self._add(region)
        self.changed = True
        return region

    def left(self, pid: int) -> list[Action]:
        """A worker has died: nobody waits for it any more."""
        actions: list[Action] = []
        for region in list(self._regions.values()):
            orders = [request_id for request_id, asked in region.waiting.items() if asked == pid]
            for request_id in orders:
                del region.waiting[request_id], self._requests[request_id]
            if orders:
                actions += self._settle(region)
        return actions

    def reported(self, report: Any, request_id: int) -> list[Action]:
        """A worker says what became of an order about a region."""
        region = self._regions.get(self._requests.pop(request_id, ("", "")))
        if region is None or region.waiting.pop(request_id, None) is None:
            return []
        if not region.closing:
            error = error_for(report.code - 1, report.message) if report.code else None
            if region.kind == "cuda":
                self._cuda_reported(region, report, error)
            elif error is not None and region.error is None:
                region.error = error
        return self._settle(region)

    def _cuda_reported(self, region: Region, report: Any, error: TensorhubError | None) -> None:
        """A worker has opened a CUDA region, or cannot: then it is another GPU's, or else nobody's any more."""
        if report.region_gpu:
            region.message.uuid = report.region_gpu
            self.changed = True
        elif error is not None:
            region.refusals.append(error)
            if region.active and report.own_gpu == region.message.uuid:
                region.error = error

    def _open(self, region: Region, pids: Sequence[int]) -> list[Action]:
        actions: list[Action] = []
        for pid in pids:
            order = messages.Order()
            target = order.open_system_region if region.kind == "system" else order.open_cuda_region
            target.region.CopyFrom(region.message)
            actions.append(self._order(pid, region, order))
        return actions

    def _close(self, region: Region) -> list[Action]:
        region.closing = True
        self.changed = True
        actions: list[Action] = []
        for pid in self._workers():
            actions.append(self._order(pid, region, _close_order(region.key)))
        if not region.waiting:
            self._remove(region)
        return actions

    def _order(self, pid: int, region: Region, order: Any) -> Send:
        send = self._send(pid, order)
        self._requests[send.request_id] = region.key
        region.waiting[send.request_id] = pid
        return send

    def _send(self, pid: int, order: Any) -> Send:
        request_id, self._next_request_id = self._next_request_id, self._next_request_id + 1
        return Send(pid, order, request_id)

    def _settle(self, region: Region) -> list[Action]:
        if region.waiting:
            return []
        self.changed = True
        if region.kind == "cuda" and not region.active and not region.message.uuid and region.refusals:
            # Nobody has opened it. A worker that got at the memory has one reason; the others list what they tried.
            region.error = min(region.refusals, key=lambda error: len(error.message))
            if self._gpu_missing():
                region.error = Unavailable(
                    f"failed to register shared memory region '{region.message.name}': the worker of a GPU is being "
                    f"restarted; try again. The others say: {region.error.message}"
                )
        region.refusals.clear()
        if region.error is not None and not region.closing:
            # The name is free again when the client hears of the failure: those that did open it close it first.
            actions = self._close(region)
            return actions if region.waiting else actions + self._answer(region)
        if region.closing:
            self._remove(region)
        region.active = True
        return self._answer(region)

    def _answer(self, region: Region) -> list[Action]:
        asker, region.asker = region.asker, None
        answers: list[Action] = [] if asker is None else [Answer(asker, region.error)]
        for unregistration in region.unregistrations:
            unregistration.left -= 1
            if not unregistration.left:
                answers.append(Answer(unregistration.asker))
        return answers


def _close_order(key: RegionKey) -> Any:
    order = messages.Order()
    order.close_region.owner, order.close_region.name = key
    return order


def _is_same(region: Any, other: Any) -> bool:
    """Whether two messages tell of the same memory: of a CUDA region one may know the GPU already."""
    if type(region) is not type(other):
        return False
    copy = type(other)()
    copy.CopyFrom(other)
    if isinstance(copy, messages.CudaRegion):
        copy.uuid = region.uuid
    return bool(copy == region)
