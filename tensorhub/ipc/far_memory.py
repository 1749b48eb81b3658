"""Memory of a GPU that this process does not see: copied by a worker of that GPU, over the host.

A GPU worker sees no GPU but its own. So when a request that runs on one GPU has a tensor on another one, its worker
asks a worker of that other GPU, over a Unix socket in the run directory: one connection for each pair, which begins
with the descriptor of the asker's arena. Then come requests of a fixed size, each answered by a code (0: done) and a
text:

    what (1 read, 2 write), handle, client's device, offset in the allocation, byte size, offset in the asker's arena

Memory is named by its handle and not by its region, whose name may be another region's by now: a handle means the same
allocation as long as there is one. The asked side has a thread for each connection, which never waits for a worker's
loop, so two workers that ask each other at the same time do not wait for ever.
"""

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tensorhub.devices import HANDLE_BYTE_SIZE, DeviceMemory
from tensorhub.errors import InternalError, InvalidArgument, TensorhubError, Unavailable, error_for
from tensorhub.ipc.arena_memory import Arena, Block, PeerArena
from tensorhub.ipc.copying import fill
from tensorhub.ipc.cuda_regions import HandleTable
from tensorhub.ipc.descriptors import connections_of_our_user, maybe_receive_descriptor, send_descriptor
from tensorhub.ipc.rundir import RunDir

_REQUEST = struct.Struct(f"<B{HANDLE_BYTE_SIZE}sqQQQ")
_ANSWER = struct.Struct("<BI")
"""0 or one more than the error's code, and how many bytes its text has."""

_READ, _WRITE = 1, 2
TIMEOUT_S = 30.0
"""For a copy of any size; a worker that is alive and takes longer has a GPU that is stuck."""


