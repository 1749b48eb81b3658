"""Clients of `--shm-socket` take the regions that workers have made for outputs (`ipc.handed_out`).

    client -- take --> hub -- fetches the file --> worker      the name says which worker has it
    client <-- file -- hub

Here is known which connection has taken what: when it releases that, or ends, however it ends, the worker is told. All
but fetching, which waits for a worker, is on the hub's loop.
"""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tensorhub.errors import InternalError, InvalidArgument, NotFound, TensorhubError
from tensorhub.hub.actions import Action, Send
from tensorhub.ipc.handed_out import Place, maybe_place
from tensorhub.ipc.handles import fetch_handle
from tensorhub.ipc.node import Node
from tensorhub.ipc.region_socket import FileRequest
from tensorhub.protocol import messages

_FETCHING = 4
"""Files that are fetched at a time: a worker that hangs holds up no other one's."""


class _Taken(NamedTuple):
    """Whose connection a region is, and which worker has made it."""

    connection: int
    pid: int
    number: int


class HandOver:
    """See the module."""

    def __init__(self, node: Node, workers: Callable[[], Mapping[str, int]]) -> None:
        """Begin.

        Args:
            workers: returns the pids of the workers by name; 0 for one that is not there.
        """
        self._node = node
        self._workers = workers
        self._taken: dict[str, _Taken] = {}
        self._fetchers = ThreadPoolExecutor(_FETCHING, thread_name_prefix="hand over")
        self.do: Callable[[list[Action]], None] = lambda actions: None

    def take(self, request: FileRequest) -> None:
        """A client wants a region; it is answered when the file is here."""
        name = request.name
        place = maybe_place(name)
        if place is None:
            request.answer(InvalidArgument(f"'{name}' is no name of a region that was made for an output"))
            return
        pid = self._workers().get(place.worker, 0)
        if not pid or name in self._taken:
            request.answer(_not_there(name))
            return
        self._taken[name] = _Taken(request.connection, pid, place.number)
        self._fetchers.submit(self._fetch, request, place, pid)

    def _fetch(self, request: FileRequest, place: Place, pid: int) -> None:
        """On a thread of its own."""
        try:
            fd = fetch_handle(self._node.run_dir.handles(pid), place.number)
        except InternalError:
            fd = -1
        self._node.post(lambda: self._fetched(request, fd))

    def _fetched(self, request: FileRequest, fd: int) -> None:
        taken = self._taken.get(request.name)
        waits = taken is not None and taken.connection == request.connection  # else it has ended meanwhile
        if fd < 0:
            request.answer(_not_there(request.name))
            sent = False
        else:
            sent = waits and request.answer(None, fd)
            os.close(fd)
        if waits and not sent:
            self._release(request.name)

    def release(self, request: FileRequest) -> None:
        """A client has no more use for a region, which it need not have taken; unknown ones are released already."""
        place = maybe_place(request.name)
        error: TensorhubError | None = None
        if place is None:
            error = InvalidArgument(f"'{request.name}' is no name of a region that was made for an output")
        elif request.name in self._taken:
            self._release(request.name)
        else:
            self._tell(self._workers().get(place.worker, 0), place.number)
        request.answer(error)

    def ended(self, connection: int) -> None:
        """A connection has ended: what it has taken is released."""
        for name in [name for name, taken in self._taken.items() if taken.connection == connection]:
            self._release(name)

    def _release(self, name: str) -> None:
        taken = self._taken.pop(name, None)
        if taken is not None:
            self._tell(taken.pid, taken.number)

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
