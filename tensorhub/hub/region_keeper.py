"""What the supervisor keeps of the registered regions, so that they outlive a hub and all workers that die at once.

    snapshot --> which regions there are; the files of those that came as one are fetched from the hub
    HELLO    --> the next hub is told of them, and fetches the files here, as it does from a worker (`file_regions`)

A hub that hears of regions from a worker that lived on knows better, and does not ask for these (`loop`).
"""

import logging
import queue
import resource
import threading
from typing import Any

from tensorhub.errors import InternalError
from tensorhub.ipc.handles import HandleServer, fetch_handle
from tensorhub.ipc.rundir import RunDir

log = logging.getLogger(__name__)


class RegionKeeper:
    """See the module. For one thread, but for the fetching, which waits for the hub and has a thread of its own."""

    def __init__(self, run_dir: RunDir, pid: int, limit: int | None = None) -> None:
        """Begin with nothing.

        Args:
            pid: of this process.
            limit: most files that are kept; None: half of those that this process may have open.
        """
        self._run_dir = run_dir
        self._pid = pid
        self._limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 if limit is None else limit
        self._files: HandleServer | None = None  # not before the first one comes
        self._system: list[Any] = []
        self._cuda: list[Any] = []
        self._wanted: frozenset[int] = frozenset()
        self._asked: set[int] = set()
        self._to_fetch: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._fetch, name="region files", daemon=True)

    def __repr__(self) -> str:
        return f"<RegionKeeper {len(self._system) + len(self._cuda)} regions>"

    def follow(self, snapshot: Any) -> None:
        """Keep the regions of a `tensorhub.wire.Snapshot`, and no others."""
        self._system, self._cuda = list(snapshot.system_regions), list(snapshot.cuda_regions)
        wanted = frozenset(region.handle for region in self._system if region.handle)
        if wanted == self._wanted:
            return
        self._wanted = wanted
        self._asked &= wanted
        if self._files is None:
            self._files = HandleServer(self._run_dir.handles(self._pid))
            self._files.start()
            self._thread.start()
        self._files.keep_only(wanted)
        for number in sorted(wanted - self._asked)[: max(0, self._limit - len(self._asked))]:
            self._asked.add(number)
            self._to_fetch.put((snapshot.hub_pid, number))

    def _fetch(self) -> None:
        assert self._files is not None
        while (asked := self._to_fetch.get()) is not None:
            hub_pid, number = asked
            try:
                fd = fetch_handle(self._run_dir.handles(hub_pid), number)
            except InternalError as exc:
                log.info("the file of a region is not kept: %s", exc.message)
                continue
            self._files.keep(number, fd)
            if number not in self._wanted:
                self._files.drop(number)

    def fill(self, hello: Any) -> None:
        """Tell a hub in a `tensorhub.wire.Hello` what is kept: the last that was known of the regions."""
        hello.system_regions.extend(self._system)
        hello.cuda_regions.extend(self._cuda)

    def close(self) -> None:
        """Keep nothing any more."""
        if self._files is not None:
            self._to_fetch.put(None)
            self._thread.join()
            self._files.close()
