"""Memory that a client shares with a server on the same host: made, filled, read and given back, without a copy.

    SystemRegion   a segment of POSIX shared memory, which has a key
    FileRegion     an anonymous file, which has none: it is registered over the server's Unix socket (`--shm-socket`)
    OutputRegion   such a file that the server has made for an output: it is taken over the same socket

Works beside tritonclient, and in place of its helpers: `region.key` and `region.byte_size` are what its
`register_system_shared_memory` takes. Memory of GPUs is in `cuda_memory`.

A region is a context manager: at its end the memory is let go, and a segment that was made here is removed. Views of it
stay good as long as they live, the name does not.
"""

import json
import os
import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

from tensorhub.client.regions import Array, FileRegion, Region, SharedMemoryError, SystemRegion

__all__ = [
    "FileRegion",
    "OutputRegion",
    "Region",
    "SharedMemoryError",
    "SharedMemorySocket",
    "SystemRegion",
    "allocate",
]

_TIMEOUT_S = 30.0
_ANSWER_BYTE_SIZE = 65_536
_INT = struct.Struct("i")  # one descriptor in SCM_RIGHTS, unix(7)
_REGION = "shared_memory_region"


class _Output(NamedTuple):
    """What a response says of an output for which the server has made a region."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class OutputRegion(FileRegion):
    """A region that the server has made for an output, exactly as large as that.

    It is released at its end, or when its SharedMemorySocket is closed. The memory is ours: the server does not look at
    it any more, and it stays good as long as a view of it lives, whatever becomes of the server. To have it be an input
    of the next request, register it.

    Attributes:
        name: of the region, as the response has it.
        datatype, shape: of the tensor in it.
    """

    def __init__(self, taken_by: "SharedMemorySocket", output: _Output, fd: int, owner: str = "") -> None:
        """Take over `fd`, which stays the caller's if this raises; see `SharedMemorySocket.take`."""
        super().__init__(fd, os.fstat(fd).st_size)
        self.name = output.name
        self.datatype = output.datatype
        self.shape = output.shape
        self._taken_by = taken_by
        self._owner = owner

    def tensor(self) -> Array:
        """Return the output: a view, or for BYTES a new array of `bytes` objects."""
        return self.read(self.datatype, self.shape)

    def close(self) -> None:
        """Let the memory go, and tell the server; views that are alive keep it."""
        if self.fd >= 0:
            super().close()
            with suppress(SharedMemoryError):  # the server, or the connection, is gone, and with it what it noted of us
                self._taken_by.release(self.name, owner=self._owner)


def allocate(output: Any) -> Any:
    """Have the server make a region for an output, and return that output.

    Args:
        output: an InferRequestedOutput of tritonclient, of either protocol.
    """
    tensor = output._get_tensor()
    if isinstance(tensor, dict):
        tensor["parameters"]["shared_memory_allocate"] = True
    else:
        tensor.parameters["shared_memory_allocate"].bool_param = True
    return output


