"""What clients ask over `--shm-socket`: regions that come as files, from a request to the hub's state.

The hub, the workers and the supervisor (`region_keeper`) all keep the files, so that none is lost while one of them is
there: a worker gets them from the hub, and a hub that comes gets them from whom it hears of them (`recover`).

Everything but the socket's own thread and the one that recovers runs on the hub's loop.
"""

import itertools
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tensorhub.errors import InternalError, TensorhubError, Unsupported
from tensorhub.hub.actions import Action, Asker
from tensorhub.hub.clients import ClientWatch
from tensorhub.hub.hand_over import HandOver
from tensorhub.hub.state import HubState
from tensorhub.ipc.growth import Extent, grown_byte_size
from tensorhub.ipc.handles import HandleServer, fetch_handle
from tensorhub.ipc.node import Node
from tensorhub.ipc.region_socket import Answering, FileRequest, RegionSocket
from tensorhub.option_groups import SharedMemory
from tensorhub.ownership import LOCAL
from tensorhub.protocol import messages
from tensorhub.protocol.sharing import DISABLED_TEXT

log = logging.getLogger(__name__)

ROLE = "FILE"
"""The role of an Asker that came over the socket."""


class FileRegions:
    """See the module."""

    def __init__(
        self,
        node: Node,
        options: SharedMemory,
        state: HubState,
        clients: ClientWatch,
        inherited: Callable[[int, int], None],
    ) -> None:
        """Be ready to `open`.

        Args:
            inherited: see HandOver.
        """
        self._node = node
        self._state = state
        self._clients = clients
        self._scope = options.shm_scope
        self._files = HandleServer(node.run_dir.handles(node.pid))
        self._to_recover: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        self._recovering = False
        self._answers: dict[int, Answering] = {}
        self._numbers = itertools.count(1)
        self._do: Callable[[list[Action]], None] = lambda actions: None
        self._when_known: Callable[[Callable[[], None]], None] = lambda call: call()
        self._socket: RegionSocket | None = None
        self._options = options
        self._hand_over = HandOver(node, lambda: state.lifecycle.workers.pids, inherited)

    def open(self, do: Callable[[list[Action]], None], when_known: Callable[[Callable[[], None]], None]) -> None:
        """Begin to listen, if a socket is asked for.

        Args:
            do: carries actions out.
            when_known: calls in turn, once the regions of another hub are known: a region that is not known yet can
                neither be unregistered nor be in the way of a new one.

        Raises:
            OSError: the socket cannot be made.
        """
        self._do = self._hand_over.do = do
        self._when_known = when_known
        self._files.start()
        if self._options.shm_socket:
            self._socket = RegionSocket(
                Path(self._options.shm_socket), self._options.shm_allowed_uids, self._take, self._ended
            )
            self._socket.start()

    def _take(self, request: FileRequest) -> None:
        """On the socket's thread."""
        self._node.post(lambda: self._when_known(lambda: self._decide(request)))

    def _ended(self, connection: int) -> None:
        """On the socket's thread."""
        self._node.post(lambda: self._when_known(lambda: self._hand_over.ended(connection)))

    def _decide(self, request: FileRequest) -> None:
        owner = self._owner(request)
        if self._options.allow_client_shm == "false":
            if request.fd >= 0:
                os.close(request.fd)
            request.answer(Unsupported(DISABLED_TEXT))
        elif request.operation == "take":
            self._hand_over.take(request, owner)
        elif request.operation == "release":
            self._hand_over.release(request, owner)
        elif request.operation == "try":
            self._hand_over.try_out(request, owner)
        else:
            self._register(request, owner)

    def made(self, pid: int, report: Any, request_id: int) -> None:
        """A worker says what became of an order to make a region."""
        self._hand_over.made(pid, report, request_id)

    def worker_died(self, pid: int) -> None:
        """A process is no more that may have made regions for outputs."""
        self._hand_over.worker_died(pid)

    def _register(self, request: FileRequest, owner: str) -> None:
        asker = Asker(ROLE, 0, next(self._numbers), 0)
        self._answers[asker.request_id] = request.answer
        try:
            if request.operation == "unregister":
                actions = self._state.unregister("system", owner, request.name, asker)
            else:
                message = messages.SystemRegion(
                    name=request.name,
                    offset=request.offset,
                    byte_size=request.byte_size,
                    owner=owner,
                    client_pid=request.client_pid,
                    client_ticks=request.client_ticks,
                    handle=self._files.add(request.fd),
                    growable=request.growable,
                )
                actions = self._state.register("system", self._clients.mark(message, ""), asker)
            self._do(actions)
        except TensorhubError as exc:
            self.answer(asker, exc)
            self.forget_closed()

    def recover(self, pid: int, regions: Iterable[Any]) -> None:
        """A process has come with regions; call it before anybody is told to open them.

        Args:
            regions: `tensorhub.wire.SystemRegion`s.
        """
        for number in {region.handle for region in regions if region.handle and not self._files.has(region.handle)}:
            self._files.expect(number)
            self._to_recover.put((pid, number))
            if not self._recovering:
                self._recovering = True
                threading.Thread(target=self._recover, name="region files", daemon=True).start()

    def _recover(self) -> None:
        """Fetch files of another hub's from those that have them, as long as the process lives."""
        while True:
            pid, number = self._to_recover.get()
            try:
                if not self._files.has(number):
                    self._files.keep(number, fetch_handle(self._node.run_dir.handles(pid), number))
            except InternalError as exc:
                log.warning("the file of a region is not to be had of process %d: %s", pid, exc.message)
            finally:
                self._files.settle(number)

    def _owner(self, request: FileRequest) -> str:
        """Whose region it is: a header is what the client says it is; over a Unix socket everybody is local."""
        if self._scope.startswith("header:"):
            return request.owner
        return LOCAL if self._scope == "peer" else ""

    def answer(self, asker: Asker, error: TensorhubError | None) -> None:
        """Tell a client what became of its request."""
        answer = self._answers.pop(asker.request_id, None)
        if answer is not None:
            answer(error)

    def grown_byte_size(self) -> int:
        """By how many bytes the files of regions are larger than what is registered of them.

        One that this hub has not got yet from the process that had it does not count.
        """
        found = [(message, self._files.maybe_stat(message.handle)) for message in self._state.regions.growing()]
        return grown_byte_size(
            Extent((file.st_dev, file.st_ino), file.st_size, message.offset + message.byte_size)
            for message, file in found
            if file is not None
        )

    def forget_closed(self) -> None:
        """Close the files of regions that are no more."""
        self._files.keep_only(self._state.regions.handles())

    def close(self) -> None:
        """Stop listening, and close all files."""
        if self._socket is not None:
            self._socket.close()
        self._hand_over.close()
        self._files.close()
