"""The client's side of shared memory: making, filling, reading and giving back."""

import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tensorhub.client import cuda_memory, shared_memory
from tensorhub.client.cuda_memory import CudaMemory
from tensorhub.client.shared_memory import FileRegion, SharedMemoryError, SharedMemorySocket, SystemRegion
from tensorhub.devices import DeviceError
from tests.shm.segments import open_fds, opened_since


def _file(region: SystemRegion) -> Path:
    return Path("/dev/shm") / region.key[1:]


def test_a_segment_is_ours_alone_and_goes_with_its_block() -> None:
    with SystemRegion.create(10_000) as region:
        path = _file(region)
        assert len(region.key) == len("/tensorhub-") + 32
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.stat().st_blocks * 512 >= 10_000, "the memory is there already"
        with SystemRegion.attach(region.key) as other:
            assert other.byte_size == 10_000
            other.array("INT32", [3], 8)[:] = [1, 2, 3]
        assert path.exists(), "who attaches does not remove"
        assert region.array("INT32", [3], 8).tolist() == [1, 2, 3]
        with pytest.raises(SharedMemoryError, match="there is a segment"):
            SystemRegion.create(10, region.key)
    assert not path.exists()
    region.close()
    with pytest.raises(SharedMemoryError, match="cannot be opened: No such file"):
        SystemRegion.attach(region.key)


def test_mode_and_group() -> None:
    with SystemRegion.create(10, mode=0o660, group=os.getegid()) as region:
        found = _file(region).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, os.getegid())


@pytest.mark.parametrize("key", ["", "/", "//x", "a/b", "..", "/."])
def test_bad_keys(key: str) -> None:
    for attempt in (lambda: SystemRegion.create(10, key), lambda: SystemRegion.attach(key)):
        with pytest.raises(SharedMemoryError, match="is no key"):
            attempt()


def test_more_memory_than_there_is() -> None:
    before = set(os.listdir("/dev/shm"))
    with pytest.raises(SharedMemoryError, match="df -h /dev/shm"):
        SystemRegion.create(1 << 60)
    assert set(os.listdir("/dev/shm")) <= before | {name for name in os.listdir("/dev/shm") if "tensorhub-test" in name}


@pytest.mark.parametrize("byte_size", [-1, 1 << 60, (1 << 63) - 1, 1 << 63, 1 << 64])
def test_no_size_leaves_anything(byte_size: int) -> None:
    before, key = open_fds(), f"/tensorhub-test-{os.getpid()}-size"
    with pytest.raises(SharedMemoryError, match="cannot be made"):
        SystemRegion.create(byte_size, key)
    with pytest.raises(SharedMemoryError, match="cannot be had"):
        FileRegion.create(byte_size)
    assert not Path("/dev/shm", key[1:]).exists()
    assert not opened_since(before)


def test_who_cannot_map_a_segment_keeps_nothing_open() -> None:
    with SystemRegion.create(10) as region:
        os.truncate(_file(region), 0)
        before = open_fds()
        with SystemRegion.attach(region.key) as other:
            assert other.byte_size == 0
        os.truncate(_file(region), (1 << 63) - 4096)
        with pytest.raises(SharedMemoryError, match="cannot be mapped"):
            SystemRegion.attach(region.key)
        assert not opened_since(before)


def test_an_answer_that_comes_too_late_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "s.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen()
        monkeypatch.setattr(shared_memory, "_TIMEOUT_S", 0.05)
        with SharedMemorySocket(path) as sockets:
            server, _ = listener.accept()
            with server:
                with pytest.raises(SharedMemoryError, match="does not answer: timed out"):
                    sockets.unregister("first")
                assert b"first" in server.recv(1_000)
                with suppress(BrokenPipeError):
                    server.send(b'{"ok": true}')
                with pytest.raises(SharedMemoryError, match="the connection is closed; open another"):
                    sockets.unregister("second")


@pytest.mark.parametrize("datatype", ["BOOL", "INT8", "UINT16", "FP16", "FP32", "FP64", "INT64", "BF16"])
def test_arrays_are_views(datatype: str) -> None:
    with FileRegion.create(4096) as region:
        array = region.array(datatype, [2, 3], 64)
        array[...] = 1
        again = region.read(datatype, [2, 3], 64)
        assert np.array_equal(again, array)
        array[0, 0] = 0
        assert again[0, 0] == 0
        assert region.write(np.arange(6, dtype=np.int32), 128) == 24
        assert region.read("INT32", [6], 128).tolist() == list(range(6))