class SharedMemorySocket:
    """The connection to a server's --shm-socket: regions are registered by their descriptor, and have no key.

    A context manager, and thread-safe. With --shm-reap the regions go with the process that has registered them.
    """

    def __init__(self, path: str) -> None:
        """Connect.

        Raises:
            SharedMemoryError: nobody listens there, or we may not.
        """
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_TIMEOUT_S)
        self._lock = threading.Lock()
        try:
            self._socket.connect(path)
        except OSError as exc:
            self._socket.close()
            raise SharedMemoryError(f"no server at {path}: {exc.strerror}. Start it with --shm-socket={path}") from exc

    def __repr__(self) -> str:
        return f"<SharedMemorySocket {self._socket.fileno()}>"

    def register(self, name: str, region: FileRegion, *, offset: int = 0, owner: str = "") -> None:
        """Register a region, from an offset to its end; then any request may name it.

        Args:
            owner: what the header of --shm-scope=header:NAME says in our requests.

        Raises:
            SharedMemoryError: the server refuses; its text.
        """
        document = {"name": name, "offset": offset, "byte_size": region.byte_size - offset, "owner": owner}
        self._ask({"operation": "register", **document}, [region.fd])

    def unregister(self, name: str, *, owner: str = "") -> None:
        """Let a region go, or with "" all of the owner's.

        Raises:
            SharedMemoryError: the server refuses; its text.
        """
        self._ask({"operation": "unregister", "name": name, "owner": owner}, [])

    def take(self, output: Any, *, owner: str = "") -> OutputRegion:
        """Get the region that the server has made for an output (see `allocate`); the caller closes it.

        Args:
            output: as it is in the response: what `get_output` of a result of tritonclient returns, of either protocol.
            owner: what the header of --shm-scope=header:NAME said in the request.

        Raises:
            SharedMemoryError: the server has made none, or does not have it any more; its text.
        """
        described = _read_output(output)
        fd = self._ask({"operation": "take", "name": described.name, "owner": owner}, [])
        if fd < 0:
            with suppress(SharedMemoryError):
                self.release(described.name, owner=owner)
            raise SharedMemoryError(
                f"no descriptor came with the server's answer about '{described.name}': this process may open no more "
                "files (ulimit -n), or a rule of the system (SELinux, AppArmor) holds it back"
            )
        try:
            return OutputRegion(self, described, fd, owner)
        except OSError as exc:
            os.close(fd)
            with suppress(SharedMemoryError):
                self.release(described.name, owner=owner)
            raise SharedMemoryError(f"'{described.name}' cannot be mapped: {exc.strerror}") from exc

    def try_out(self, *, owner: str = "") -> OutputRegion:
        """Take a region that the server makes for this and no output, to see whether that works; the caller closes it.

        Raises:
            SharedMemoryError: it does not: the server's text, or what is missing here.
        """
        answer, _ = self._answer({"operation": "try", "owner": owner}, [])
        name = str(answer.get("name", ""))
        return self.take({"name": "", "datatype": "UINT8", "shape": [0], "parameters": {_REGION: name}}, owner=owner)

    def release(self, name: str, *, owner: str = "") -> None:
        """Tell the server that a region which it has made is of no use any more, taken or not.

        Raises:
            SharedMemoryError: the server refuses; its text.
        """
        self._ask({"operation": "release", "name": name, "owner": owner}, [])

    def _ask(self, document: dict[str, Any], fds: list[int]) -> int:
        """Ask, and return the descriptor that comes with the answer, or -1."""
        return self._answer(document, fds)[1]

    def _answer(self, document: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], int]:
        """Ask, and return the answer and the descriptor that comes with it, or -1."""
        with self._lock:
            if self._socket.fileno() < 0:
                raise SharedMemoryError("the connection is closed; open another")
            try:
                with suppress(BrokenPipeError):  # who hangs up at once says why before
                    socket.send_fds(self._socket, [json.dumps(document).encode()], fds)
                try:
                    packet, fd = _receive(self._socket)
                except ConnectionResetError:  # our packet was not read, and its answer is behind this
                    packet, fd = _receive(self._socket)
            except BaseException as exc:
                # SAFETY: what comes next over this connection answers this question, and nobody's who asks later.
                self._socket.close()
                if isinstance(exc, OSError):
                    raise SharedMemoryError(f"the server does not answer: {exc}") from exc
                raise
        try:
            answer = json.loads(packet or b"{}")
            if "error" in answer:
                raise SharedMemoryError(str(answer["error"]))
            if not answer:
                raise SharedMemoryError("the server has closed the connection")
        except BaseException as exc:
            if fd >= 0:
                os.close(fd)
            if isinstance(exc, ValueError):
                raise SharedMemoryError(f"the server's answer cannot be read: {exc}") from exc
            raise
        return answer, fd

    def close(self) -> None:
        """Leave; what is registered stays so, and what was taken is released."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _receive(connection: socket.socket) -> tuple[bytes, int]:
    """Receive a packet and the descriptor beside it, close-on-exec; -1 if there is none."""
    # Not socket.recv_fds, which drops the flags: a child started meanwhile must not inherit the descriptor.
    packet, received, _, _ = connection.recvmsg(_ANSWER_BYTE_SIZE, socket.CMSG_LEN(_INT.size), socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in received:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and len(data) == _INT.size:
            return packet, _INT.unpack(data)[0]
    return packet, -1


def _read_output(output: Any) -> _Output:
    """Read an output of a response, JSON or a message."""
    if isinstance(output, dict):
        name, datatype, shape = output["name"], output["datatype"], output["shape"]
        region = output.get("parameters", {}).get(_REGION, "")
    else:
        name, datatype, shape = output.name, output.datatype, output.shape
        region = output.parameters[_REGION].string_param if _REGION in output.parameters else ""
    if not region:
        raise SharedMemoryError(f"the server has made no region for output '{name}'; ask for one with allocate")
    return _Output(region, datatype, tuple(shape))
