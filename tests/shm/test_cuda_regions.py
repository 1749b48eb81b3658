"""Memory of GPUs in one process: the contract of the port, and the table of regions, on fake GPUs and on real ones."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tensorhub.devices import DeviceError, DevicePort
from tensorhub.errors import AlreadyExists, InvalidArgument, NotFound
from tensorhub.ipc.cuda_regions import HandleTable
from tensorhub.ipc.regions import RegionTable
from tensorhub.protocol import messages
from tests.shm.device_contract import CONTENT, SIZE, DeviceContract
from tests.shm.fake_device import ENVIRON, GPUS, FakePort, handle_of, to_numpy
from tests.shm.gpu import needs_gpu
from tests.shm.segments import Segment, segment

PAGE = 4096


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> FakePort:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", GPUS[0])
    return FakePort()


class _Made:
    def __init__(self, made: Segment) -> None:
        self._made = made
        self.handle = handle_of(made.key)

    @property
    def content(self) -> bytes:
        return self._made.content


class TestFake(DeviceContract):
    """The fake keeps the contract, so that what it shows of the rest is worth something."""

    @contextmanager
    def allocation(self) -> Iterator[Any]:
        with segment(CONTENT) as made:
            yield _Made(made)

    def to_host(self, array: Any) -> Any:
        return to_numpy(array)


_CUDA_CLIENT = """
import sys, cupy, numpy
content = numpy.frombuffer(bytes(range(256)) * (int(sys.argv[1]) // 256), numpy.uint8).copy()
whole = cupy.cuda.Memory(content.nbytes)  # from the driver and no pool, whose memory is not what its handle stands for
cupy.cuda.runtime.memcpy(whole.ptr, content.ctypes.data, content.nbytes, 1)
print(cupy.cuda.runtime.ipcGetMemHandle(whole.ptr).hex(), flush=True)
for line in sys.stdin:
    cupy.cuda.runtime.memcpy(content.ctypes.data, whole.ptr, content.nbytes, 2)
    print(content.tobytes().hex(), flush=True)
"""


class _CudaClient:
    """A process with memory on the GPU."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CUDA_CLIENT, str(SIZE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.handle = bytes.fromhex(self._process.stdout.readline())

    @property
    def content(self) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return bytes.fromhex(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.mark.gpu
@needs_gpu
class TestCuda(DeviceContract):
    """The same on CUDA, by CuPy."""

    @pytest.fixture
    def port(self) -> DevicePort:
        from tensorhub.ipc.cuda_shm import open_port

        return open_port()

    @contextmanager
    def allocation(self) -> Iterator[Any]:
        client = _CudaClient()
        try:
            yield client
        finally:
            client.close()

    def to_host(self, array: Any) -> Any:
        return array.get()


# --- the table of regions


def _message(name: str, handle: bytes, byte_size: int = SIZE, device: int = 0) -> Any:
    return messages.CudaRegion(name=name, raw_handle=handle, device_id=device, byte_size=byte_size)


@pytest.fixture
def table(port: FakePort) -> RegionTable:
    return RegionTable((), HandleTable(lambda: port), GPUS[0])


def test_a_lease_pins_the_handle(table: RegionTable, port: FakePort) -> None:
    with segment(CONTENT) as made:
        assert table.open_cuda(_message("r", handle_of(made.key))) == GPUS[0]
        with pytest.raises(AlreadyExists):
            table.open_cuda(_message("r", handle_of(made.key)))
        lease = table.lease("r", 256, 64, writable=True)
        assert lease.device is not None
        assert len(lease.view) == 0
        table.close("r")
        with pytest.raises(NotFound):
            table.lease("r", 0, 1, writable=False)
        lease.device.fill(memoryview(b"\1" * 64))
        assert (port.opened, port.closed) == (1, 0)
        lease.release()
        assert (port.opened, port.closed) == (1, 1)
        assert made.content == CONTENT[:256] + b"\1" * 64 + CONTENT[320:]


def test_places_are_checked_as_in_system_memory(table: RegionTable) -> None:
    with segment(CONTENT) as made:
        table.open_cuda(_message("r", handle_of(made.key), 100))
        for offset, byte_size in ((100, 1), (0, 101), (99, 2), (2**64 - 1, 1), (0, 2**64), (0, 0), (-1, 1)):
            with pytest.raises(InvalidArgument):
                table.lease("r", offset, byte_size, writable=False)
        lease = table.lease("r", 99, 1, writable=False)
        assert lease.device is not None
        assert lease.device.to_host() == CONTENT[99:100]
        lease.release()
        table.close("r")


def test_failing_registrations_leave_nothing(table: RegionTable, port: FakePort) -> None:
    with segment(CONTENT) as made:
        wrong = [
            _message("r", b""),
            _message("r", os.urandom(64)),
            _message("r", handle_of(made.key), SIZE + 1),
            _message("r", handle_of(made.key), 0),
            _message("r", handle_of(made.key + "-freed")),
            _message("r", handle_of(made.key, gpu=1)),
        ]
        for turn in range(600):
            with pytest.raises(InvalidArgument):
                table.open_cuda(wrong[turn % len(wrong)])
            table.close("r")
        assert port.opened == port.closed
        assert table.snapshot() == []


def test_memory_of_another_gpu(table: RegionTable) -> None:
    with segment(CONTENT) as made:
        with pytest.raises(InvalidArgument, match="the allocation is on another device"):
            table.open_cuda(_message("r", handle_of(made.key, gpu=1)))
        with pytest.raises(
            InvalidArgument, match=f"^shared memory region 'r' is not on {GPUS[0]}, where the model runs"
        ):
            table.lease("r", 0, 1, writable=False)
        assert table.snapshot() == []
        table.close("r")
        with pytest.raises(NotFound):
            table.lease("r", 0, 1, writable=False)


def test_a_process_without_a_gpu_of_its_own_opens_late(port: FakePort) -> None:
    table = RegionTable((), HandleTable(lambda: port))
    with segment(CONTENT) as made:
        assert table.open_cuda(_message("r", handle_of(made.key))) == ""
        assert port.opened == 0
        lease = table.lease("r", 1, 3, writable=False)
        assert lease.device is not None
        assert lease.device.to_host() == CONTENT[1:4]
        lease.release()
        table.lease("r", 0, 1, writable=False).release()
        assert (port.opened, port.closed) == (1, 0)
        assert [item.name for item in table.snapshot()] == ["r"]
        table.close("r")
        assert (port.opened, port.closed) == (1, 1)


def test_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> DevicePort:
        raise DeviceError("CuPy is not installed")

    handles = HandleTable(refuse)
    assert handles.try_port() is None
    with pytest.raises(DeviceError, match="CuPy is not installed"):
        RegionTable((), handles, GPUS[0]).open_cuda(_message("r", bytes(64)))
    with pytest.raises(InvalidArgument, match=r"GPUs not supported$"):
        RegionTable().open_cuda(_message("c", bytes(64)))