def test_strings() -> None:
    with FileRegion.create(100) as region:
        size = region.write(np.array(["a", "", "text"]), 10)
        assert size == 3 * 4 + 5
        assert region.read("BYTES", [3], 10).tolist() == [b"a", b"", b"text"]
        assert region.read("BYTES", [1, 2], 10, size).tolist() == [[b"a", b""]]
        with pytest.raises(ValueError, match="no 4 elements"):
            region.read("BYTES", [4], 10, size)
        with pytest.raises(ValueError, match="use read"):
            region.array("BYTES", [1])


@pytest.mark.parametrize(("offset", "count"), [(0, 26), (100, 1), (97, 1), (-4, 1), (0, -1), (2**63, 1), (0, 2**62)])
def test_nothing_is_outside(offset: int, count: int) -> None:
    with FileRegion.create(100) as region:
        with pytest.raises(ValueError, match="not inside a region of 100 bytes"):
            region.array("INT32", [count], offset)
        if 0 < count < 100:
            with pytest.raises(ValueError, match="not inside"):
                region.write(np.zeros(count, np.int32), offset)


def test_an_unknown_type() -> None:
    with FileRegion.create(100) as region, pytest.raises(ValueError, match="unknown datatype 'FP8'"):
        region.array("FP8", [1])


def test_a_file_that_grows() -> None:
    with FileRegion.create(0, growable=True) as region:
        assert region.byte_size == 0
        os.ftruncate(region.fd, 100)
        assert region.refresh() == 100
        region.array("UINT8", [100])[:] = 7
        with pytest.raises(PermissionError):
            os.ftruncate(region.fd, 50)
    with FileRegion.create(100) as region, pytest.raises(PermissionError):
        os.ftruncate(region.fd, 200)


def test_no_server_at_the_socket(tmp_path: Path) -> None:
    with pytest.raises(SharedMemoryError, match="--shm-socket="):
        SharedMemorySocket(str(tmp_path / "nothing"))


# --- memory of GPUs


class _Driver:
    """One allocation of 4096 bytes at 65536."""

    def __init__(self, sharable: bool = True, base: int = 65_536) -> None:
        self._sharable = sharable
        self._base = base

    def can_share(self, pointer: int) -> bool:
        return self._sharable

    def extent(self, pointer: int) -> tuple[int, int]:
        if not self._base <= pointer < self._base + 4096:
            raise DeviceError("cuMemGetAddressRange_v2 failed with CUDA error 1")
        return self._base, 4096

    def handle(self, base: int) -> bytes:
        assert base == self._base
        return b"h" * 64

    def device_of(self, pointer: int) -> int:
        return 1


class _Tensor:
    def __init__(self, pointer: int, shape: tuple[int, ...], strides: tuple[int, ...] | None = None) -> None:
        self.__cuda_array_interface__: dict[str, Any] = {
            "data": (pointer, False),
            "shape": shape,
            "typestr": "<f4",
            "strides": strides,
            "version": 3,
        }


def _of(tensor: Any, driver: Any = None) -> CudaMemory:
    return CudaMemory.of(tensor, driver or _Driver())


def test_a_tensor_inside_an_allocation() -> None:
    memory = _of(_Tensor(65_536 + 512, (2, 3), (12, 4)))
    assert (memory.offset, memory.tensor_byte_size, memory.byte_size, memory.device_id) == (512, 24, 536, 1)
    assert memory.base64_handle == b"aGho" * 21 + b"aA=="
    assert _of(_Tensor(65_536, (1024,))).byte_size == 4096


@pytest.mark.parametrize(
    ("tensor", "driver", "text"),
    [
        (np.zeros(3), None, "not in the memory of a GPU"),
        (_Tensor(65_536, (2, 3), (4, 8)), None, "not contiguous"),
        (_Tensor(65_536, (2, 3)), _Driver(sharable=False), "expandable_segments:False"),
        (_Tensor(65_536 + 4000, (100,)), None, "expandable_segments:False"),
        (_Tensor(1_000, (1,)), None, "CUDA error 1"),
    ],
)
def test_what_cannot_be_shared(tensor: Any, driver: Any, text: str) -> None:
    with pytest.raises(SharedMemoryError, match=text):
        _of(tensor, driver)


def test_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensorhub.cuda_driver._LIBRARY", "libcuda-that-is-not-there.so.1")
    with pytest.raises(SharedMemoryError, match="driver cannot be loaded"):
        cuda_memory.CudaMemory.of(_Tensor(65_536, (1,)))