class CopyServer:
    """Copies between this process's GPU and the arenas of those who ask. Runs a thread from `start` on, and one more
    for each peer."""

    def __init__(
        self, path: Path, handles: HandleTable, failed: Callable[[TensorhubError], None] = lambda error: None
    ) -> None:
        """Be ready to `start`.

        Args:
            failed: is told of every copy that has failed, on any thread.
        """
        self._path = path
        self._handles = handles
        self._failed = failed
        self._closed = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def start(self) -> None:
        self._path.unlink(missing_ok=True)
        self._listener.bind(os.fspath(self._path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, name="device copies", daemon=True).start()

    def _accept(self) -> None:
        for connection in connections_of_our_user(self._listener, self._closed):
            threading.Thread(target=self._serve, args=(connection,), name="device copies", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                fd = maybe_receive_descriptor(connection)
                if fd is None:
                    return
                try:
                    arena = PeerArena(fd)
                finally:
                    os.close(fd)
                while len(asked := connection.recv(_REQUEST.size, socket.MSG_WAITALL)) == _REQUEST.size:
                    code, text = self._answer(arena, asked)
                    connection.sendall(_ANSWER.pack(code, len(text)) + text)
            except (OSError, InternalError):
                return  # the peer has gone, or is none of ours

    def _answer(self, arena: PeerArena, asked: bytes) -> tuple[int, bytes]:
        what, handle, device_hint, offset, byte_size, place = _REQUEST.unpack(asked)
        try:
            if what not in (_READ, _WRITE):
                raise InvalidArgument(f"no operation has the number {what}")
            view = arena.view(place, byte_size)
            opened = self._handles.open("", handle, device_hint)
            try:
                if offset + byte_size > opened.byte_size:
                    raise InvalidArgument(f"its allocation has {opened.byte_size} bytes")
                memory = DeviceMemory(self._handles.port, opened.ordinal, opened.pointer + offset, byte_size, opened)
                if what == _READ:
                    memory.read_into(view)
                else:
                    memory.fill(view)
            finally:
                self._handles.release(opened)
        except TensorhubError as exc:
            self._failed(exc)
            return 1 + exc.code, exc.message.encode("utf-8", "replace")
        return 0, b""

    def close(self) -> None:
        """Stop listening; connections end with their peers, or with this process."""
        self._closed.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._path.unlink(missing_ok=True)


class FarLease:
    """A pinned range of memory that this process does not see; see tensorhub.memory.Lease.

    Attributes:
        view: a private copy in this process's arena.
    """

    __slots__ = ("_block", "_copy", "_released", "view")

    device = None

    def __init__(self, block: Block, copy: Callable[[int, int], None], released: Callable[[], None]) -> None:
        self._block: Block | None = block
        self._copy = copy
        self._released: Callable[[], None] | None = released
        self.view = block.view

    def pull(self) -> None:
        """Fill `view`; see `commit`."""
        self._copied(_READ, len(self.view))

    def fill(self, data: memoryview) -> None:
        """See tensorhub.memory.Lease."""
        fill(self.view, data)

    def grow(self, byte_size: int) -> None:
        """Never: the memory of a GPU does not grow."""
        raise InvalidArgument("the memory of a GPU cannot be made larger")

    def copy_to_host(self) -> bytearray:
        """Return one more copy."""
        return bytearray(self.view)

    def commit(self, byte_size: int) -> None:
        """Copy the first bytes to where they belong.

        Raises:
            TensorhubError: that GPU's worker has died, or cannot.
        """
        self._copied(_WRITE, byte_size)

    def _copied(self, what: int, byte_size: int) -> None:
        try:
            self._copy(what, byte_size)
        except _PeerStuck:
            # SAFETY: it may still copy, whenever it comes to: nobody else must ever get this block.
            self._block = None
            raise

    def release(self) -> None:
        """End the use; does nothing the second time."""
        released, self._released = self._released, None
        if released is not None:
            self.discard()
            released()

    def discard(self) -> None:
        """Free the copy alone."""
        block, self._block = self._block, None
        if block is not None:
            block.free()


class FarMemory:
    """Asks the workers of other GPUs. Thread-safe."""

    def __init__(
        self,
        run_dir: RunDir,
        arena: Arena,
        workers: Callable[[str, str], Iterable[int]],
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Begin without connections.

        Args:
            arena: of this process.
            workers: returns by a region's owner and name the pids of the workers that may see its GPU.
        """
        self._run_dir = run_dir
        self._arena = arena
        self._workers = workers
        self._timeout_s = timeout_s
        self._peers: dict[int, _Peer] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<FarMemory {len(self._peers)} peers>"

    def lease(
        self,
        region: Any,
        offset: int,
        byte_size: int,
        *,
        writable: bool,
        copied: Callable[[], None],
        released: Callable[[], None],
    ) -> FarLease:
        """Pin a range of a `tensorhub.wire.CudaRegion`, which has been checked to be inside of it.

        Args:
            copied: is called for each copy.
            released: is called when the lease ends; not if this raises.

        Raises:
            Unavailable: this process's arena is full, or that GPU's worker is not there.
            TensorhubError: that GPU's worker cannot.
        """
        block = self._arena.allocate(byte_size)

        def copy(what: int, used: int) -> None:
            self._ask(what, region, offset, used, block.offset)
            copied()

        pinned = FarLease(block, copy, released)
        if not writable:
            try:
                pinned.pull()
            except BaseException:
                pinned.discard()
                raise
        return pinned

    def _ask(self, what: int, region: Any, offset: int, byte_size: int, place: int) -> None:
        request = _REQUEST.pack(what, region.raw_handle, region.device_id, offset, byte_size, place)
        refusals: list[TensorhubError] = []
        for pid in self._workers(region.owner, region.name):
            try:
                self._peer(pid).ask(request)
                return
            except _PeerStuck:
                raise  # another worker's answer would not tell whether this one still copies
            except _PeerGone:
                refusals.append(Unavailable("its GPU's worker is being restarted; try again"))
            except TensorhubError as exc:
                refusals.append(exc)
        if not refusals:
            refusals.append(Unavailable("no worker of another GPU is running; try again"))
        # A worker that got at the memory has one reason; those of other GPUs list what they tried.
        reason = min(refusals, key=lambda error: len(error.message))
        raise error_for(
            reason.code,
            f"shared memory region '{region.name}' cannot be copied to where the model runs: {reason.message}",
        )

    def _peer(self, pid: int) -> "_Peer":
        gone: list[_Peer] = []
        try:
            with self._lock:
                found = self._peers.get(pid)
                if found is None or found.closed:
                    for other in [other for other in self._peers if not self._run_dir.copies(other).exists()]:
                        gone.append(self._peers.pop(other))  # of a worker that has died, or is about to end
                    found = self._peers[pid] = _Peer(self._run_dir.copies(pid), self._arena.fd, self._timeout_s)
                return found
        finally:
            for peer in gone:
                peer.close()

    def close(self) -> None:
        """Let the connections go."""
        with self._lock:
            peers, self._peers = self._peers, {}
        for peer in peers.values():
            peer.interrupt()
            peer.close()


class _PeerGone(Exception):
    """A worker is no more."""


class _PeerStuck(Unavailable):
    """A worker does not answer, and may still copy."""


class _Peer:
    """A connection to another GPU's worker; one question at a time.

    Attributes:
        closed: it is of no use any more.
    """

    def __init__(self, path: Path, arena_fd: int, timeout_s: float) -> None:
        """Connect.

        Raises:
            _PeerGone: nobody is there.
        """
        self._lock = threading.Lock()
        self.closed = False
        try:
            self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as exc:
            raise _PeerGone from exc
        self._connection.settimeout(timeout_s)
        try:
            self._connection.connect(os.fspath(path))
            send_descriptor(self._connection, arena_fd)
        except OSError as exc:
            self._connection.close()
            raise _PeerGone from exc

    def ask(self, request: bytes) -> None:
        """Have a copy made.

        Raises:
            _PeerGone: it is no more.
            TensorhubError: it cannot, or does not answer; the reason.
        """
        with self._lock:
            try:
                self._connection.sendall(request)
                code, length = _ANSWER.unpack(self._receive(_ANSWER.size))
                text = self._receive(length)
            except OSError as exc:
                # SAFETY: while nobody else can ask: the answer to this question must never be taken for another's.
                self._close()
                if isinstance(exc, TimeoutError):
                    raise _PeerStuck("the worker of another GPU does not answer; try again") from exc
                raise _PeerGone from exc
        if code:
            raise error_for(code - 1, text.decode("utf-8", "replace"))

    def _receive(self, byte_size: int) -> bytes:
        received = b""
        while len(received) < byte_size:
            piece = self._connection.recv(byte_size - len(received))
            if not piece:
                raise ConnectionResetError
            received += piece
        return received

    def interrupt(self) -> None:
        """Have the question that is being asked fail."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it, when the question that is being asked has been answered."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        self.closed = True
        self._connection.close()
