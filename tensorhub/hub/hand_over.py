"""Clients of `--shm-socket` take the regions that workers have made for outputs (`ipc.handed_out`).

    client -- take --> hub -- fetches the file --> worker      the name says which worker has it
    client <-- file -- hub

    client --- try --> hub -- make one --> any worker      so that a client finds out whether it could take one at all

Here is known which connection has taken what: when it releases that, or ends, however it ends, the worker is told. What
is left of a worker that has died is counted here instead. All but fetching, which waits for a worker, is on the hub's
loop.
"""

import itertools
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from tensorhub.errors import InternalError, InvalidArgument, NotFound, TensorhubError, Unavailable, error_for
from tensorhub.hub.actions import Action, Send
from tensorhub.ipc.handed_out import maybe_place
from tensorhub.ipc.handles import fetch_handle
from tensorhub.ipc.node import Node
from tensorhub.ipc.region_socket import FileRequest
from tensorhub.protocol import messages

_FETCHING = 4
"""Files that are fetched at a time: a worker that hangs holds up no other one's."""


class _Taken(NamedTuple):
    """What a client has taken, or is about to.

    Attributes:
        pid: of the worker that has made it; 0: it has died.
        file: its number there.
    """

    connection: int
    pid: int
    file: int
    byte_size: int = 0


_Key = tuple[str, str]
"""(owner, name)."""


class HandOver:
    """See the module."""

    def __init__(
        self, node: Node, workers: Callable[[], Mapping[str, int]], inherited: Callable[[int, int], None]
    ) -> None:
        """Begin.

        Args:
            workers: returns the pids of the workers by name; 0 for one that is not there.
            inherited: is told number and bytes of what clients have of workers that have died.
        """
        self._node = node
        self._workers = workers
        self._inherited = inherited
        self._taken: dict[_Key, _Taken] = {}
        self._trials: dict[int, tuple[FileRequest, int]] = {}  # by request id; the worker's pid with it
        self._trial_ids = itertools.count(1)
        self._fetchers = ThreadPoolExecutor(_FETCHING, thread_name_prefix="hand over")
        self.do: Callable[[list[Action]], None] = lambda actions: None

    def take(self, request: FileRequest, owner: str) -> None:
        """A client, who is `owner`, wants a region; it is answered when the file is here."""
        name = request.name
        key = owner, name
        place = maybe_place(name)
        if place is None:
            request.answer(InvalidArgument(f"'{name}' is no name of a region that was made for an output"))
            return
        pid = self._workers().get(place.worker, 0)
        if not pid or key in self._taken:
            request.answer(_not_there(name))
            return
        self._taken[key] = taken = _Taken(request.connection, pid, place.file_of(owner))
        self._fetchers.submit(self._fetch, request, key, taken)

    def _fetch(self, request: FileRequest, key: _Key, taken: _Taken) -> None:
        """On a thread of its own."""
        try:
            fd = fetch_handle(self._node.run_dir.handles(taken.pid), taken.file)
        except InternalError:
            fd = -1
        self._node.post(lambda: self._fetched(request, key, fd))

    def _fetched(self, request: FileRequest, key: _Key, fd: int) -> None:
        taken = self._taken.get(key)
        waits = taken is not None and taken.connection == request.connection  # else it has ended meanwhile
        if fd < 0:
            request.answer(_not_there(request.name))
            sent = False
        else:
            if taken is not None and waits:
                self._taken[key] = taken._replace(byte_size=os.fstat(fd).st_size)
            sent = waits and request.answer(None, fd)
            os.close(fd)
        if waits and not sent:
            self._release(key)

    def try_out(self, request: FileRequest, owner: str) -> None:
        """A client, who is `owner`, wants any region to take; it is answered when a worker has made one."""
        pid = next((pid for pid in self._workers().values() if pid), 0)
        if not pid:
            request.answer(Unavailable("no worker is running; try again"))
            return
        number = next(self._trial_ids)
        self._trials[number] = request, pid
        order = messages.Order()
        order.make_region.owner = owner
        self.do([Send(pid, order, number)])

    def made(self, pid: int, report: Any, request_id: int) -> None:
        """A worker has made a region to try, or cannot: `report` is a `tensorhub.wire.MadeRegion`."""
        request, asked = self._trials.get(request_id, (None, 0))
        if request is not None and asked == pid:
            del self._trials[request_id]
            request.answer(error_for(report.code - 1, report.message) if report.code else None, name=report.name)

    def release(self, request: FileRequest, owner: str) -> None:
        """A client has no more use for a region, which it need not have taken; unknown ones are released already."""
        place = maybe_place(request.name)
        error: TensorhubError | None = None
        if place is None:
            error = InvalidArgument(f"'{request.name}' is no name of a region that was made for an output")
        elif (owner, request.name) in self._taken:
            self._release((owner, request.name))
        else:
            self._tell(self._workers().get(place.worker, 0), place.file_of(owner))
        request.answer(error)

    def ended(self, connection: int) -> None:
        """A connection has ended: what it has taken is released."""
        for key in [key for key, taken in self._taken.items() if taken.connection == connection]:
            self._release(key)

    def worker_died(self, pid: int) -> None:
        """A worker is no more, and so is its account of what it has made; what clients have taken is still theirs."""
        for key in [key for key, taken in self._taken.items() if taken.pid == pid]:
            self._taken[key] = self._taken[key]._replace(pid=0)
        self._count_inherited()
        for number in [number for number, (_, asked) in self._trials.items() if asked == pid]:
            request, _ = self._trials.pop(number)
            request.answer(Unavailable("the worker that was asked has ended; try again"))

    def _count_inherited(self) -> None:
        sizes = [taken.byte_size for taken in self._taken.values() if not taken.pid]
        self._inherited(len(sizes), sum(sizes))

    def _release(self, key: _Key) -> None:
        taken = self._taken.pop(key, None)
        if taken is None:
            return
        if taken.pid:
            self._tell(taken.pid, taken.file)
        else:
            self._count_inherited()

    def _tell(self, pid: int, number: int) -> None:
        if pid:
            order = messages.Order()
            order.release_handed_out.numbers.append(number)
            self.do([Send(pid, order)])

    def close(self) -> None:
        """Fetch no more."""
        self._fetchers.shutdown(wait=False, cancel_futures=True)


def _not_there(name: str) -> NotFound:
    return NotFound(
        f"there is no region '{name}' to take: it has been taken or released, nobody took it within "
        "--shm-allocate-timeout-secs, or the worker that made it has ended"
    )
